"""Outcomes as they come from nodes, and the tasks that they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skyward.dispatch.tasks import Task
from skyward.wire import failures, payload
from skyward.wire.statuses import CANCELLED, OK, Failure

if TYPE_CHECKING:
    from skyward.results import Outcome


def value(what: object) -> Outcome:
    """Return the outcome that is this value."""
    packed = payload.dumps_value(what)
    return (OK, packed.data, packed.buffers, 1, 17, "f")


def raised(error: Exception) -> Outcome:
    """Return the outcome of a task that has raised."""
    failure = failures.from_exception(error)
    return (failure.status, failures.encode(failure), (), 1, 17, "f")


CANCELLED_THERE: Outcome = (CANCELLED, failures.encode(Failure(CANCELLED)), (), 1, 17, "f")


class Interrupting:
    """Interrupts the client when it is unpickled."""

    times = 1

    def __reduce__(self) -> Any:
        return interrupt, ()


def interrupt() -> str:
    """Raise once, as Ctrl-C does."""
    if Interrupting.times:
        Interrupting.times -= 1
        raise KeyboardInterrupt
    return "unpickled"


def tasks(count: int) -> list[Task]:
    """Return the tasks of a group."""
    return [Task(100 + index, None, b"", (), None, index, 0) for index in range(count)]
