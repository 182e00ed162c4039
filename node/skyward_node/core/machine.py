"""The daemon's decisions: a batch of events goes in, a list of actions comes out.

One call of `Core.handle` is one turn of the daemon. Within a turn, events are taken in order; then
what has come to an end is reported, once per session; then free slots get work. Handling the same
events at the same moments on a new core gives the same actions.

PURE: no sockets, pipes, processes, files or clock. Time is a number of seconds that only grows.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ProtocolError
from skyward.wire.bundles import Interim
from skyward.wire.clients import Admit
from skyward.wire.lone import Call, Reply
from skyward.wire.messages import (
    Answer,
    Beat,
    Bye,
    Cancel,
    Credit,
    Drain,
    Function,
    Hello,
    Items,
    Module,
    Output,
    Parcels,
    Part,
    Progress,
    Release,
    Results,
    Returned,
    Revoke,
    Roster,
    Submit,
    Tasks,
)
from skyward_node.core import admission, assign, crew, draining, intake, nesting, outcomes, stopping, streaming
from skyward_node.core.actions import (
    Admitted,
    Blocked,
    Bury,
    Crowded,
    Exit,
    Forget,
    Gone,
    Incoming,
    Listed,
    Nonsense,
    Shutdown,
    Unguarded,
)
from skyward_node.core.lone import LOOK, Shortcut
from skyward_node.core.node import GRACE, LATE, LEAVE, PARTIAL, TIMEOUT, Identity, Limits, Node, batches
from skyward_node.executors.events import Exited, OutputEnded, Printed, Received, Spawned, TemplateLost
from skyward_node.pipe_messages import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.wire.frames import Buffer
    from skyward_node.core.actions import Action, Event
    from skyward_node.core.sessions import Session
    from skyward_node.core.workers import Worker

TRIM: Final = 1.0  # seconds between looks for workers that idle
QUIET: Final = 1.0  # seconds the core may be left alone when nothing is due


class Core:
    """Decides for one daemon."""

    def __init__(self, limits: Limits, identity: Identity, now: float) -> None:
        self.node = Node(limits, identity)
        self.node.now = self.node.looked = now
        self.shortcut = Shortcut(self.node)  # the short way of lone tasks, which may be taken until the next deadline
        self._trim_at = now + TRIM
        self._due = now  # moment at which something is to be done whether or not anything happens
        self._handlers: dict[type, Callable[[Any], None]] = {
            Incoming: self._on_incoming,
            Received: self._on_received,
            Spawned: self._on_spawned,
            Printed: self._on_printed,
            OutputEnded: self._on_output_ended,
            Exited: self._on_exited,
            Nonsense: self._on_nonsense,
            Gone: self._on_gone,
            Blocked: self._on_blocked,
            Admitted: self._on_admitted,
            Crowded: self._on_crowded,
            Unguarded: self._on_unguarded,
            Listed: self._on_listed,
            Shutdown: self._on_shutdown,
            TemplateLost: self._on_template_lost,
        }

    def start(self) -> list[Action]:
        """Start the workers, before anyone has asked for them."""
        crew.replenish(self.node)
        return self._take()

    def handle(self, events: Sequence[Event], now: float) -> list[Action]:
        """Take in what has happened; return what is to be done, in order. Without events: time has passed."""
        node, shortcut = self.node, self.shortcut
        if shortcut.is_open:
            shortcut.close()
        node.now = now
        if now - node.looked >= LOOK:
            shortcut.look(now)
        handlers = self._handlers
        for event in events:
            handlers[type(event)](event)
        if node.dead_starts and now >= node.spawn_after and node.sessions:
            crew.replenish(node)
        if node.next_timer() <= now:
            for kind, subject in node.due():
                self._on_time(kind, subject)
        self._report()
        assign.dispatch(node)
        nesting.announce(node)
        if now >= self._trim_at:
            self._trim_at = now + TRIM
            crew.trim(node)
        self._see_off()
        self._due = self._deadline()
        return self._take()

    def next_deadline(self) -> float:
        """Return the moment at which `handle` must be called, whether or not anything has happened."""
        return self._due

    def _deadline(self) -> float:
        node = self.node
        moment = min(node.now + QUIET, node.next_timer())
        for session in node.sessions.values():
            moment = min(moment, session.next_pulse, session.draining)
        moment = min(moment, node.parts_at)
        return min(moment, node.spawn_after) if node.spawn_after > node.now else moment

    def _take(self) -> list[Action]:
        actions, self.node.actions = self.node.actions, []
        return actions

    def _report(self) -> None:
        """Tell each client what has become of its tasks in this turn."""
        node = self.node
        for session in node.sessions.values():
            if session.outbox.fresh:
                for message, body in session.outbox.flush(node.epoch):
                    node.say(session, message, body)
            if session.started:
                started, session.started = session.started, []
                for some in batches(started):
                    node.say(session, Progress(node.epoch, [], some))
            if session.returned:
                returned, session.returned = session.returned, []
                for some in batches(returned):
                    node.say(session, Returned(node.epoch, some))
            outbox = session.outbox
            if outbox.spent:
                spent, outbox.spent = outbox.spent, []
                intake.on_release(node, session, spent)
            if session.graves:
                node.actions += [Bury(worker) for worker in session.graves.settle(outbox.seq, outbox.acked)]

    def _see_off(self) -> None:
        """Show clients that we live whose turn it is, and end what has had its time."""
        node = self.node
        drained = node.draining
        for session in node.sessions.values():
            if node.now >= session.next_pulse:
                admission.pulse(node, session)
            drained |= session.draining < inf
        if drained:
            draining.check(node)

    # --- connections -------------------------------------------------------------------------

    def _on_incoming(self, event: Incoming) -> None:
        node = self.node
        message = event.message
        session = node.peers.get(event.peer)
        if session is None and type(message) is Bye:
            session = admission.left_by(node, event.peer)
        try:
            if type(message) is Hello:
                admission.on_hello(node, event.peer, message, event.user)
            elif event.peer in node.parting:
                if type(message) is Bye:  # the answer to ours
                    node.parting.remove(event.peer)
            elif session is None:
                admission.refuse(node, event.peer, "session", "this connection has no session here; say hello first")
            elif getattr(message, "epoch", 0) != node.epoch:
                admission.refuse(node, event.peer, "session", "this is another life of the node")
            elif event.user != session.user:
                admission.refuse(node, event.peer, "auth", "this session belongs to another key")
            elif event.peer == session.control and type(message) not in (Beat, Bye):
                raise ProtocolError(f"{type(message).__name__} does not belong on a control channel")
            else:
                session.silence = node.looked - node.now  # which is counted later, and was before this
                self._on_message(session, message, event.body)
        except ProtocolError as error:  # drop the peer that sends what no correct peer sends; everyone else goes on
            admission.refuse(node, event.peer, "protocol", str(error))

    def _on_message(self, session: Session, message: Any, body: Sequence[Buffer]) -> None:
        node = self.node
        match message:
            case Tasks():
                intake.on_tasks(node, session, message, body)
            case Call():
                intake.on_tasks(node, session, *message.as_batch())
            case Beat(ack=ack, at=at, heard=heard, shown=shown):
                session.outbox.ack(ack)
                session.confirm(heard)
                admission.answer(node, session, at)
                node.note_shown(session, shown)
            case Function():
                intake.on_function(node, session, message, body)
            case Module():
                intake.on_module(session, message, body)
            case Cancel(ids=ids, running=running):
                stop = stopping.cancel if running else stopping.take_back
                stop(node, session, intake.known_tasks(session, ids))
            case Release(regions=regions):
                intake.on_release(node, session, regions)
            case Answer():
                nesting.on_answer(node, session, message, body)
            case Admit():
                admission.on_change(node, session, message)
            case Roster():
                intake.on_roster(session, message)
            case Drain(deadline=grace):
                draining.drain_session(node, session, grace, "asked by the client")
            case Bye(ack=ack):
                session.outbox.ack(min(ack, session.outbox.seq))  # a hello before it may have opened a new session
                admission.end(node, session)
            case Part() | Parcels():
                pass  # put together where they came in
            case Credit() | Items():
                streaming.on_client(node, session, message, body)
            case _:
                raise ProtocolError(f"a client does not send {type(message).__name__}")

    def _on_nonsense(self, event: Nonsense) -> None:
        code = event.code
        if code == "body":  # when a connection breaks, the rest of a large frame may come over the next, before a hello
            code = "protocol" if event.peer in self.node.peers else "session"
        admission.refuse(self.node, event.peer, code, event.reason)

    def _on_gone(self, event: Gone) -> None:
        admission.lose(self.node, event.peer)
        self.node.parting.discard(event.peer)
        self.node.actions.append(Forget(event.peer))

    def _on_blocked(self, event: Blocked) -> None:
        session = self.node.peers.get(event.peer)
        if session is not None and session.control == event.peer:
            session.control_blocked = event.blocked
        elif session is not None:
            session.blocked = event.blocked
            if not event.blocked:
                self.node.print_backlog(session)

    def _on_admitted(self, event: Admitted) -> None:
        if event.problem:
            self.node.log("error", "the file of admitted keys does not count", reason=event.problem)
        admission.admit_only(self.node, event.keys)

    def _on_crowded(self, _event: Crowded) -> None:
        self.node.log("error", "no descriptors are left: new connections wait", advice="raise ulimit -n")

    def _on_unguarded(self, _event: Unguarded) -> None:
        # Nobody could enter any more: better no node than one that only seems to serve.
        self._fail("the handler that admits clients is gone: the node ends")

    def _on_listed(self, event: Listed) -> None:
        admission.on_listed(self.node, event)

    def _on_shutdown(self, event: Shutdown) -> None:
        draining.drain_node(self.node, event.grace, event.reason)

    # --- workers -----------------------------------------------------------------------------

    def _on_received(self, event: Received) -> None:
        node = self.node
        worker = node.workers.get(event.worker)
        if worker is None:
            return
        try:
            self._on_word(worker, event.message, event.body)
        except ProtocolError as error:
            node.log("warning", "a worker sent nonsense", worker=worker.id, reason=str(error))
            crew.kill(node, worker)

    def _on_word(self, worker: Worker, message: Any, body: Sequence[Buffer]) -> None:
        node = self.node
        match message:
            case Results():
                outcomes.on_results(node, worker, message, body)
            case Reply():
                outcomes.on_results(node, worker, *message.as_batch())
            case Progress(started=started):
                outcomes.on_progress(node, worker, started)
            case Interim():
                outcomes.on_interim(node, worker, message)
            case Returned(ids=ids):
                outcomes.on_returned(node, worker, ids)
            case Waiting(task=task, waiting=waiting, idle=idle):
                nesting.on_waiting(node, worker, task, waiting=waiting, idle=idle)
            case Items() | Credit():
                streaming.on_worker(node, worker, message, body)
            case Output():
                outcomes.on_output(node, worker, message, body)
            case Submit():
                nesting.on_submit(node, worker, message, body)
            case Revoke():
                nesting.on_revoke(node, worker, message)
            case Function() | Module():
                nesting.on_code(worker, message, body)
            case _:
                raise ProtocolError(f"a worker does not send {type(message).__name__}")

    def _on_spawned(self, event: Spawned) -> None:
        worker = self.node.workers.get(event.worker)
        if worker is not None:
            worker.spawned = True
            assign.start(self.node, worker)

    def _on_printed(self, event: Printed) -> None:
        worker = self.node.workers.get(event.worker)
        if worker is not None:
            outcomes.on_printed(self.node, worker, event.stream, event.data)

    def _on_output_ended(self, event: OutputEnded) -> None:
        worker = self.node.workers.get(event.worker)
        if worker is not None and worker.spawned:  # else its process has not come up
            outcomes.on_output_ended(self.node, worker, event.stream)

    def _on_exited(self, event: Exited) -> None:
        worker = self.node.workers.get(event.worker)
        if worker is not None:
            outcomes.on_exited(self.node, worker, event)

    def _on_template_lost(self, _event: TemplateLost) -> None:
        self._fail("the process that forks workers is gone")

    def _fail(self, reason: str) -> None:
        self.node.log("error", reason)
        self.node.over = True
        self.node.actions.append(Exit(1))

    # --- time --------------------------------------------------------------------------------

    def _on_time(self, kind: int, subject: Any) -> None:
        node = self.node
        if kind == TIMEOUT:
            stopping.expire(node, subject)
        elif kind == GRACE:
            stopping.grace_over(node, subject)
        elif kind == PARTIAL:
            outcomes.flush_partial(node, *subject)
        elif kind == LEAVE:
            self._on_overstay(subject)
        elif kind == LATE:
            assign.note_late(node, *subject)

    def _on_overstay(self, worker: Worker) -> None:
        if worker.id in self.node.workers:
            crew.kill(self.node, worker)
