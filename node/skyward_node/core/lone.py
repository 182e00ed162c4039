"""The short way of a lone task: what `intake`, `assign` and `outcomes` do with one that meets an idle worker.

A call that somebody waits for is alone on its node most of the time: nothing is queued, its worker has its code, and
its result is all that the worker sends. Then everything that the usual way asks has one answer, and is not asked. What
is written down in the end is the same, and so is what is said; `test_lone` holds one against the other. Whatever is
not as plain goes the usual way: both functions return False, and have changed nothing.

PURE: no pipes, no processes.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from skyward.wire.messages import Tasks
from skyward_node.core.actions import Give
from skyward_node.core.outbox import Part
from skyward_node.core.tasks import DONE, KEEP, RUNNING, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Results
    from skyward_node.core.node import Node
    from skyward_node.core.sessions import Session
    from skyward_node.core.workers import Worker


def give(node: Node, session: Session, message: Tasks, body: Sequence[Buffer]) -> bool:
    """Hand a task that comes alone to an idle worker of its session; return whether that was possible."""
    id = message.ids[0]
    if len(node.turns) > 1 or session.queued or session.draining < inf or id <= session.highest:
        return False
    if not session.idle or message.timeouts or not node.limits.reuse or node.running >= node.limits.concurrency:
        return False
    worker = session.idle[next(reversed(session.idle))]
    code = session.library.code(message.functions[0])
    if not code.ready or worker.told != (session.roster_version, worker.index) or not worker.spawned:
        return False
    if session.seats.get(worker.index) is not worker or worker.threads or not session.may_send():
        return False
    if not worker.known.use(code.key):
        return False
    session.outbox.ack(message.ack)
    session.highest = id
    retries = message.retries[0] if message.retries else 0
    task = Task(id, session, code, (body[0], ()), retries, state=RUNNING, worker=worker)
    session.tasks[id] = worker.tasks[id] = task
    del session.idle[worker.id]
    worker.used = True
    worker.load = 1
    worker.pace = code.cost
    node.running += 1
    given = Tasks(0, 0, message.functions, message.ids, message.fns, message.sizes, message.buffers)
    node.actions.append(Give(worker.id, given, body))
    return True


def finish(node: Node, worker: Worker, message: Results, body: Sequence[Buffer]) -> bool:
    """Pass on the result of a task that was its worker's only one; return whether that was possible."""
    session, id = worker.session, message.ids[0]
    task = worker.tasks.get(id)
    if session is None or task is None or len(worker.tasks) > 1 or task.state != RUNNING or task.wish != KEEP:
        return False
    if worker.threads or worker.stuck or worker.leaving or not node.limits.reuse or task.timeout:
        return False
    if session.backlog or session.nested or any(lines.open for lines in worker.lines.values()):
        return False
    elapsed = message.elapsed
    session.outbox.add(Part(message.ids, message.statuses, message.sizes, message.buffers, elapsed, body))
    task.code.observe(elapsed[0])
    task.state, task.worker = DONE, None
    del worker.tasks[id], session.tasks[id]
    session.idle[worker.id] = worker
    session.tidy()
    worker.idle_since = node.now
    worker.load = 0
    node.running -= 1
    return True
