"""Which worker gets which tasks, and how many at once.

Sessions take turns, one chunk each; within a session tasks start in order. A chunk holds about a
millisecond of work, so that pipes and wake-ups cost little per task, and never more than an even share
of what waits, so that no worker idles while another queues. While a worker runs a short chunk it gets
the next one ahead. Of a function that has never run, and of one that may not run twice, a worker gets
one task at a time. The only worker of a node with a single session gets larger chunks: nobody else could
do with them, and each wakes both sides up. What sits behind a task that takes long is taken back when a
slot is free.

PURE: no pipes, no processes.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from skyward.wire.codec import pack_body
from skyward.wire.frames import shared_among
from skyward.wire.lone import MAX_SMALL, Call
from skyward.wire.messages import Tasks
from skyward_node.core import crew
from skyward_node.core.actions import Give
from skyward_node.core.context import make_context
from skyward_node.core.node import LATE, TIMEOUT
from skyward_node.core.tasks import GIVE, GIVEN, START, move
from skyward_node.pipe_messages import Forget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Message
    from skyward_node.core.library import Code
    from skyward_node.core.node import Node
    from skyward_node.core.sessions import Session
    from skyward_node.core.tasks import Task
    from skyward_node.core.workers import Worker

CHUNK: Final = 1_000.0  # µs of work in one chunk: some ten times what handing it over costs
ALONE: Final = 4_000.0  # µs where nobody else waits for the slot and no other worker could take any of it
MOST: Final = 256  # tasks in one chunk; bounds what waits behind a task that is longer than expected
LONG: Final = 0.005  # seconds after which what was given ahead waits too long: some times what a chunk of it takes
SHORT: Final = 12_000.0  # µs: to fetch the next task costs a per cent of this; a longer one waits in no worker's queue


def dispatch(node: Node) -> None:
    """Start what can be started."""
    for session in node.turns:
        if session.queued:
            _fill(node)
            _send_ahead(node)
            break
    if node.stuck:
        _recall(node)


def _fill(node: Node) -> None:
    turns = node.turns
    tries = len(turns)
    while tries and node.running < node.limits.concurrency:
        session = turns[0]
        turns.rotate(-1)
        if session.wants_slot() and _serve(node, session):
            tries = len(turns)
        else:
            tries -= 1


def _serve(node: Node, session: Session) -> bool:
    head = session.head()
    worker = crew.free_worker(session=session, node=node, fresh=head.crashes > 0)
    if worker is None:
        return False
    give(node, worker, _chunk(node, session, node.limits.concurrency - node.running))
    return True


def _chunk(node: Node, session: Session, free: int) -> list[Task]:
    if session.head().code.cost == inf or not node.limits.reuse:
        return session.take(1, 0.0)
    share = -(-session.queued // max(free, 1))
    return session.take(min(MOST, share), _budget(node))


def _budget(node: Node) -> float:
    """Return how many µs of work a worker may get at once; and it gets more while it has no more than that."""
    return ALONE if node.limits.concurrency == 1 and len(node.turns) == 1 else CHUNK


def _send_ahead(node: Node) -> None:
    if not node.limits.reuse:
        return
    waiting = [session for session in node.turns if session.wants_slot()]
    if len(waiting) != 1:  # with two sessions waiting, the one whose worker is free next gets the slot
        return
    session = waiting[0]
    for worker in session.workers.values():
        if worker.tasks and session.wants_slot() and _has_room_ahead(node, worker, session.head()):
            head, pace = next(iter(worker.tasks)), worker.pace
            give(node, worker, _chunk(node, session, node.limits.concurrency))
            if not worker.threads and node.limits.concurrency > 1:  # else nobody else here could run them
                node.at(node.now + max(LONG, 2e-6 * pace), LATE, (worker, head))


def note_late(node: Node, worker: Worker, head: int) -> None:
    """Note that a worker still runs the task that it ran when more was given to it.

    It does not say so by itself: it reads what it was given only when that task has ended.
    """
    if worker.id in node.workers and not worker.leaving and next(iter(worker.tasks), None) == head:
        worker.stuck = True
        node.stuck[worker.id] = worker


def _has_room_ahead(node: Node, worker: Worker, task: Task) -> bool:
    if worker.leaving or worker.spent or worker.stuck or not worker.load or worker.load < worker.slots:
        return False
    if not task.retries or task.crashes or task.cost > SHORT or worker.pace > SHORT:
        return False
    held = len(worker.tasks)
    return held <= worker.slots or held * worker.pace <= _budget(node) * worker.slots


def give(node: Node, worker: Worker, chunk: list[Task]) -> None:
    """Hand tasks to a worker of their session, with the code that it lacks before them."""
    session = chunk[0].session
    if not worker.tasks and not worker.threads:  # threads share the process's slots among themselves
        crew.seat(session, worker)
    place = (session.roster_version, worker.index)
    if worker.told != place:
        worker.told = place
        node.actions.append(Give(worker.id, make_context(session, worker, node)))
    codes = {task.code: None for task in chunk}
    for code in codes:
        if not worker.known.use(code.key):
            node.give_code(worker, code.parts(worker.known))
    node.actions.append(Give(worker.id, *_message(chunk, list(codes))))
    move(chunk, GIVE)
    for task in chunk:
        task.worker = worker
        worker.tasks[task.id] = task
    _forget(node, worker)
    worker.used = True
    worker.pace = chunk[0].cost
    crew.account(node, worker)
    start(node, worker)


def _message(chunk: list[Task], codes: list[Code]) -> tuple[Message, Sequence[Buffer]]:
    """Return the message that hands the tasks over, and its body."""
    data, own = chunk[0].payload
    if len(chunk) == 1 and not own and chunk[0].count == 1 and 0 < len(data) <= MAX_SMALL:
        return Call(0, 0, codes[0].key, chunk[0].id, bytes(data)), ()
    fns = _indexes(chunk) if len(codes) > 1 else [0] * len(chunk)
    sizes, buffers, body = pack_body([task.payload for task in chunk])
    columns = [code.key for code in codes], [task.id for task in chunk], fns, sizes, buffers
    counts = [task.count for task in chunk]
    return Tasks(0, 0, *columns, shared=shared_among(body), counts=counts if max(counts) > 1 else []), body


def _forget(node: Node, worker: Worker) -> None:
    """Have the worker forget code that is too much and of which it has no task."""
    if not worker.known.is_full:
        return
    functions, modules = worker.known.trim(lambda: {task.code.key for task in worker.tasks.values()})
    if functions:
        node.actions.append(Give(worker.id, Forget(functions, modules)))


def _indexes(chunk: list[Task]) -> list[int]:
    index: dict[bytes, int] = {}
    return [index.setdefault(task.code.key, len(index)) for task in chunk]


def start(node: Node, worker: Worker) -> None:
    """Mark the tasks that the worker runs by now; their clocks start."""
    if heads := worker.starting():
        mark_started(node, heads)


def mark_started(node: Node, tasks: list[Task]) -> None:
    """Start the clocks of tasks that run now."""
    move(tasks, START)
    for task in tasks:
        if task.timeout:
            task.expires = node.now + task.timeout
            node.at(task.expires, TIMEOUT, task)


def _recall(node: Node) -> None:
    """Take back what sits behind tasks that take long, if it can run elsewhere."""
    free = node.limits.concurrency - node.running
    for worker in list(node.stuck.values()):
        ids = [task.id for task in worker.tasks.values() if task.state == GIVEN and not task.recalled]
        if not ids:
            del node.stuck[worker.id]
        elif free > 0:
            recall(node, worker, ids)


def recall(node: Node, worker: Worker, ids: list[int]) -> None:
    """Ask the worker to hand back those of the tasks that it has not started."""
    for id in ids:
        worker.tasks[id].recalled = True
    node.withdraw(worker, ids, running=False)
