"""joblib, with its default backend and workers that are kept between calls."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skyward_scripts.bench.contestant import Library

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skyward_scripts.bench.contestant import Call, Task

CHUNK = 2_500  # items


class Joblib(Library):
    """``Parallel(n_jobs=workers)``, entered once."""

    parallel: Any

    def open(self, workers: int) -> None:
        """Enter the pool."""
        joblib: Any = import_module("joblib")
        self.workers = workers
        self.delayed: Any = joblib.delayed
        self.make: Any = joblib.Parallel
        self.parallel = joblib.Parallel(n_jobs=workers).__enter__()

    def close(self) -> None:
        """Leave it, and end the workers that it would keep."""
        self.parallel.__exit__(None, None, None)
        loky: Any = import_module("joblib.externals.loky")
        loky.get_reusable_executor().shutdown(wait=True, kill_workers=True)

    def call(self, task: Task, item: Any) -> Any:
        """Run a list of one."""
        return self.parallel([self.delayed(task)(item)])[0]

    def gather(self, calls: Sequence[Call]) -> Sequence[Any]:
        """Run them in batches of its own choosing."""
        delayed = self.delayed
        values: list[Any] = self.parallel(delayed(task)(item) for task, item in calls)
        return values

    def map(self, task: Task, items: Sequence[Any]) -> Sequence[Any]:
        """Run them in batches that are known to suit."""
        delayed = self.delayed
        values: list[Any] = self.make(n_jobs=self.workers, batch_size=CHUNK)(delayed(task)(item) for item in items)
        return values

    def stream(self, task: Task, items: Sequence[Any]) -> Iterable[Any]:
        """Take values as they come."""
        delayed = self.delayed
        parallel = self.make(n_jobs=self.workers, return_as="generator_unordered")
        values: Iterable[Any] = parallel(delayed(task)(item) for item in items)
        return values

    def to_each(self, task: Task, array: Any, workers: int) -> Sequence[Any]:
        """Run one for each worker: it maps large arrays from a file that is written once."""
        return self.gather([(task, array)] * workers)
