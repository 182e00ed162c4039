"""What tasks end with that have no outcome of a node's: the scheduler's verdicts as exceptions.

PURE: no sockets, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyward.dispatch.tasks import Absent, Cancelled, Lost, NoNodes, TooLarge
from skyward.errors import AbsentRankError, NodeLostError, NoNodesError, PoolClosedError
from skyward.results import CancelledError
from skyward.wire import payload

if TYPE_CHECKING:
    from skyward.dispatch.tasks import Task, Verdict


def reason(task: Task, verdict: Verdict, *, closing: bool) -> BaseException:
    """Return why a task has no value; ``closing``: the pool is."""
    match verdict:
        case Lost(rank, cause):
            return NodeLostError(rank, cause, max(1, task.losses), task.id)
        case Absent(rank, present):
            return AbsentRankError(rank, present)
        case NoNodes(waited, causes):
            return NoNodesError(waited, causes)
        case TooLarge(limit):
            return payload.too_large(f"the arguments of {task.function.name}", task.size, limit)
        case Cancelled():
            return PoolClosedError("the pool was closed") if closing else CancelledError()
        case _:
            raise AssertionError(verdict)
