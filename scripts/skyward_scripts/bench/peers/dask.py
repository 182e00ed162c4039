"""dask.distributed: one-threaded worker processes, a scheduler in the client's process."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any

from skyward_scripts.bench.contestant import Submitting
from skyward_scripts.bench.peers.chunks import chunks_of, run_chunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skyward_scripts.bench.contestant import Call, Task


class Dask(Submitting):
    """``Client(LocalCluster(n_workers=workers, threads_per_worker=1))``."""

    client: Any
    cluster: Any

    def open(self, workers: int) -> None:
        """Start the cluster."""
        distributed: Any = import_module("distributed")
        self.completed: Any = distributed.as_completed
        self.cluster = distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        )
        self.client = distributed.Client(self.cluster)

    def close(self) -> None:
        """End it."""
        self.client.close()
        self.cluster.close()

    def submit(self, task: Task, item: Any) -> Any:
        """Submit a call, which is not to be looked up among earlier ones."""
        return self.client.submit(task, item, pure=False)

    def gather(self, calls: Sequence[Call]) -> Sequence[Any]:
        """Submit a whole list at once, where it is all one function."""
        (task, _), *_ = calls
        if all(other is task for other, _ in calls):
            values: list[Any] = self.client.gather(self.client.map(task, [item for _, item in calls], pure=False))
            return values
        return super().gather(calls)

    def map(self, task: Task, items: Sequence[Any]) -> Sequence[Any]:
        """Run each chunk as one task."""
        futures = self.client.map(partial(run_chunk, task), chunks_of(items), pure=False)
        return list(chain.from_iterable(self.client.gather(futures)))

    def stream(self, task: Task, items: Sequence[Any]) -> Iterable[Any]:
        """Take values as they come."""
        for _, value in self.completed(self.client.map(task, items, pure=False), with_results=True):
            yield value

    def send(self, task: Task, array: Any) -> Any:
        """Scatter the array first: it warns about large arguments."""
        return self.call(task, self.client.scatter(array, hash=False))

    def to_each(self, task: Task, array: Any, workers: int) -> Sequence[Any]:
        """Scatter the array to all, and name the worker of each call."""
        future = self.client.scatter(array, broadcast=True, hash=False)  # not to be found again, either
        addresses = list(self.client.scheduler_info()["workers"])
        futures = [self.client.submit(task, future, pure=False, workers=[address]) for address in addresses]
        values: list[Any] = self.client.gather(futures)
        return values

    def hold_futures(self, described: Any) -> Any:
        """Submit all at once, and keep the futures."""
        (task, _), *_ = described
        return self.client.map(task, [item for _, item in described], pure=False)
