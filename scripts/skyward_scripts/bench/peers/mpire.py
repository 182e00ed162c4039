"""mpire, with workers that are kept between maps."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skyward_scripts.bench.contestant import Submitting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skyward_scripts.bench.contestant import Call, Task


class Mpire(Submitting):
    """``WorkerPool(n_jobs=workers, keep_alive=True)``."""

    pool: Any
    maps: Any  # in version 2.10.2 a map that follows a call on the same pool fails

    def open(self, workers: int) -> None:
        """Make the pools; their workers start when they are first used."""
        mpire: Any = import_module("mpire")
        self.pool = mpire.WorkerPool(n_jobs=workers, keep_alive=True)
        self.maps = mpire.WorkerPool(n_jobs=workers, keep_alive=True)

    def close(self) -> None:
        """End the workers."""
        self.pool.terminate()
        self.maps.terminate()

    def submit(self, task: Task, item: Any) -> Any:
        """Submit a call."""
        return self.pool.apply_async(task, (item,))

    def result(self, future: Any) -> Any:
        """Wait for it."""
        return future.get()

    def futures(self, calls: Sequence[Call]) -> Sequence[Any]:
        """Do what a gather does: there is nothing else."""
        return self.gather(calls)

    def map(self, task: Task, items: Sequence[Any]) -> Sequence[Any]:
        """Map in chunks of its own choosing: 64 for each worker."""
        values: list[Any] = self.maps.map(task, items)
        return values

    def tune_map(self, task: Task, items: Sequence[Any]) -> None:
        """Start the workers of maps."""
        self.map(task, items)

    def uneven(self, task: Task, items: Sequence[Any]) -> Sequence[Any]:
        """Map one by one, which balances load, as single calls do not."""
        values: list[Any] = self.maps.map(task, items, chunk_size=1)
        return values

    def stream(self, task: Task, items: Sequence[Any]) -> Iterable[Any]:
        """Take values as they come."""
        values: Iterable[Any] = self.pool.imap_unordered(task, items, chunk_size=1)
        return values

    def to_each(self, task: Task, array: Any, workers: int) -> Sequence[Any]:
        """Do the same: single calls would all go to one worker."""
        values: list[Any] = self.maps.map(task, [(array,)] * workers, chunk_size=1)
        return values
