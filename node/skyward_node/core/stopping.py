"""Ending tasks before they are done: cancelled by their client, or over their time limit.

A process worker is asked to interrupt the task and killed when the grace is over; a thread cannot be
stopped, so that cancelling it does nothing unless it waits for a stream or is about to yield, and a timeout is
reported while the slot stays taken.

PURE: no processes; the clock is a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyward.wire.statuses import CANCELLED_FAILURE
from skyward_node.core import crew, nesting, streaming
from skyward_node.core.node import GRACE
from skyward_node.core.outbox import failures
from skyward_node.core.outcomes import give_back, timed_out
from skyward_node.core.tasks import (
    CANCEL,
    EXPIRE,
    GIVE_BACK,
    GIVEN,
    HELD,
    KEEP,
    QUEUED,
    REPORT,
    RUNNING,
    STOP,
    WAITING,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skyward_node.core.node import Node
    from skyward_node.core.sessions import Session
    from skyward_node.core.tasks import Task


def take_back(node: Node, session: Session, tasks: Iterable[Task]) -> None:
    """Return to the client those of the tasks that have not started."""
    waiting: list[Task] = []
    asked: dict[int, list[int]] = {}
    for task in tasks:
        if task.state in (HELD, QUEUED) and not (task.crashes or task.spared):
            waiting.append(task)
        elif task.state == GIVEN and task.worker is not None:
            if task.wish == KEEP:
                task.wish = GIVE_BACK
            if task.recalled:  # the answer to that is on its way
                continue
            task.recalled = True
            asked.setdefault(task.worker.id, []).append(task.id)
        else:
            session.started.append(task.id)
    give_back(node, session, waiting)
    for worker, ids in asked.items():
        node.withdraw(node.workers[worker], ids, running=False)


def cancel(node: Node, session: Session, tasks: Iterable[Task]) -> None:
    """Drop those of the tasks that wait, and stop those that run, if they can be stopped."""
    waiting: list[Task] = []
    asked: dict[int, list[int]] = {}
    for task in tasks:
        if task.state in (HELD, QUEUED):
            waiting.append(task)
        elif task.wish not in (CANCEL, EXPIRE) and task.worker is not None:
            if node.limits.threads and task.state != GIVEN:
                session.started.append(task.id)
                task.unwanted = True
                streaming.close(node, task)
            else:
                task.wish = CANCEL
                asked.setdefault(task.worker.id, []).append(task.id)
    node.fail([(task, CANCELLED_FAILURE) for task in waiting])
    for worker, ids in asked.items():
        node.withdraw(node.workers[worker], ids, running=not node.limits.threads)
        if not node.limits.threads:
            _stop(node, [session.tasks[id] for id in ids])


def _stop(node: Node, tasks: list[Task]) -> None:
    node.shift(tasks, STOP)
    for task in tasks:
        node.at(node.now + task.session.grace, GRACE, task)
    if (worker := tasks[0].worker) is not None:
        crew.account(node, worker)


def expire(node: Node, task: Task) -> None:
    """End a task that has run as long as it may."""
    if task.state not in (RUNNING, WAITING) or task.worker is None:
        return
    if node.now < task.expires or task.paused:
        return  # this is the clock of an earlier run, or of one that stands still: a new one is set when it goes on
    if node.limits.threads:
        worker = task.worker
        node.shift([task], REPORT)
        task.session.outbox.add(failures([(task.id, timed_out(task))]))
        task.session.tasks.pop(task.id, None)
        nesting.abandon(node, worker, task)
        task.unwanted = True
        streaming.close(node, task)
        crew.account(node, worker)
    else:
        task.wish = EXPIRE
        node.withdraw(task.worker, [task.id], running=True)
        _stop(node, [task])


def grace_over(node: Node, task: Task) -> None:
    """Kill the worker under a task that was told to stop and has not."""
    worker = task.worker
    if worker is None or worker.dying or task.wish not in (CANCEL, EXPIRE):
        return
    if next(iter(worker.tasks.values())) is task:
        crew.kill(node, worker)
        crew.replenish(node)
    else:  # another task keeps the worker from handing it back
        node.at(node.now + max(task.session.grace, 0.05), GRACE, task)
