"""The short way of a lone task: what a whole turn of the core does with one that meets an idle worker.

A call that somebody waits for is alone on its node most of the time: nothing is queued, its worker has its code, and
its result is all that the worker sends. Then everything that the usual way asks has one answer, and is not asked. What
is written down in the end is the same, and so is what is said; `test_lone` holds one against the other. Whatever is
not as plain goes the usual way: both functions return False, and have noted nothing but which code was used last.

What follows at the end of a usual turn may be left out because these two give it nothing to do: neither sets a timer,
moves a pulse, frees what another session waits for, or leaves something to report. Whoever changes one keeps to that.

PURE: no pipes, no processes.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final

from skyward.wire.lone import Call, Reply
from skyward_node.core.actions import Give, Incoming, Send
from skyward_node.core.tasks import FINISH, KEEP, RUNNING, Task, move
from skyward_node.executors.events import Received

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward_node.core.node import Node
    from skyward_node.core.sessions import Session
    from skyward_node.core.workers import Worker


def give(node: Node, event: Incoming, gap: float) -> bool:
    """Hand a task that comes alone to an idle worker of its session; return whether that was possible.

    ``gap``: seconds that will be counted later, in which the client need not have been heard.
    """
    message = event.message
    session = node.peers.get(event.peer)
    if session is None or type(message) is not Call:
        return False
    if message.epoch != node.epoch or event.user != session.user or event.peer in (session.control, *node.parting):
        return False  # it is refused
    id = message.id
    if id <= session.highest or message.timeout or message.ack > session.outbox.seq:
        return False
    if not _has_room(node, session) or not _is_calm(node, session):
        return False
    worker = session.idle[next(reversed(session.idle))]
    code = session.library.code(message.function)
    if not code.ready or not _is_ready(worker, session) or not worker.known.use(code.key):
        return False
    session.silence = -gap
    session.outbox.ack(message.ack)
    session.highest = id
    task = Task(id, session, code, (message.data, ()), message.retries, state=RUNNING, worker=worker)
    session.tasks[id] = worker.tasks[id] = task
    del session.idle[worker.id]
    worker.used = True
    worker.load = 1
    worker.pace = code.cost
    node.running += 1
    node.actions.append(Give(worker.id, Call(0, 0, message.function, id, message.data)))
    return True


def finish(node: Node, event: Received, _gap: float) -> bool:
    """Pass on the result of a task that was its worker's only one; return whether that was possible."""
    worker, message = node.workers.get(event.worker), event.message
    if worker is None or type(message) is not Reply:
        return False
    session, id = worker.session, message.id
    task = worker.tasks.get(id)
    if session is None or task is None or len(worker.tasks) > 1 or task.state != RUNNING or task.wish != KEEP:
        return False
    if task.timeout or worker.threads or worker.stuck or worker.leaving or not _is_calm(node, session):
        return False
    if session.backlog or session.nested or worker.lines[1].open or worker.lines[2].open:
        return False
    if not session.outbox.replies:
        return False
    numbered = session.outbox.pass_on(message, node.epoch)
    if session.peer is not None:
        node.actions.append(Send(session.peer, numbered))
    task.code.observe(message.elapsed / task.count)
    move([task], FINISH)
    task.worker = None
    del worker.tasks[id], session.tasks[id]
    session.idle[worker.id] = worker
    session.tidy()
    worker.idle_since = node.now
    worker.load = 0
    node.running -= 1
    return True


def _is_ready(worker: Worker, session: Session) -> bool:
    """Return whether a worker needs no word before a task."""
    told = worker.spawned and worker.told == (session.roster_version, worker.index)
    return told and session.seats.get(worker.index) is worker and not worker.threads


def _has_room(node: Node, session: Session) -> bool:
    """Return whether a worker of the session is idle, and may go on."""
    return bool(session.idle) and node.running < node.limits.concurrency and session.may_send()


def _is_calm(node: Node, session: Session) -> bool:
    """Return whether nothing else is to be done at the end of the turn."""
    if len(node.turns) > 1 or node.draining or node.stuck or node.dead_starts or not node.limits.reuse:
        return False
    return not session.queued and session.draining == inf and not session.graves and not session.outbox.lends


WAYS: Final[dict[type, Callable[[Node, Any, float], bool]]] = {Incoming: give, Received: finish}
