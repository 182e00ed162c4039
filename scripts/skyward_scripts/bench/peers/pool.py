"""`multiprocessing.Pool`, whose map is tried with several chunk sizes and measured with the best."""

from __future__ import annotations

import time
from multiprocessing import Pool
from typing import TYPE_CHECKING, Any

from skyward_scripts.bench.contestant import Submitting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from multiprocessing.pool import Pool as PoolType

    from skyward_scripts.bench.contestant import Call, Task

CHUNKS = (500, 1_000, 2_500, 5_000, 10_000, 25_000, None)  # items; None is its own choice
TRIES = 2


class MultiprocessingPool(Submitting):
    """The standard library's."""

    pool: PoolType
    chunk: int | None = None

    def open(self, workers: int) -> None:
        """Fork the workers."""
        self.pool = Pool(workers)

    def close(self) -> None:
        """Kill the workers."""
        self.pool.terminate()
        self.pool.join()

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
        """Map with the best chunk size."""
        return self.pool.map(task, items, self.chunk)

    def tune_map(self, task: Task, items: Sequence[Any]) -> None:
        """Find it."""
        times: dict[int | None, float] = {}
        for chunk in CHUNKS * TRIES:
            started = time.perf_counter()
            self.pool.map(task, items, chunk)
            elapsed = time.perf_counter() - started
            times[chunk] = min(elapsed, times.get(chunk, elapsed))
        self.chunk = min(times, key=times.__getitem__)

    def stream(self, task: Task, items: Sequence[Any]) -> Iterable[Any]:
        """Take values as they come."""
        return self.pool.imap_unordered(task, items)
