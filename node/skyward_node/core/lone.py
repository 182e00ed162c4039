"""The short way of lone tasks: what whole turns of the core do with one that meets an idle worker, and with its result.

A call that somebody waits for is alone on its node most of the time: nothing is queued, its worker has its code, and
its result is all that the worker sends. Then everything that the usual way asks has one answer, which stays the same
until something else happens. So it is asked once: a `Shortcut` is *open* from a full look that has found the node calm
until the next usual turn, and in between only what differs from task to task is looked at. What is written down in the
end is the same as by the usual way, and so is what is said; `test_lone` holds one against the other.

Each step comes in two halves. The first decides, and changes nothing that a usual turn would not change as well:
whatever is not as plain goes that way. The second writes it down, after the driver has sent what the first returned,
while whoever gets that is at work. Nothing may come between them.

What follows at the end of a usual turn may be left out because these steps give it nothing to do: none sets a timer,
moves a pulse, frees what another session waits for, or leaves something to report. Whoever changes one keeps to that.

PURE: no pipes, no processes.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from skyward_node.core import admission
from skyward_node.core.tasks import FINISH, RUNNING, TABLE, Task

if TYPE_CHECKING:
    from skyward.wire.lone import Call, Reply
    from skyward_node.core.library import Code
    from skyward_node.core.node import Node
    from skyward_node.core.sessions import Session
    from skyward_node.core.workers import Worker

LOOK: Final = 0.005  # seconds between looks at who is silent: nothing to a lease, and most turns are shorter
_FINISHED: Final = TABLE[FINISH][RUNNING]


class Shortcut:
    """The way between one client and the idle workers of its session."""

    __slots__ = ("_code", "_fit", "_given", "_node", "_peer", "_session", "_user", "is_open")

    _session: Session  # while it is open
    _code: Code  # of the task that came last

    def __init__(self, node: Node) -> None:
        self._node = node
        self.is_open = False
        self._peer: bytes | None = None  # the connection it belongs to; None while it is closed
        self._user = ""
        self._fit: dict[int, Code] = {}  # by worker, the code it used last: it needs no word before a task of that
        self._given: dict[int, Task] = {}  # by worker, the task that it was given since it is open

    def close(self) -> None:
        """Have everything asked anew: something else is about to happen."""
        self.is_open = False
        self._peer = None
        del self._session, self._code  # which may be about to end
        self._fit.clear()
        self._given.clear()

    def look(self, now: float) -> bool:
        """Take in that time has passed, as every turn does; return whether nothing is to be done for that."""
        node = self._node
        gap, node.looked, node.now = now - node.looked, now, now
        admission.look(node, gap)
        return not node.actions

    # --- a task ------------------------------------------------------------------------------

    def offer(self, peer: bytes, user: str, message: Call, now: float) -> int:
        """Return the worker that a task that has come is to be given to; 0 if it goes the usual way."""
        node = self._node
        if now - node.looked >= LOOK and not self.look(now):
            return 0
        known = peer == self._peer and user == self._user and message.function == self._code.key
        if not known and not self._enter(peer, user, message.function):
            return 0
        if message.epoch != node.epoch or message.timeout or node.running >= node.limits.concurrency:
            return 0
        session = self._session
        idle = session.idle
        if not idle or message.id <= session.highest or message.ack > session.outbox.seq or not session.may_send():
            return 0
        worker = idle[next(reversed(idle))]
        return worker.id if self._fit.get(worker.id) is self._code or self._fits(worker) else 0

    def note_given(self, holder: int, message: Call, now: float) -> None:
        """Write down that a worker has got the task, as the last offer said."""
        node, session, code, id = self._node, self._session, self._code, message.id
        worker = node.workers[holder]
        node.now = now
        session.silence = node.looked - now  # which is counted later, and was before this
        session.outbox.ack(message.ack)
        session.highest = id
        task = Task(id, session, code, (message.data, ()), message.retries, state=RUNNING, worker=worker)
        session.tasks[id] = worker.tasks[id] = self._given[holder] = task
        del session.idle[holder]
        worker.used = True
        worker.load = 1
        worker.pace = code.cost
        node.running += 1

    def _enter(self, peer: bytes, user: str, function: bytes) -> bool:
        """See whether a shortcut may be open for this connection, and the function's code is here."""
        node = self._node
        session = node.peers.get(peer)
        if session is None or user != session.user or peer in (session.control, *node.parting):
            return False  # it is refused
        if self._peer != peer and not (_is_calm(node) and _is_plain(session)):
            return False
        code = session.library.code(function)
        if not code.ready:
            return False
        session.tidy()
        self.is_open = True
        self._peer, self._user, self._session, self._code = peer, user, session, code
        return True

    def _fits(self, worker: Worker) -> bool:
        """See whether a worker needs no word before a task, and has nothing to say but its result."""
        session = self._session
        if not worker.spawned or worker.told != (session.roster_version, worker.index):
            return False
        if session.seats.get(worker.index) is not worker or worker.threads or worker.stuck or worker.leaving:
            return False
        if worker.lines[1].open or worker.lines[2].open or not worker.known.use(self._code.key):
            return False
        self._fit[worker.id] = self._code
        return True

    # --- its result --------------------------------------------------------------------------

    def answer(self, worker: int, reply: Reply, now: float) -> tuple[bytes, Reply] | None:
        """Return what to send of the result of a worker's only task, and where to; None if it goes the usual way."""
        task = self._given.get(worker)
        if task is None or task.id != reply.id:
            return None
        node, session = self._node, self._session
        if now - node.looked >= LOOK and not self.look(now):
            return None
        assert self._peer is not None
        return self._peer, session.outbox.number(reply, node.epoch)

    def note_answered(self, worker: int, reply: Reply, now: float) -> None:
        """Write down that the client was sent this, as the last answer said."""
        node, session, task, id = self._node, self._session, self._given.pop(worker), reply.id
        node.now = now
        session.outbox.keep(reply)
        task.code.observe(reply.elapsed)
        holder = task.worker
        assert holder is not None
        task.state = _FINISHED
        task.worker = None
        del holder.tasks[id], session.tasks[id]
        holder.last = id
        session.idle[worker] = holder
        holder.idle_since = now
        holder.load = 0
        node.running -= 1


def _is_calm(node: Node) -> bool:
    """Return whether a node has nothing to do at the end of a turn but for what comes in it."""
    if len(node.turns) > 1 or node.draining or node.stuck or node.dead_starts:
        return False
    return node.limits.reuse and not node.limits.threads


def _is_plain(session: Session) -> bool:
    """Return whether nothing of a session waits for anything."""
    if session.queued or session.draining < inf or session.graves or session.backlog or session.nested:
        return False
    return session.outbox.replies and not session.outbox.lends
