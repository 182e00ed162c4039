"""Streams of values: elements and credit on their way between a task and the client, unopened.

What a worker says is passed on at once, and again after a break until the client confirms it. What the client says
goes to the worker's control pipe, because its main thread runs the user's code. Nothing is kept here: how much can be
under way is what the receiving end has granted.

A stream of a call that a task has made (``call``) is passed on in the same way, and commits nobody here.

A task of which an element was sent, or for which one was asked, is *committed*: it is never run again.

PURE: elements are never opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from skyward.errors import ProtocolError
from skyward.wire.frames import size_of
from skyward.wire.messages import Credit, Items
from skyward.wire.unconfirmed import is_new
from skyward_node.core.actions import Control
from skyward_node.core.tasks import CANCEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer
    from skyward_node.core.node import Node
    from skyward_node.core.sessions import Session
    from skyward_node.core.tasks import Task
    from skyward_node.core.workers import Worker

CONFIRM: Final = 4 * 2**20  # bytes after which the client is told without delay what it need not keep any more


def on_worker(node: Node, worker: Worker, message: Items | Credit, body: Sequence[Buffer]) -> None:
    """Pass on elements that a task yields, or credit for those that it takes."""
    session, task = worker.session, worker.tasks.get(message.id)
    if session is None or task is None:
        return
    if message.call:  # of a stream between this task and one that it has called
        if message.id in session.tasks:  # else a thread goes on after its time
            node.tell(session, replace(message, epoch=node.epoch), body)
        return
    if not task.committed:
        task.committed = True
        task.code.stream()
        close(node, task)
    node.tell(session, replace(message, epoch=node.epoch), body)


def close(node: Node, task: Task) -> None:
    """Tell a thread that nobody wants its task any more; it looks at that where it yields or takes an element."""
    wanted = not task.unwanted and task.wish != CANCEL
    if node.limits.threads and task.committed and task.worker is not None and not wanted:
        node.withdraw(task.worker, [task.id], running=True)


def on_client(node: Node, session: Session, message: Items | Credit, body: Sequence[Buffer]) -> None:
    """Hand a task elements, or credit; drop them if it has ended."""
    if not is_new(message.seq, session.heard):
        return  # sent again: we have them
    session.heard = message.seq
    if isinstance(message, Items):
        if message.shared and not session.shared:
            raise ProtocolError("shared memory that was not agreed upon")
        session.hot += size_of(body)
        if session.hot > CONFIRM:
            session.hot = 0
            session.next_pulse = node.now
    task = session.tasks.get(message.id)
    if task is not None and task.worker is not None:
        node.actions.append(Control(task.worker.id, replace(message, epoch=0, seq=0), body))
