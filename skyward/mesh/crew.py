"""The nodes of a pool: launched, joined, watched, lost, let go.

What the membership decides is done here, and what happens to nodes is told to it and to the scheduler.
Everything runs under ownership of the loop, except `_launched`.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from skyward.dispatch.liveness import BEATS, Hearing, Liveness
from skyward.dispatch.load import Load, survey
from skyward.dispatch.membership import Change, Keep, Launch, Membership, Retire
from skyward.dispatch.tasks import total_count
from skyward.errors import ProvisionError
from skyward.mesh.mate import Mate
from skyward.model import NodeSnapshot, NodeState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skyward.mesh.engine import Engine
    from skyward.mesh.launching import Launcher
    from skyward.model import Nodes
    from skyward.providers.base import Launched
    from skyward.transport.links import Link

ATTEMPTS: Final = 3  # nodes in a row that may go before they were ready while a pool opens: one can be an accident

MOMENT: Final = 0.01  # seconds: what has only just not become dead is looked at again then

_logger: Final = logging.getLogger("skyward")


class Crew:
    """All nodes of one engine."""

    def __init__(self, engine: Engine, launcher: Launcher, nodes: Nodes) -> None:
        self._engine = engine
        self._launcher = launcher
        options = engine.options
        self.membership = Membership(nodes, idle_timeout=options.idle_timeout, slots=options.worker.concurrency)
        self._reserving: set[int] = set()  # threads that are about to use all nodes that were ready
        self.mates: dict[int, Mate] = {}  # nodes that have been launched, by rank
        self._by_death_fd: dict[int, Mate] = {}
        self._liveness = Liveness(engine.options.heartbeat)
        self._hearing = Hearing(engine.options.heartbeat)
        self._beats_at = 0.0

    # --- joining ---------------------------------------------------------------------------

    def start(self) -> None:
        """Launch the first nodes."""
        now = time.monotonic()
        # A heartbeat from now: with the first look it would reach a node that has been quick, and no other.
        self._beats_at = now + self._engine.options.heartbeat
        self._deal()
        self._change(self.membership.on_open(now))

    def _change(self, changes: Iterable[Change]) -> None:
        if self._engine.closing:
            return
        for change in changes:
            match change:
                case Launch(rank):
                    self._launch(rank)
                case Retire(rank):
                    self._engine.perform(self._engine.scheduler.on_node_retiring(rank))
                case Keep(rank):
                    self._engine.talk.roster()  # it was missing in those that were sent meanwhile
                    self._engine.perform(self._engine.scheduler.on_node_retiring(rank, stays=True))
        self.retire_idle()

    def _deal(self) -> None:
        """Have calls go to the lower ranks first where the higher ones are to become idle."""
        membership = self.membership
        self._engine.scheduler.assignment.core = membership.spec.least if membership.is_elastic else None

    def _launch(self, rank: int) -> None:
        self._launcher.launch(lambda launched, error: self._launched(rank, launched, error))

    def _launched(self, rank: int, launched: Launched | None, error: BaseException | None) -> None:
        """Report a launch; called by its thread."""
        self._engine.loop.post(lambda: self._join(rank, launched, error))

    def _join(self, rank: int, launched: Launched | None, error: BaseException | None) -> None:
        engine = self._engine
        if engine.closing:
            return  # the provider ends all that it has launched
        if launched is None:
            self._not_launched(rank, error)
            return
        try:
            link = engine.hub.connect(launched.endpoint, rank, launched.public_key)
        except OSError as lack:
            self._launcher.terminate(launched)
            self._not_launched(rank, ProvisionError(f"cannot link to node {rank}: {lack}"))
            return
        mate = self.mates[rank] = Mate(rank, launched)
        mate.link = link
        if launched.death_fd is not None:
            self._by_death_fd[launched.death_fd] = mate
            engine.hub.watch(launched.death_fd)
        engine.greeting.hello(mate, mate.link)
        self._liveness.heard(rank)

    def _not_launched(self, rank: int, error: BaseException | None) -> None:
        # The first that is missed ends an opening: a provider that cannot start a node now will not in a moment.
        if self.membership.can_spare(rank) or not self._engine.opened(error):
            self._change(self.membership.on_launch_failed(rank, str(error), time.monotonic()))
            self._try_again()

    def _try_again(self) -> None:
        """Launch what failed as soon as its pause is over: a heartbeat may be longer."""
        due = self.membership.next_launch()
        if due is not None:
            pause = max(0.0, due - time.monotonic())
            self._engine.call_later(pause, lambda: self._change(self.membership.on_tick(time.monotonic())))

    def ready(self, mate: Mate, slots: int) -> None:
        """A node has said Welcome."""
        engine, membership = self._engine, self.membership
        mate.slots = slots
        mate.since = time.monotonic()
        membership.on_ready(mate.rank, mate.since)
        engine.tick_soon()  # its connections are looked at from now on, and the next heartbeat may be far
        if membership.states[mate.rank] is not NodeState.READY:
            self.retire_idle()
            return
        engine.talk.roster()
        engine.perform(engine.scheduler.on_node_ready(mate.rank, slots))
        if membership.ready() >= membership.spec.least:
            engine.opened(None)

    # --- going -----------------------------------------------------------------------------

    def lose(self, mate: Mate, reason: str) -> None:
        """A node is gone. Reported twice, only the first counts."""
        if self.mates.get(mate.rank) is not mate:
            return
        del self.mates[mate.rank]
        self.forget(mate)
        engine = self._engine
        engine.cancel(engine.nesting.node_lost(mate.rank))
        engine.perform(engine.scheduler.on_node_lost(mate.rank, reason))
        self._launcher.terminate(mate.launched)
        cause = f"node {mate.rank}: {reason}"
        self._change(self.membership.on_lost(mate.rank, cause, time.monotonic()))
        self._try_again()
        if self.membership.failures >= ATTEMPTS:
            engine.opened(ProvisionError(f"no node lives long enough to take part; {cause}"))
        if not engine.closing:
            engine.talk.roster()
            engine.after_settling()

    def refused(self, mate: Mate, error: Exception) -> None:
        """A node will not talk to us."""
        if not self._engine.opened(error):
            self.lose(mate, str(error))

    def died(self, fd: int) -> None:
        """The process behind a descriptor has ended."""
        mate = self._by_death_fd.get(fd)
        if mate is None:
            return
        words = self._launcher.provider.log_tail(mate.launched)
        self.lose(mate, "its process died" + (f"; its log ends with: {words[-1]}" if words else ""))

    def forget(self, mate: Mate) -> None:
        """Close what joins us to a node."""
        hub = self._engine.hub
        if mate.link is not None:
            hub.disconnect(mate.link)
            mate.link = None
        self.forget_control(mate)
        self._engine.reach.forget(mate)
        death_fd = mate.launched.death_fd
        if death_fd is not None and self._by_death_fd.pop(death_fd, None) is not None:
            hub.unwatch(death_fd)
        self._liveness.forget(mate.rank)
        self._hearing.forget(mate.rank)
        if self._engine.sharing is not None:
            self._engine.sharing.forget(mate.rank)

    def forget_control(self, mate: Mate) -> None:
        """Do without a second link to a node."""
        if mate.control is not None:
            self._engine.hub.disconnect(mate.control)
            mate.control = None

    def renew_control(self, mate: Mate) -> None:
        """Open another second link to a node, at once."""
        self.forget_control(mate)
        self._open_control(mate)

    def retire_idle(self) -> None:
        """Let those go that shall go and have nothing to do."""
        states = self.membership.states
        for rank in list(states):
            mate = self.mates.get(rank)
            if states.get(rank) is NodeState.DRAINING and mate is not None:
                node = self._engine.scheduler.nodes.get(rank)
                if node is None or not (node.in_flight or node.pinned):
                    self._engine.talk.goodbye(mate)
                    self.lose(mate, "it was let go")

    def resize(self, nodes: Nodes) -> None:
        """Aim at other numbers of nodes."""
        load = self._load()
        idle = load.served.keys() - load.busy
        changes = self.membership.on_resize(nodes, idle, time.monotonic())
        self._deal()
        self._change(changes)

    def _load(self) -> Load:
        """Return what there is to do. Nodes whose memory holds results that somebody may read are needed."""
        engine = self._engine
        nodes = engine.scheduler.nodes
        if self._reserving:
            return survey(engine.scheduler, nodes)
        return survey(engine.scheduler, [rank for rank in nodes if engine.sharing and engine.sharing.lends(rank)])

    def look(self, now: float) -> None:
        """See if there are as many nodes as there should be."""
        membership = self.membership
        if not membership.is_elastic:
            self._change(membership.on_tick(now))
            return
        load = self._load()
        changes = membership.on_look(load, now)
        for change in changes:
            match change:
                case Launch(rank):
                    _logger.info(
                        "node %d is started: %d calls wait, and %d nodes are ready",
                        rank,
                        load.waiting,
                        len(load.served),
                    )
                case Keep(rank):
                    _logger.info("node %d stays: %d calls wait", rank, load.waiting)
                case Retire(rank):
                    _logger.info("node %d is let go: it was idle for %g s", rank, self._engine.options.idle_timeout)
        self._change(changes)

    def wake(self) -> None:
        """Calls wait: a pool without nodes starts one."""
        if not self.mates and self.membership.target == 0:
            _logger.info("node 0 is started: calls wait, and the pool sleeps")
            self._change(self.membership.on_wake(time.monotonic()))

    def close(self) -> None:
        """End every node, and return when nothing is left. Not under ownership: it blocks."""
        self._launcher.close()

    # --- any thread ------------------------------------------------------------------------

    def reserve(self) -> tuple[int, ...]:
        """Return the ready ranks; none of these nodes is let go for idleness until the thread calls `release`."""
        found: list[tuple[int, ...]] = []
        thread = threading.get_ident()

        def reserve() -> None:
            self._reserving.add(thread)
            found.append(self._engine.scheduler.ready_ranks())

        self._engine.loop.run(reserve)
        return found[0] if found else ()

    def release(self) -> None:
        """Do not count on the reserved nodes any more."""
        if self._reserving:
            thread = threading.get_ident()
            self._engine.loop.post(lambda: self._reserving.discard(thread))

    def room(self) -> int:
        """Return to how many nodes the pool may grow by itself; 0 if it does not."""
        return self.membership.spec.most if self.membership.is_elastic else 0

    def width(self) -> int:
        """Return how many tasks the narrowest ready node runs at once; 0 if none is ready."""
        mates = list(self.mates.values())  # in one step of the interpreter
        return min((mate.slots for mate in mates if mate.slots), default=0)

    # --- time ------------------------------------------------------------------------------

    def heard(self, rank: int) -> None:
        """A node said something."""
        self._liveness.heard(rank, time.monotonic())

    def echoed(self, mate: Mate, echo: float) -> None:
        """A pulse says which of our beats was the last to be heard."""
        if echo > mate.echo:
            mate.echo = echo
            self.hears(mate)

    def welcomed(self, mate: Mate, link: Link) -> None:
        """A node has answered our hello."""
        self._engine.reach.answers(mate, link)
        self.hears(mate)  # beats that were under way on a connection before this one are lost

    def hears(self, mate: Mate) -> None:
        """A node has shown that it hears us."""
        self._hearing.heard(mate.rank, time.monotonic())

    def tick(self, now: float) -> None:
        """Look at connections, and for nodes that have become silent or deaf; beat if a heartbeat has passed."""
        self._engine.reach.look(now)
        time_up = f"for {BEATS * self._engine.options.heartbeat:g} s"
        for rank in self._liveness.watched(now):
            if (mate := self.mates.get(rank)) is not None:
                self.lose(mate, f"it was silent {time_up}")
        controls = {mate.rank: mate.control for mate in self.mates.values() if mate.control and mate.control.ready}
        for rank in self._hearing.deaf(now, {rank: control.flow for rank, control in controls.items()}):
            if (mate := self.mates.get(rank)) is not None:
                self.lose(mate, f"it has heard nothing of us {time_up}")
        if now >= self._beats_at:
            self._beat(now)

    def _beat(self, now: float) -> None:
        """Show the nodes that we live, and see what else has become due."""
        engine, membership = self._engine, self.membership
        self._beats_at = now + engine.options.heartbeat
        for mate in self.mates.values():
            engine.talk.beat(mate, now)
            self._open_control(mate)
        self.look(now)
        if engine.scheduler.queue or engine.scheduler.head:
            self.wake()
        engine.perform(engine.scheduler.on_tick(now, membership.causes, waking=membership.waking))
        self.retire_idle()

    def _open_control(self, mate: Mate) -> None:
        """Give a node that takes part its second link: now, because while the pool opened it would have cost time."""
        if mate.since and mate.control is None and mate.link is not None:
            engine, launched = self._engine, mate.launched
            try:
                control = engine.hub.connect(launched.endpoint, mate.rank, launched.public_key, urgent=True)
            except OSError:  # no descriptors: until there are, heartbeats travel with the data
                return
            mate.control = control
            engine.greeting.hello(mate, control)

    def next_tick(self, now: float) -> float:
        """Return when `tick` must be called again: for a heartbeat, a look, or when a silent node becomes dead."""
        due = min(self._beats_at, self._engine.reach.next_look(now))
        deaths = (self._liveness.next_death(), self._hearing.next_death())
        return min([due, *(max(death, now + MOMENT) for death in deaths if death is not None)])

    # --- questions -------------------------------------------------------------------------

    def of(self, link: Link) -> Mate | None:
        """Return the node at the other end, if the link is still in use."""
        mate = self.mates.get(link.rank)
        return mate if mate is not None and (link is mate.link or link is mate.control) else None

    def epoch(self, rank: int) -> int | None:
        """Return the epoch of a node that is linked."""
        mate = self.mates.get(rank)
        return mate.link.epoch if mate is not None and mate.link is not None else None

    def ready_mates(self) -> list[Mate]:
        """Return the nodes that take part, by rank."""
        states = self.membership.states
        return [mate for rank, mate in sorted(self.mates.items()) if states.get(rank) is NodeState.READY and mate.since]

    def is_settled(self) -> bool:
        """Return whether no node is coming or going."""
        states = list(self.membership.states.values())
        return states.count(NodeState.READY) == len(states)

    def snapshot(self, now: float) -> tuple[NodeSnapshot, ...]:
        """Return how the nodes are."""
        nodes: list[NodeSnapshot] = []
        for rank, state in sorted(self.membership.states.items()):
            mate = self.mates.get(rank)
            held = self._engine.scheduler.nodes.get(rank)
            in_flight = total_count(list(held.in_flight.values())) if held else 0
            if mate is None:
                nodes.append(NodeSnapshot(rank, state, "", None, 0, in_flight, 0.0))
                continue
            launched, age = mate.launched, now - mate.since if mate.since else 0.0
            nodes.append(NodeSnapshot(rank, state, launched.endpoint, launched.pid, mate.slots, in_flight, age))
        return tuple(nodes)
