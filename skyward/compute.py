"""The pool: provider, loop and scheduler joined into what users hold.

Only the signatures so far; opening one raises `NotImplementedError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, overload

from skyward.runtime import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from skyward.config import Options
    from skyward.model import Nodes, PoolSnapshot
    from skyward.pending import PendingFunction, PendingFunctionGroup
    from skyward.providers.base import Provider
    from skyward.results import Future

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Compute(Pool):
    """A pool of nodes."""

    def __init__(
        self,
        provider: Provider | str | None = None,
        nodes: int | tuple[int, int] | Nodes | None = None,
        image: object = None,
        options: Options | None = None,
        **spec: Any,
    ) -> None:
        raise NotImplementedError

    def open(self) -> Self:
        """Start the nodes and return when enough of them are ready."""
        raise NotImplementedError

    def close(self, *, cancel: bool = False) -> None:
        """End the pool, after its futures or by cancelling them."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)

    async def __aenter__(self) -> Self:
        return self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)

    def run(self, call: PendingFunction[T]) -> T:
        """Run the call on one node and return its value."""
        raise NotImplementedError

    @overload
    def run_async(self, call: PendingFunction[T]) -> Future[T]: ...
    @overload
    def run_async(self, call: PendingFunctionGroup[*Ts]) -> Future[tuple[*Ts]]: ...
    def run_async(self, call: Any) -> Future[Any]:
        """Start a call or a group and return a future."""
        raise NotImplementedError

    def run_group(self, group: PendingFunctionGroup[*tuple[Any, ...]]) -> Any:
        """Run the calls of a group."""
        raise NotImplementedError

    def broadcast(self, call: PendingFunction[T]) -> list[T]:
        """Run the call once on every node that is ready."""
        raise NotImplementedError

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any]) -> Iterator[T]:
        """Return an iterator over ``fn(*args)`` for args from the zipped iterables, in order."""
        raise NotImplementedError

    def resize(self, nodes: int | tuple[int, int]) -> None:
        """Set the number of nodes anew."""
        raise NotImplementedError

    def current_nodes(self) -> int:
        """Return the number of nodes that are ready."""
        raise NotImplementedError

    def snapshot(self) -> PoolSnapshot:
        """Return what the pool looks like now."""
        raise NotImplementedError

    @property
    def concurrency(self) -> int:
        """Return the number of tasks that can run at once."""
        raise NotImplementedError

    @property
    def is_active(self) -> bool:
        """Return whether the pool is open."""
        raise NotImplementedError
