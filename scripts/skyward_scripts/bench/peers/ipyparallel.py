"""ipyparallel: a controller, engines, and a view that balances load."""

from __future__ import annotations

import os
import tempfile
from importlib import import_module
from typing import TYPE_CHECKING, Any

from skyward_scripts.bench.contestant import Submitting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skyward_scripts.bench.contestant import Task

CHUNK = 2_500  # items


class IPyParallel(Submitting):
    """``Cluster(n=workers)``, its load-balanced view, and its direct view for what goes to every engine."""

    cluster: Any
    client: Any
    view: Any

    def open(self, workers: int) -> None:
        """Start controller and engines, with a profile of their own."""
        os.environ["IPYTHONDIR"] = os.path.join(tempfile.gettempdir(), "ipython")
        ipyparallel: Any = import_module("ipyparallel")
        self.cluster = ipyparallel.Cluster(n=workers, controller_ip="127.0.0.1", location="127.0.0.1", log_level=40)
        self.client = self.cluster.start_and_connect_sync()
        self.view = self.client.load_balanced_view()

    def close(self) -> None:
        """End them."""
        self.client.close()
        self.cluster.stop_cluster_sync()

    def submit(self, task: Task, item: Any) -> Any:
        """Submit a call."""
        return self.view.apply_async(task, item)

    def result(self, future: Any) -> Any:
        """Wait for it."""
        return future.get()

    def map(self, task: Task, items: Sequence[Any]) -> Sequence[Any]:
        """Map in chunks."""
        return list(self.view.map_sync(task, items, chunksize=CHUNK))

    def stream(self, task: Task, items: Sequence[Any]) -> Iterable[Any]:
        """Take values as they come."""
        values: Iterable[Any] = self.view.map_async(task, items, chunksize=1, ordered=False)
        return values

    def to_each(self, task: Task, array: Any, workers: int) -> Sequence[Any]:
        """Use the direct view."""
        values: list[Any] = self.client[:].apply_sync(task, array)
        return values
