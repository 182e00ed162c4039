"""The client's side of a mesh: links, scheduler, membership and provider, driven by one loop.

Everything here runs under ownership of the loop, except `open`, `close` and what says so. The
engine performs what the pure parts decide: it decides nothing about tasks or nodes by itself.
"""

from __future__ import annotations

import heapq
import itertools
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import zmq

from skyward.dispatch.liveness import Liveness
from skyward.dispatch.membership import Change, Launch, Membership, Retire
from skyward.dispatch.scheduler import Scheduler
from skyward.dispatch.tasks import SETTLED, Absent, Action, Cancelled, Lost, NoNodes, Send, Settle, Stop
from skyward.errors import AbsentRankError, NodeLostError, NoNodesError, PoolClosedError, SkywardError
from skyward.launching import Launcher
from skyward.members import Mate
from skyward.model import NodeSnapshot, NodeState, PoolSnapshot
from skyward.nesting import Nesting
from skyward.console import Console
from skyward.helpers import Hand
from skyward.results import CancelledError, Future
from skyward.talk import Talk
from skyward.transport.links import Link
from skyward.transport.loop import Loop
from skyward.waiting import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skyward.config import Options
    from skyward.dispatch.tasks import Task, Verdict
    from skyward.model import Nodes
    from skyward.providers.base import Launched, LaunchSpec, Provider
    from skyward.results import Outcome
    from skyward.wire.frames import Buffer
    from skyward.wire.functions import FunctionBlob
    from skyward.wire.messages import Output

CLOSE_WAIT = 5.0  # seconds that callbacks and output may take at close
GOODBYE = 200  # milliseconds the last messages may take at close


class Engine:
    """Drives one pool; see the module."""

    def __init__(self, options: Options, provider: Provider, launch_spec: LaunchSpec, nodes: Nodes) -> None:
        self.options = options
        self.session = os.urandom(16)
        self.pid = os.getpid()
        self.head_port = free_port()
        self.callbacks = Hand("skyward-callbacks")
        self.console = Console(enabled=options.console)
        self.scheduler = Scheduler(options.node_wait)
        self.membership = Membership(nodes)
        self.liveness = Liveness(options.heartbeat)
        self.ids = itertools.count(1)
        self.nesting = Nesting(lambda: next(self.ids))
        self.blobs: dict[bytes, FunctionBlob] = {}  # all code this pool has sent or been sent
        self.mates: dict[int, Mate] = {}  # nodes that have been launched, by rank
        self.outstanding = 0  # bytes of arguments of unsettled tasks
        self.failed = 0
        self.loop = Loop(self, f"skyward-pool-{self.session[:3].hex()}")
        self.launcher = Launcher(provider, launch_spec)
        self.talk = Talk(self)
        self.opening: Waiter | None = None
        self.open_error: BaseException | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._poller.register(self.loop.wake_fd, zmq.POLLIN)
        self._by_socket: dict[Any, Mate] = {}
        self._by_death_fd: dict[int, Mate] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_ids = itertools.count()
        self._next_tick = 0.0
        self._idle_waiters: list[Waiter] = []
        self._room_waiters: list[tuple[int, Waiter]] = []
        self._closing = False
        self._closed = False

    # --- life (any thread) -----------------------------------------------------------------

    def open(self) -> None:
        """Launch nodes and return when ``min`` of them are ready; raise what prevents it."""
        self.opening = Waiter()
        if self.membership.spec.least == 0:
            self.opening.finish()
        self.loop.start()
        self.loop.wait(self.opening, start=lambda: self._change(self.membership.on_open(time.monotonic())))
        if self.open_error is not None:
            raise self.open_error

    def wait_idle(self) -> None:
        """Return when no task is unsettled."""
        waiter = Waiter()

        def start() -> None:
            if self.scheduler.is_idle():
                waiter.finish()
            else:
                self._idle_waiters.append(waiter)

        self.loop.wait(waiter, start=start)

    def close(self) -> None:
        """Cancel what is unsettled and leave nothing behind."""
        self.loop.run(self._say_goodbye)
        self.loop.close(timeout=10.0)
        for mate in list(self.mates.values()):
            self._forget_link(mate, linger=GOODBYE)
        self._context.term()
        self.launcher.close()
        self._closed = True
        self.loop.release_fd()
        self.callbacks.close(timeout=CLOSE_WAIT)
        self.console.close(timeout=CLOSE_WAIT)

    def _say_goodbye(self) -> None:
        self._closing = True
        self.perform(self.scheduler.on_cancel_all())
        for mate in self.mates.values():
            self.talk.goodbye(mate)
        for waiter in [*self._idle_waiters, *(waiter for _, waiter in self._room_waiters)]:
            waiter.finish()
        self._timers.clear()

    # --- what the loop calls ---------------------------------------------------------------

    def turn(self, timeout: float) -> None:
        """Poll once and handle what came."""
        if self._closed:
            return
        # Rounded up: waking a little late is cheaper than polling again a little early.
        for source, _ in self._poller.poll(int(timeout * 1000 + 0.999)):
            mate = self._by_socket.get(source)
            if mate is not None:
                self._read(mate)
            elif source == self.loop.wake_fd:
                os.eventfd_read(self.loop.wake_fd)
            elif (mate := self._by_death_fd.get(source)) is not None:
                self.lose(mate, "its process died")
        for rank, message, body in self.nesting.flush(self._epoch):
            self.talk.send(self.mates[rank], message, body)
        now = time.monotonic()
        if now >= self._next_tick:
            self._tick(now)
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def next_deadline(self) -> float:
        """Return when `turn` must be called again."""
        return min(self._next_tick, self._timers[0][0]) if self._timers else self._next_tick

    def is_busy(self) -> bool:
        """Return whether anything is under way."""
        if self._timers or self._idle_waiters or self._room_waiters or not self.scheduler.is_idle():
            return True
        return any(state is not NodeState.READY for state in self.membership.states.values())

    def _read(self, mate: Mate) -> None:
        link = mate.link
        assert link is not None
        if link.wants_to_write:
            link.flush()
            self.watch(mate)
        for frames in link.receive():
            self.liveness.heard(mate.rank)
            try:
                self.talk.handle(mate, frames)
            except SkywardError as error:
                self.lose(mate, f"it sent a message that makes no sense: {error}")
            if mate.link is not link:
                return

    def _tick(self, now: float) -> None:
        self._next_tick = now + self.options.heartbeat
        for rank in self.liveness.watched(now):
            if (mate := self.mates.get(rank)) is not None:
                self.lose(mate, f"it was silent for {3 * self.options.heartbeat:g} s")
        for mate in self.mates.values():
            self.talk.beat(mate, now)
        if self.scheduler.waiting() and not self.mates:
            self._change(self.membership.on_wake(now))
        self._change(self.membership.on_tick(now))
        self.perform(self.scheduler.on_tick(now, self.membership.causes))
        self._retire_idle()

    # --- tasks -----------------------------------------------------------------------------

    def submit(self, tasks: Sequence[Task], *, urgent: bool = False) -> None:
        """Take in tasks."""
        if self._closing:
            self._deliver(tasks, lambda task: PoolClosedError("the pool is closed"))
            return
        for task in tasks:
            self.outstanding += task.size
        if not self.mates and self.membership.target == 0:
            self._change(self.membership.on_wake(time.monotonic()))
        self.perform(self.scheduler.on_submit(tasks, urgent=urgent))

    def cancel(self, tasks: Iterable[Task]) -> None:
        """Cancel the unsettled ones."""
        self.perform(self.scheduler.on_cancel(tasks))

    def settled(self, task: Task, outcome: Outcome) -> None:
        """Hand a task's outcome to whom it belongs, once."""
        self.outstanding -= task.size
        task.data, task.buffers = b"", ()
        sink, task.sink = task.sink, None
        sink.deliver(task, outcome)

    def ended(self, rank: int, id: int) -> None:
        """A task has ended on its node: what it had submitted and not awaited is not wanted."""
        if orphans := self.nesting.parent_ended(rank, id):
            self.cancel(orphans)

    def started(self, rank: int, ids: Iterable[int]) -> None:
        """A node runs these tasks now."""
        node = self.scheduler.nodes.get(rank)
        if node is not None:
            for id in ids:
                task = node.in_flight.get(id)
                if task is not None and isinstance(task.sink, Future):
                    task.sink.mark_running()

    def show(self, rank: int, message: Output, lines: Sequence[Buffer]) -> None:
        """Show lines that a task printed."""
        self.console.show(rank, message, lines)

    def after_settling(self) -> None:
        """See what may go on now that tasks have ended; called once per batch."""
        self.perform(self.scheduler.dispatch())
        if self._room_waiters:
            self._room_waiters = [pair for pair in self._room_waiters if not self._has_room(*pair)]
        if self._idle_waiters and self.scheduler.is_idle():
            waiters, self._idle_waiters = self._idle_waiters, []
            for waiter in waiters:
                waiter.finish()

    def wait_for_room(self, size: int) -> None:
        """Return when ``size`` more bytes fit the window (any thread)."""
        if self.outstanding + size <= self.options.window_size:
            return
        waiter = Waiter()

        def start() -> None:
            if not self._has_room(size, waiter):
                self._room_waiters.append((size, waiter))

        self.loop.wait(waiter, start=start)

    def _has_room(self, size: int, waiter: Waiter) -> bool:
        # An empty window takes anything: what alone exceeds it must still be able to run.
        if self.outstanding and self.outstanding + size > self.options.window_size:
            return False
        waiter.finish()
        return True

    def call_later(self, delay: float, command: Callable[[], None]) -> None:
        """Run ``command`` after ``delay`` seconds."""
        entry = (time.monotonic() + delay, next(self._timer_ids), command)
        heapq.heappush(self._timers, entry)

    def perform(self, actions: Iterable[Action]) -> None:
        """Do what the scheduler has decided."""
        for action in actions:
            match action:
                case Send(rank, tasks):
                    self.talk.tasks(self.mates[rank], tasks)
                case Stop(rank, tasks, running):
                    self.talk.cancel(self.mates[rank], [task.id for task in tasks], running=running)
                case Settle(tasks, verdict):
                    self._deliver(tasks, lambda task, verdict=verdict: self._reason(task, verdict))

    def _deliver(self, tasks: Sequence[Task], reason: Callable[[Task], BaseException]) -> None:
        for task in tasks:
            task.state = SETTLED
            self.failed += 1
            self.settled(task, reason(task))
        if tasks and not self._closing:
            self.loop.post(self.after_settling)

    def _reason(self, task: Task, verdict: Verdict) -> BaseException:
        match verdict:
            case Lost(rank, reason):
                return NodeLostError(rank, reason, max(1, task.losses), task.id)
            case Absent(rank, present):
                return AbsentRankError(rank, present)
            case NoNodes(waited, causes):
                return NoNodesError(waited, causes)
            case Cancelled():
                return PoolClosedError("the pool was closed") if self._closing else CancelledError()
            case _:
                raise AssertionError(verdict)

    # --- nodes -----------------------------------------------------------------------------

    def _change(self, changes: Iterable[Change]) -> None:
        if self._closing:
            return
        for change in changes:
            match change:
                case Launch(rank):
                    self.launcher.launch(lambda launched, error, rank=rank: self._launched(rank, launched, error))
                case Retire(rank):
                    self.perform(self.scheduler.on_node_draining(rank))
        self._retire_idle()

    def _launched(self, rank: int, launched: Launched | None, error: BaseException | None) -> None:
        """Report a launch; called by its thread."""
        self.loop.post(lambda: self._join(rank, launched, error))

    def _join(self, rank: int, launched: Launched | None, error: BaseException | None) -> None:
        if launched is None:
            if self.opening is not None and not self.opening.done:
                self.open_error = error
                self.opening.finish()
            else:
                self._change(self.membership.on_launch_failed(rank, str(error), time.monotonic()))
            return
        mate = Mate(rank, launched)
        if self._closing:
            return  # the provider ends all it has launched
        self.mates[rank] = mate
        mate.link = Link(self._context, launched.endpoint, rank)
        self._by_socket[mate.link.socket] = mate
        if launched.death_fd is not None:
            self._by_death_fd[launched.death_fd] = mate
            self._poller.register(launched.death_fd, zmq.POLLIN)
        self.talk.hello(mate)
        self.watch(mate)

    def node_ready(self, mate: Mate, slots: int) -> None:
        """A node has said Welcome."""
        self.membership.on_ready(mate.rank)
        self.liveness.heard(mate.rank)
        mate.slots = slots
        mate.since = time.monotonic()
        if self.membership.states[mate.rank] is not NodeState.READY:
            self._retire_idle()
            return
        self.talk.roster()
        self.perform(self.scheduler.on_node_ready(mate.rank, slots))
        opening = self.opening
        if opening is not None and not opening.done and self.membership.ready() >= self.membership.spec.least:
            opening.finish()

    def lose(self, mate: Mate, reason: str) -> None:
        """A node is gone."""
        if self.mates.get(mate.rank) is not mate:
            return  # reported twice: the first report has done all
        del self.mates[mate.rank]
        self._forget_link(mate)
        self.liveness.forget(mate.rank)
        self.cancel(self.nesting.node_lost(mate.rank))
        self.perform(self.scheduler.on_node_lost(mate.rank, reason))
        self.launcher.terminate(mate.launched)
        self._change(self.membership.on_lost(mate.rank, f"node {mate.rank}: {reason}", time.monotonic()))
        if not self._closing:
            self.talk.roster()
            self.after_settling()

    def refused(self, mate: Mate, error: SkywardError) -> None:
        """A node will not talk to us."""
        if self.opening is not None and not self.opening.done:
            self.open_error = error
            self.opening.finish()
        self.lose(mate, str(error))

    def resize(self, nodes: Nodes) -> None:
        """Aim at other numbers of nodes."""
        idle = {rank for rank, node in self.scheduler.nodes.items() if not node.in_flight and not node.pinned}
        self._change(self.membership.on_resize(nodes, idle, time.monotonic()))

    def _retire_idle(self) -> None:
        for rank, state in list(self.membership.states.items()):
            if state is NodeState.DRAINING:
                node = self.scheduler.nodes.get(rank)
                mate = self.mates.get(rank)
                if mate is not None and (node is None or not node.in_flight):
                    self.talk.goodbye(mate)
                    self.lose(mate, "it was let go")

    def _forget_link(self, mate: Mate, linger: int = 0) -> None:
        if mate.link is not None:
            self._by_socket.pop(mate.link.socket, None)
            self._poller.unregister(mate.link.socket)
            mate.link.close(linger)
            mate.link = None
        death_fd = mate.launched.death_fd
        if death_fd is not None and self._by_death_fd.pop(death_fd, None) is not None:
            self._poller.unregister(death_fd)

    def watch(self, mate: Mate) -> None:
        """Poll the link for writability while it has something to write."""
        if mate.link is not None:
            flags = zmq.POLLIN | zmq.POLLOUT if mate.link.wants_to_write else zmq.POLLIN
            self._poller.modify(mate.link.socket, flags)

    def _epoch(self, rank: int) -> int | None:
        mate = self.mates.get(rank)
        return mate.link.epoch if mate is not None and mate.link is not None else None

    # --- questions -------------------------------------------------------------------------

    def snapshot(self) -> PoolSnapshot:
        """Return how things stand."""
        now = time.monotonic()
        nodes: list[NodeSnapshot] = []
        for rank, state in sorted(self.membership.states.items()):
            mate = self.mates.get(rank)
            held = self.scheduler.nodes.get(rank)
            nodes.append(
                NodeSnapshot(
                    rank,
                    state,
                    mate.launched.endpoint if mate else "",
                    (mate.launched.pid or 0) if mate else 0,
                    mate.slots if mate else 0,
                    len(held.in_flight) if held else 0,
                    now - mate.since if mate and mate.since else 0.0,
                )
            )
        scheduler = self.scheduler
        return PoolSnapshot(
            tuple(nodes), scheduler.waiting(), scheduler.in_flight(), scheduler.done, self.failed,
            scheduler.reruns, active=not self._closing,
        )  # fmt: skip


def free_port() -> int:
    """Return a TCP port that was free on this machine a moment ago, for what tasks set up on the head."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
