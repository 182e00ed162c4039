"""Parsl with its high-throughput executor on this machine."""

from __future__ import annotations

import os
import tempfile
from importlib import import_module
from typing import TYPE_CHECKING, Any

from skyward_scripts.bench.contestant import Submitting, completed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skyward_scripts.bench.contestant import Task


class Parsl(Submitting):
    """One block of the local provider with all workers in it."""

    parsl: Any

    def open(self, workers: int) -> None:
        """Start the interchange and a manager."""
        self.parsl = import_module("parsl")
        config: Any = import_module("parsl.config")
        executors: Any = import_module("parsl.executors")
        providers: Any = import_module("parsl.providers")
        executor = executors.HighThroughputExecutor(
            label="bench",
            address="127.0.0.1",
            max_workers_per_node=workers,
            cores_per_worker=1e-6,  # else there are no more workers than CPUs
            provider=providers.LocalProvider(init_blocks=1, max_blocks=1),
        )
        run = os.path.join(tempfile.gettempdir(), "parsl")
        self.kernel: Any = self.parsl.load(config.Config(executors=[executor], run_dir=run, strategy="none"))
        self.apps: dict[Task, Any] = {}

    def close(self) -> None:
        """End them."""
        self.kernel.cleanup()
        self.parsl.clear()

    def submit(self, task: Task, item: Any) -> Any:
        """Call a function's app, which is made once."""
        if task not in self.apps:
            self.apps[task] = self.parsl.python_app(task)
        return self.apps[task](item)

    def stream(self, task: Task, items: Sequence[Any]) -> Iterable[Any]:
        """Submit all, then wait for whichever is next."""
        return completed([self.submit(task, item) for item in items])
