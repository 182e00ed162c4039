"""skyward as a contestant: every default on, calls written as the guide writes them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from skyward_scripts.bench.contestant import Library

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import skyward as sky
    from skyward_scripts.bench.contestant import Call, Task


class Skyward(Library):
    """Nodes of this machine with one worker each, over Unix sockets."""

    transport: ClassVar[Literal["ipc", "tcp"]] = "ipc"
    pool: sky.Compute

    def open(self, workers: int) -> None:
        """Open a pool."""
        import skyward as sky

        provider = None if self.transport == "ipc" else sky.Local(transport=self.transport)
        self.pool = sky.Compute(provider, nodes=workers).open()

    def close(self) -> None:
        """Close the pool."""
        self.pool.close()

    def call(self, task: Task, item: Any) -> Any:
        """``task(item) >> pool``."""
        return task(item) >> self.pool

    def gather(self, calls: Sequence[Call]) -> Sequence[Any]:
        """``gather(...) >> pool``."""
        from skyward import gather

        values: tuple[Any, ...] = gather(*[task(item) for task, item in calls]) >> self.pool
        return values

    def futures(self, calls: Sequence[Call]) -> Sequence[Any]:
        """``task(item) > pool``."""
        pool = self.pool
        return [future.result() for future in [task(item) > pool for task, item in calls]]

    def map(self, task: Task, items: Sequence[Any]) -> Sequence[Any]:
        """``pool.map(task, items)``."""
        return list(self.pool.map(task, items))

    def stream(self, task: Task, items: Sequence[Any]) -> Iterable[Any]:
        """``gather(..., stream=True, ordered=False) >> pool``."""
        from skyward import gather

        values: Iterable[Any] = gather(*[task(item) for item in items], stream=True, ordered=False) >> self.pool
        return values

    def to_each(self, task: Task, array: Any, workers: int) -> Sequence[Any]:
        """``task(array) @ pool``."""
        values: list[Any] = task(array) @ self.pool
        return values

    def iterate(self, task: Task, item: Any) -> Iterable[Any]:
        """``task(item) >> pool``, whose value is an iterator."""
        values: Iterable[Any] = task(item) >> self.pool
        return values

    def describe(self, calls: Sequence[Call]) -> Any:
        """Return the calls, which have not been dispatched."""
        return [task(item) for task, item in calls]

    def hold_gather(self, described: Any) -> Any:
        """``gather(...) >> pool``, in a thread, because it waits."""
        from skyward import gather

        def wait() -> Any:
            return gather(*described) >> self.pool

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread

    def hold_futures(self, described: Any) -> Any:
        """``call > pool``."""
        pool = self.pool
        return [call > pool for call in described]

    def release(self, held: Any) -> None:
        """Wait for the gather's thread or the futures, so that closing has nothing to cancel."""
        blockers, rest = held
        for future in (*blockers, *(() if isinstance(rest, threading.Thread) else rest)):
            future.result()
        if isinstance(rest, threading.Thread):
            rest.join()

    def import_names(self) -> tuple[str, str]:
        """Return the import of the guide, and the names that it uses."""
        return "import skyward", "import skyward as sky; sky.function, sky.gather, sky.Compute"


class OverTcp(Skyward):
    """The same over TCP behind CURVE, as if the nodes were other machines."""

    transport: ClassVar[Literal["ipc", "tcp"]] = "tcp"
