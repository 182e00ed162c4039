"""All that the core remembers, and the few things every part of it does: send, fail a task, set a timer.

The other parts of the core are functions over this state. They append to ``actions``; `machine.Core` hands those out.

PURE: the clock is a number, set once per turn.
"""

from __future__ import annotations

import heapq
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec import Struct

from skyward.wire.messages import MAX_BATCH, Cancel, Output
from skyward_node.core.actions import Control, Give, Log, Send
from skyward_node.core.library import FORGOTTEN
from skyward_node.core.lines import WINDOW
from skyward_node.core.outbox import failures
from skyward_node.core.tasks import DONE, FINISH, GIVEN, HELD, QUEUED, RUNNING, WAITING, move

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Credit, Items, Message, Revoke, Submit
    from skyward.wire.statuses import Failure
    from skyward_node.core.actions import Action
    from skyward_node.core.library import Part as CodePart
    from skyward_node.core.lines import Block
    from skyward_node.core.sessions import Session
    from skyward_node.core.tasks import Task
    from skyward_node.core.workers import Worker

T = TypeVar("T")

TIMEOUT: Final = 0  # of a task: it ran as long as it may
GRACE: Final = 1  # of a task: it had the time to stop
PARTIAL: Final = 2  # of a worker: a line it has begun waited long enough
LEAVE: Final = 3  # of a worker: it had the time to end by itself
LATE: Final = 4  # of a worker, and the task it ran when more was given to it: that should have ended
SWEEP: Final = 1_024  # timers at which the first look for stale ones is worth it


class Identity(Struct, frozen=True):
    """Who this node is, for as long as it lives."""

    epoch: int  # random
    python: str
    versions: dict[str, str]
    hostname: str
    address: str
    pid: int
    accelerators: list[str]


class Limits(Struct, frozen=True):
    """What the core needs of the node's configuration."""

    concurrency: int
    threads: bool  # all slots are threads of one process per session
    reuse: bool  # a process may run more than one task
    lease: float  # seconds
    max_payload: int  # bytes
    alone: float = 0.0  # seconds without any session after which the daemon ends; 0: it does not
    lanes: bool = False  # there is a place where it takes in lanes
    listed: bool = False  # it keeps a list of clients


class Node:
    """State of one daemon."""

    def __init__(self, limits: Limits, identity: Identity) -> None:
        self.limits = limits
        self.identity = identity
        self.epoch = identity.epoch
        self.now = 0.0
        self.looked = 0.0  # the moment of the last look at who is silent
        self.actions: list[Action] = []
        self.sessions: dict[bytes, Session] = {}
        self.turns: deque[Session] = deque()  # the same sessions; the first is next to get a slot
        self.peers: dict[bytes, Session] = {}  # connection -> the session bound to it
        self.admitted: frozenset[str] | None = None  # keys of clients; None: links here need none
        self.alone = 0.0  # seconds without a session
        self.refused: dict[bytes, None] = {}  # connections that were told so, oldest first
        self.workers: dict[int, Worker] = {}
        self.unbound: dict[int, Worker] = {}  # those that belong to no session yet
        self.running = 0  # slots taken
        self.lent = 0  # tasks that wait for their own calls
        self.told_slots = limits.concurrency
        self.stuck: dict[int, Worker] = {}  # workers whose tasks take longer than expected
        self.dead_starts = 0  # workers in a row that never came up
        self.spawn_after = 0.0  # no worker is started before this moment
        self.next_worker = 1
        self.deaths = 0  # workers that ended and were not told to
        self.done = 0  # tasks of sessions that are over: those that ended with a value
        self.failed = 0  # and those that did not
        self.draining = False  # the daemon is about to end
        self.parting: set[bytes] = set()  # connections that were told so, and have not answered
        self.parts_at = inf  # moment at which it ends without their answers
        self.over = False
        self._timers: list[tuple[float, int, int, Any]] = []
        self._timer_count = 0
        self._sweep_at = SWEEP

    # --- saying things -----------------------------------------------------------------------

    def say(self, session: Session, message: Message, body: Sequence[Buffer] = ()) -> None:
        """Send to the client now, or not at all."""
        if session.peer is not None:
            self.actions.append(Send(session.peer, message, body))

    def tell(self, session: Session, message: Submit | Revoke | Items | Credit, body: Sequence[Buffer] = ()) -> None:
        """Send to the client now, and again after every break until it confirms."""
        self.say(session, session.unconfirmed.add(message, body), body)

    def log(self, level: str, event: str, **fields: Any) -> None:
        """Note something for people."""
        self.actions.append(Log(level, event, fields))

    def give_code(self, worker: Worker, parts: Iterable[CodePart]) -> None:
        """Put functions and modules on the worker's pipe."""
        for message, body in parts:
            self.actions.append(Give(worker.id, message, body))

    def print_lines(self, session: Session, task: int, stream: int, lines: Block | None) -> None:
        """Forward lines that a task printed, or keep them while the client cannot take them."""
        if lines is not None:
            session.backlog.add(task, stream, lines)
            self.print_backlog(session)

    def note_shown(self, session: Session, shown: int) -> None:
        """Note how many bytes of lines the client has taken."""
        if session.shown < shown <= session.printed:  # else it is of an earlier connection
            session.shown = shown
            self.print_backlog(session)

    def print_backlog(self, session: Session) -> None:
        """Send the lines that had to wait, as far as the client takes them."""
        if session.peer is not None and not session.blocked and session.backlog:
            self._print(session, WINDOW)

    def settle_lines(self, session: Session, tasks: Collection[int]) -> None:
        """Let no line of these tasks come after their results: send what is left now, or drop and count it."""
        backlog = session.backlog
        if backlog and session.peer is not None and not backlog.isdisjoint(tasks):
            self._print(session, 2 * WINDOW)
            if backlog:
                backlog.drop()
                self._print(session, 4 * WINDOW)

    def _print(self, session: Session, window: int) -> None:
        for task, stream, dropped, lines in session.backlog.take(window - session.printed + session.shown):
            session.printed += len(lines.text) + 1
            self.say(session, Output(self.epoch, task, stream, lines.number, dropped), [lines.text])

    def withdraw(self, worker: Worker, ids: list[int], *, running: bool) -> None:
        """Ask a worker to drop tasks."""
        self.actions.append(Control(worker.id, Cancel(0, ids, running)))

    # --- ending tasks ------------------------------------------------------------------------

    def finish(self, tasks: Sequence[Task]) -> None:
        """Forget tasks of one session that have an outcome."""
        if not tasks:
            return
        session = tasks[0].session
        pop = session.tasks.pop
        for task in tasks:
            if task.state not in (GIVEN, RUNNING):
                self._leave(task)
            if task.timeout:  # its timer keeps it for so long
                task.payload, task.code = (b"", ()), FORGOTTEN
            task.worker = None
            pop(task.id, None)
        if session.nested:
            for task in tasks:
                session.nested.pop(task.id, None)
        move(tasks, FINISH)
        session.tidy()

    def _leave(self, task: Task) -> None:
        """Take a task out of the books of the state it is in."""
        if task.state == HELD:
            task.code.held.remove(task)
        elif task.state == QUEUED:
            task.session.queued -= 1
            # It stays in the queue, which skips it, until its turn comes.
            task.payload, task.code = (b"", ()), FORGOTTEN
        elif task.state == WAITING:
            self.lent -= 1

    def shift(self, tasks: Sequence[Task], event: str) -> None:
        """Move tasks that may be waiting for their calls, or begin to."""
        self.lent -= sum(task.state == WAITING for task in tasks)
        move(tasks, event)
        self.lent += sum(task.state == WAITING for task in tasks)

    def fail(self, outcomes: Sequence[tuple[Task, Failure]]) -> None:
        """End tasks without a worker saying so. They must be of one session."""
        if outcomes:
            outcomes[0][0].session.outbox.add(failures([(task.id, failure) for task, failure in outcomes]))
            self.finish([task for task, _ in outcomes])

    # --- time --------------------------------------------------------------------------------

    def at(self, moment: float, kind: int, subject: Any) -> None:
        """Have `due` return (kind, subject) once ``moment`` has come."""
        self._timer_count += 1
        heapq.heappush(self._timers, (moment, self._timer_count, kind, subject))
        if len(self._timers) >= self._sweep_at:
            self.sweep()

    def sweep(self) -> None:
        """Forget timers of tasks that have ended, which would be kept in memory for the length of their timeout.

        A task keeps its session, with all its code: so this is also called when a session ends.
        """
        self._timers = [timer for timer in self._timers if timer[2] not in (TIMEOUT, GRACE) or timer[3].state != DONE]
        heapq.heapify(self._timers)
        self._sweep_at = max(SWEEP, 2 * len(self._timers))

    def due(self) -> list[tuple[int, Any]]:
        """Return what is due now."""
        ready: list[tuple[int, Any]] = []
        while self._timers and self._timers[0][0] <= self.now:
            _, _, kind, subject = heapq.heappop(self._timers)
            ready.append((kind, subject))
        return ready

    def next_timer(self) -> float:
        """Return the moment at which something is due; infinite if nothing is."""
        return self._timers[0][0] if self._timers else inf


def batches(ids: list[T]) -> Iterable[list[T]]:
    """Cut a list of ids, or of keys, into pieces that fit a message each."""
    return (ids[start : start + MAX_BATCH] for start in range(0, len(ids), MAX_BATCH))
