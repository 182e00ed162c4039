"""Calls that tasks make: passed on to the client, which schedules them, and answered from there.

While a task waits for its calls its slot is lent: another task may start, in one more worker. When the
wait ends the task goes on at once, and no new task starts until as many run as there are slots. At
most ``crew.EXTRA`` slots are lent; beyond that the wait fails with a `DeadlockError`.

PURE: nothing here looks into the calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from skyward.errors import ProtocolError
from skyward.wire.codec import pack_body
from skyward.wire.frames import Payload
from skyward.wire.messages import Answer, Module, Revoke, Slots
from skyward.wire.shelf import CALLS, Shelf
from skyward.wire.statuses import CANCELLED_FAILURE, REFUSED, Failure
from skyward.wire.unconfirmed import is_new
from skyward_node.core import assign, crew
from skyward_node.core.actions import Control
from skyward_node.core.node import TIMEOUT, batches
from skyward_node.core.outbox import encode_failure
from skyward_node.core.tasks import FOR_CALLS, FOR_STREAMS, GIVEN, LEND, RECLAIM, RUNNING, WAITING
from skyward_node.pipe_messages import Deadlock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Function, Message, Submit
    from skyward_node.core.library import Code
    from skyward_node.core.node import Node
    from skyward_node.core.sessions import Session
    from skyward_node.core.tasks import Task
    from skyward_node.core.workers import Worker

NAMED: Final = 10  # holders of slots that an error names


def on_submit(node: Node, worker: Worker, message: Submit, body: Sequence[Buffer]) -> None:
    """Pass calls of a running task on to the client."""
    session = worker.session
    if session is None:
        return
    codes = _codes(session, worker, message.functions)
    parent = message.parent
    if parent not in worker.tasks or parent not in session.tasks:  # a thread that goes on after its time
        _answer(node, worker.id, parent, message.calls, CANCELLED_FAILURE)
        return
    session.nested.setdefault(parent, set()).update(message.calls)
    numbered = session.unconfirmed.add(replace(message, epoch=node.epoch), body)
    session.carried.append((numbered.seq, codes))
    _pass_on(node, session, numbered, body, codes)
    task = worker.tasks[parent]
    if task.state == RUNNING and task.waits & FOR_CALLS:  # a wait was refused, and others of its threads go on
        _lend(node, worker, task, idle=False)


def _codes(session: Session, worker: Worker, functions: Sequence[bytes]) -> list[Code]:
    """Return the code of calls, and give up what the worker does not count on any more.

    This is for calls that come to nothing, too: the worker, which knows nothing of that, goes by the same rule.
    """
    codes = [session.library.code(key) for key in functions]
    if not all(code.ready for code in codes):
        raise ProtocolError("it calls functions that it has never sent")
    for code in codes:
        code.put_on(worker.calls, code)
    worker.calls.trim()
    return codes


def _pass_on(node: Node, session: Session, message: Message, body: Sequence[Buffer], codes: Sequence[Code]) -> None:
    """Send calls to the client, with the code that it does not have, or no longer."""
    if session.peer is None:
        return
    told = session.told
    for code in codes:
        if code.key not in told:
            for part, source in code.parts(told):
                node.say(session, replace(part, epoch=node.epoch), source)
    for code in codes:
        told.use(code.key)
    told.trim()
    node.say(session, message, body)


def on_revoke(node: Node, worker: Worker, message: Revoke) -> None:
    """Tell the client that a task does not want its calls any more."""
    session = worker.session
    if session is None or message.parent not in worker.tasks:
        return
    session.nested.get(message.parent, set()).difference_update(message.calls)
    node.tell(session, replace(message, epoch=node.epoch))


def on_code(worker: Worker, message: Function | Module, body: Sequence[Buffer]) -> None:
    """Keep code that a task has brought for its calls, which come next."""
    session = worker.session
    if session is None:
        return
    if isinstance(message, Module):
        worker.brought.append(session.library.add_module(message, body))
        return
    code, lacking = session.library.add_function(message, body)
    worker.brought.clear()
    if lacking:
        raise ProtocolError("a function needs a module that it has never sent")
    code.put_on(worker.calls, code)


def repeat(node: Node, session: Session) -> None:
    """Say again what may have been lost with a connection, with the code that goes with it."""
    session.told = Shelf(CALLS)  # what was sent over the old connection may not have come
    carried = dict(session.carried)
    for message, body in session.unconfirmed:
        _pass_on(node, session, message, body, carried.get(message.seq, ()))


def on_answer(node: Node, session: Session, message: Answer, body: Sequence[Buffer]) -> None:
    """Hand the outcomes of calls to the task that waits for them."""
    if not is_new(message.seq, session.heard):
        return  # sent again: we have them
    session.heard = message.seq
    task = session.tasks.get(message.parent)
    if task is None or task.worker is None:
        return
    session.nested.get(message.parent, set()).difference_update(message.calls)
    node.actions.append(Control(task.worker.id, replace(message, epoch=0, seq=0), body))


def on_waiting(node: Node, worker: Worker, id: int, *, waiting: bool, idle: bool = False) -> None:
    """Lend the slot of a task that waits for its calls or, ``idle``, for the other end of a stream; or take it back.

    It may wait for both: its slot is lent until neither wait is left, its clock stands until the stream's is over.
    """
    task = worker.tasks.get(id)
    if task is None:
        return
    kind = FOR_STREAMS if idle else FOR_CALLS
    if waiting:
        task.waits |= kind
        _lend(node, worker, task, idle=idle)
        return
    task.waits &= ~kind
    if idle:
        _go_on(node, task)
    if not task.waits and task.state == WAITING:
        node.shift([task], RECLAIM)
        task.session.seats[worker.index] = worker  # whoever has borrowed the slot takes another one next
    crew.account(node, worker)
    assign.start(node, worker)


def _lend(node: Node, worker: Worker, task: Task, *, idle: bool) -> None:
    if task.state == GIVEN:  # the worker knows better than we do what it has begun
        assign.mark_started(node, [task])
    if task.state == RUNNING:
        if node.lent >= crew.EXTRA:
            _refuse(node, worker, task, idle=idle)
            return
        node.shift([task], LEND)
        _move_on_without(node, worker)
    if task.state == WAITING and idle:
        task.paused = node.now
    crew.account(node, worker)
    assign.start(node, worker)


def _go_on(node: Node, task: Task) -> None:
    """Let the clock of a task run that stood still."""
    paused, task.paused = task.paused, 0.0
    if paused and task.timeout:
        task.expires += node.now - paused
        node.at(task.expires, TIMEOUT, task)


def _move_on_without(node: Node, worker: Worker) -> None:
    """Take back what sits behind a task that waits: it may be what the task waits for."""
    if not worker.threads and (ids := [task.id for task in worker.not_started() if not task.recalled]):
        assign.recall(node, worker, ids)


def _refuse(node: Node, worker: Worker, task: Task, *, idle: bool) -> None:
    session = task.session
    holders = [held for other in node.workers.values() for held in other.tasks.values() if held.state == WAITING]
    names = ", ".join(f"{holder.code.name} (task {holder.id})" for holder in holders[:NAMED])
    more = f" and {len(holders) - NAMED} more" if len(holders) > NAMED else ""
    text = f"{len(holders)} tasks of this node wait for others already: {names}{more}"
    if idle:
        node.actions.append(Control(worker.id, Deadlock(task.id, text)))
        return
    calls = sorted(session.nested.pop(task.id, ()))
    _answer(node, worker.id, task.id, calls, Failure(REFUSED, type_name="DeadlockError", message=text))
    for some in batches(calls):
        node.tell(session, Revoke(node.epoch, task.id, some))


def _answer(node: Node, worker: int, parent: int, calls: list[int], failure: Failure) -> None:
    """Answer calls in the client's place."""
    payload = Payload(encode_failure(failure), ())
    for some in batches(calls):
        count = len(some)
        sizes, buffers, body = pack_body([payload] * count)
        answer = Answer(0, parent, some, [failure.status] * count, sizes, buffers, [0] * count)
        node.actions.append(Control(worker, answer, body))


def abandon(node: Node, worker: Worker, task: Task) -> None:
    """End the wait of a thread whose task is over its time; the client drops the calls when it learns of that."""
    _answer(node, worker.id, task.id, sorted(task.session.nested.pop(task.id, ())), CANCELLED_FAILURE)


def forget(node: Node, task: Task) -> None:
    """Tell the client that nobody waits any more for the calls of a task whose worker is gone."""
    calls = task.session.nested.pop(task.id, None)
    if calls:
        for some in batches(sorted(calls)):
            node.tell(task.session, Revoke(node.epoch, task.id, some))


def announce(node: Node) -> None:
    """Tell the clients how many tasks the node runs at once, if that has changed."""
    slots = node.limits.concurrency + node.lent
    if slots != node.told_slots:
        node.told_slots = slots
        for session in node.sessions.values():
            node.say(session, Slots(node.epoch, slots))
