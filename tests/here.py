"""A pool that runs every call at once in this process: what operators need, and nothing more."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast

from skyward.runtime import Pool

if TYPE_CHECKING:
    from skyward.answers.futures import Future
    from skyward.calls import PendingFunction, PendingFunctionGroup

T = TypeVar("T")


class HerePool(Pool):
    """Two nodes that are this process. ``asked`` notes the method and operand of each operation."""

    def __init__(self, name: str = "here") -> None:
        self.name = name
        self.asked: list[tuple[str, object]] = []

    def run(self, call: PendingFunction[T]) -> T:
        """Run the call."""
        self.asked.append(("run", call))
        return cast("T", self._value(call))

    def run_async(self, call: Any) -> Future[Any]:
        """Return the operand in place of a future of it."""
        self.asked.append(("run_async", call))
        return cast("Future[Any]", call)

    def run_group(self, group: PendingFunctionGroup[*tuple[Any, ...]]) -> Any:
        """Run the calls; a tuple, or an iterator."""
        self.asked.append(("run_group", group))
        values = tuple(self._value(call) for call in group.calls)
        return iter(values) if group.stream else values

    def broadcast(self, call: PendingFunction[T]) -> list[T]:
        """Run the call twice."""
        self.asked.append(("broadcast", call))
        return [cast("T", self._value(call)) for _ in range(2)]

    def _value(self, call: PendingFunction[Any]) -> Any:
        assert not inspect.iscoroutinefunction(call.function.__wrapped__)
        return call.function.local(*call.args, **call.kwargs)

    def __repr__(self) -> str:
        return f"<pool {self.name}>"
