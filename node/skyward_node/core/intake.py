"""What clients send: tasks, code, and who the nodes are.

Messages have been through the codec: their columns agree with each other and with the body. What only
the session can tell is checked before anything is done: a message either counts as a whole or ends the
connection with a `ProtocolError`.

PURE: no sockets; bodies are never opened.
"""

from __future__ import annotations

from itertools import repeat
from math import inf
from typing import TYPE_CHECKING, Final

from skyward.errors import ProtocolError
from skyward.wire.codec import encode, split_body
from skyward.wire.messages import MAX_HEADER, Need, Release, Roster
from skyward_node.core.actions import Control, Give, Send
from skyward_node.core.node import batches
from skyward_node.core.outcomes import give_back
from skyward_node.core.tasks import CODE_CAME, HELD, Task, move

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Function, Module, Tasks
    from skyward_node.core.node import Node
    from skyward_node.core.sessions import Session

BESIDE: Final = 65_536  # bytes of a header: what workers are told beside the roster, with room to spare


def on_tasks(node: Node, session: Session, message: Tasks, body: Sequence[Buffer]) -> None:
    """Queue the tasks that are new; say again what became of the others."""
    ids = message.ids
    if message.shared and not session.shared:
        raise ProtocolError("shared memory that was not agreed upon")
    if len(ids) > 1 and len(set(ids)) != len(ids):
        raise ProtocolError("a batch names a task twice")
    session.outbox.ack(message.ack)
    codes = [session.library.code(key) for key in message.functions]
    tasks = list(
        map(
            Task,
            ids,
            repeat(session),
            [codes[fn] for fn in message.fns],
            split_body(message.sizes, message.buffers, body),
            message.retries or repeat(0),
            message.timeouts or repeat(0.0),
            message.counts or repeat(1),
            message.crashes or repeat(0),
        )
    )
    if not tasks:
        return
    if min(ids) <= session.highest:
        tasks = _only_new(node, session, tasks)
    session.highest = max(session.highest, *ids)
    for task in tasks:
        session.tasks[task.id] = task
    if session.draining < inf:
        session.enqueue(tasks)
        give_back(node, session, tasks)
        return
    if not all(code.ready for code in codes):
        tasks = _hold(node, session, tasks)
    session.enqueue(tasks)


def _only_new(node: Node, session: Session, tasks: Sequence[Task]) -> list[Task]:
    """Leave out tasks that are known; what has a result that may have been lost gets it again."""
    known = session.outbox.coming()
    known.update(task.id for task in tasks if task.id in session.tasks)
    for message, body in session.outbox.holding({task.id for task in tasks} - known):
        known.update(message.ids)
        if session.peer is not None:
            node.actions.append(Send(session.peer, message, body))
    return [task for task in tasks if task.id not in known]


def _hold(node: Node, session: Session, tasks: Sequence[Task]) -> list[Task]:
    """Set tasks aside whose code has not come, and ask for it; return the others."""
    ready: list[Task] = []
    need: list[bytes] = []
    for task in tasks:
        code = task.code
        if code.ready:
            ready.append(task)
            continue
        task.state = HELD
        code.held.append(task)
        if not code.asked:
            code.asked = True
            need.append(code.key)
    if need:
        node.say(session, Need(node.epoch, need, []))
    return ready


def ask_again(node: Node, session: Session) -> None:
    """Ask for what is still missing: the question, or its answer, may have been lost with a connection."""
    for some in batches(session.library.missing()):
        node.say(session, Need(node.epoch, some, []))


def on_module(session: Session, message: Module, body: Sequence[Buffer]) -> None:
    """Keep a module source for the function that needs it, which comes next."""
    session.brought.append(session.library.add_module(message, body))


def on_function(node: Node, session: Session, message: Function, body: Sequence[Buffer]) -> None:
    """Keep a function's code, and queue the tasks that waited for it."""
    code, lacking = session.library.add_function(message, body)
    session.brought.clear()
    if lacking:
        node.say(session, Need(node.epoch, [message.key], lacking))
        return
    held, code.held = code.held, []
    move(held, CODE_CAME)
    session.enqueue(held)


def on_release(node: Node, session: Session, regions: Sequence[int]) -> None:
    """Tell workers which results the client reads no more; the upper half of a region's number is its worker's."""
    by_worker: dict[int, list[int]] = {}
    for region in regions:
        by_worker.setdefault(region >> 32, []).append(region)
    for worker, theirs in by_worker.items():
        if worker in session.workers:
            # While a generator runs, nobody reads the data pipe, and it needs the room.
            busy = any(task.committed for task in session.workers[worker].tasks.values())
            node.actions.append((Control if busy else Give)(worker, Release(0, theirs)))


def on_roster(session: Session, message: Roster) -> None:
    """Remember who the nodes are; workers learn it before their next tasks."""
    if len(encode(message)) > MAX_HEADER - BESIDE:
        raise ProtocolError(f"a roster of more than {MAX_HEADER - BESIDE} bytes")
    session.roster = message
    session.roster_version += 1


def known_tasks(session: Session, ids: Sequence[int]) -> list[Task]:
    """Return those of the tasks that have no outcome yet, each once."""
    tasks = session.tasks
    return [tasks[id] for id in dict.fromkeys(ids) if id in tasks]
