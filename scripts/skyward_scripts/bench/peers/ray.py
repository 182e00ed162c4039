"""Ray on this machine, without its dashboard: tasks, and actors."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from importlib import import_module
from itertools import chain, cycle
from typing import TYPE_CHECKING, Any

from skyward_scripts.bench.contestant import Library
from skyward_scripts.bench.peers.chunks import chunks_of, run_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from skyward_scripts.bench.contestant import Call, Task

STORE = 2**31  # bytes of the object store


class _Ray(Library, ABC):
    """What tasks and actors share: a cluster of one machine."""

    ray: Any

    def open(self, workers: int) -> None:
        """Start the cluster."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would call home
        os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # under `uv run` it would ship the working directory
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # what its next version does; else it warns
        self.ray = import_module("ray")
        self.workers = workers
        self.ray.init(
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=STORE,
            _node_ip_address="127.0.0.1",
            _temp_dir=os.path.join(tempfile.gettempdir(), "ray"),
        )

    def close(self) -> None:
        """Shut the cluster down."""
        self.ray.shutdown()

    @abstractmethod
    def futures_of(self, calls: Sequence[Call]) -> list[Any]:
        """Start calls and return their references."""

    def gather(self, calls: Sequence[Call]) -> Sequence[Any]:
        """Start all, then get all."""
        values: list[Any] = self.ray.get(self.futures_of(calls))
        return values

    def to_each(self, task: Task, array: Any, workers: int) -> Sequence[Any]:
        """Put the array into the store once, and pass its reference."""
        reference = self.ray.put(array)
        return self.gather([(task, reference)] * workers)

    def hold_futures(self, described: Any) -> Any:
        """Start all, and keep the references."""
        return self.futures_of(described)


class Tasks(_Ray):
    """Remote functions."""

    def open(self, workers: int) -> None:
        """Start the cluster, and decorate each function once."""
        super().open(workers)
        self.remotes: dict[Task, Any] = {}

    def remote(self, task: Task) -> Any:
        """Return a function's remote form."""
        if task not in self.remotes:
            self.remotes[task] = self.ray.remote(task)
        return self.remotes[task]

    def call(self, task: Task, item: Any) -> Any:
        """Start one and get it."""
        return self.ray.get(self.remote(task).remote(item))

    def futures_of(self, calls: Sequence[Call]) -> list[Any]:
        """Start calls and return their references."""
        return [self.remote(task).remote(item) for task, item in calls]

    def map(self, task: Task, items: Sequence[Any]) -> Sequence[Any]:
        """Run each chunk as one task."""
        whole = self.ray.remote(run_chunk)
        return list(chain.from_iterable(self.ray.get([whole.remote(task, chunk) for chunk in chunks_of(items)])))

    def iterate(self, task: Task, item: Any) -> Iterable[Any]:
        """Get each reference of its generator."""
        return map(self.ray.get, self.remote(task).options(num_returns="streaming").remote(item))

    def stream(self, task: Task, items: Sequence[Any]) -> Iterable[Any]:
        """Wait for whichever is next."""
        waiting = [self.remote(task).remote(item) for item in items]
        while waiting:
            ready, waiting = self.ray.wait(waiting)
            yield from self.ray.get(ready)


class Actors(_Ray):
    """One actor per worker: calls go to them in turn, and those that take time through an ``ActorPool``."""

    def open(self, workers: int) -> None:
        """Start the cluster and its actors."""
        super().open(workers)
        kind = self.ray.remote(num_cpus=1)(_Runner)
        self.actors = [kind.remote() for _ in range(workers)]
        self.turn: Iterator[Any] = cycle(self.actors)

    def call(self, task: Task, item: Any) -> Any:
        """Ask the next actor."""
        return self.ray.get(next(self.turn).run.remote(task, item))

    def futures_of(self, calls: Sequence[Call]) -> list[Any]:
        """Ask the actors in turn."""
        return [actor.run.remote(task, item) for actor, (task, item) in zip(self.turn, calls, strict=False)]

    def iterate(self, task: Task, item: Any) -> Iterable[Any]:
        """Get each reference of an actor's generator."""
        return map(self.ray.get, next(self.turn).run_through.options(num_returns="streaming").remote(task, item))

    def stream(self, task: Task, items: Sequence[Any]) -> Iterable[Any]:
        """Give whoever is free the next item."""
        values: Iterable[Any] = self._pool().map_unordered(_asking(task), items)
        return values

    def uneven(self, task: Task, items: Sequence[Any]) -> Sequence[Any]:
        """Do the same, in order."""
        return list(self._pool().map(_asking(task), items))

    def _pool(self) -> Any:
        return import_module("ray.util").ActorPool(self.actors)


def _asking(task: Task) -> Callable[[Any, Any], Any]:
    """Return the function that an ``ActorPool`` asks its actors with."""
    return lambda actor, item: actor.run.remote(task, item)


class _Runner:
    """An actor that runs any task."""

    def run(self, task: Task, item: Any) -> Any:
        """Run it."""
        return task(item)

    def run_through(self, task: Task, item: Any) -> Iterator[Any]:
        """Run one that yields."""
        yield from task(item)
