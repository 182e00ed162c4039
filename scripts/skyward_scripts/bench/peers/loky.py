"""loky, whose executor survives what its workers do not."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from skyward_scripts.bench.peers.executor import Submitter

IDLE = 3_600  # seconds: workers that leave would be started again within a figure


class Loky(Submitter):
    """Its reusable executor."""

    def open(self, workers: int) -> None:
        """Make the executor; its workers start with the first call."""
        loky: Any = import_module("loky")
        self.pool = loky.get_reusable_executor(max_workers=workers, timeout=IDLE)

    def close(self) -> None:
        """Shut it down."""
        pool: Any = self.pool
        pool.shutdown(wait=True, kill_workers=True)
