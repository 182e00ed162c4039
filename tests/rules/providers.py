"""Providers of local nodes whose launches can be held up, or fail."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from skyward.errors import ProvisionError
from skyward.providers.local import Local

if TYPE_CHECKING:
    from skyward.providers.base import Launched, LaunchSpec


class Gate(Local):
    """Local nodes; launches beyond the first ``free`` ones wait until the gate is opened."""

    def __init__(self, free: int) -> None:
        super().__init__()
        self._free = free
        self.opened = threading.Event()
        self.waiting = threading.Semaphore(0)  # released by each launch that waits

    def for_pool(self) -> Gate:
        """Return itself: a test uses it for one pool, and holds the gate."""
        return self

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Wait for the gate, then launch."""
        if index >= self._free:
            self.waiting.release()
            while not self.opened.wait(0.02):
                if cancelled.is_set():
                    raise ProvisionError("the gate stayed closed")
        return super().launch(spec, index, cancelled)


class Leisurely(Local):
    """Local nodes that take at least a second and a half to start."""

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Wait, then launch."""
        cancelled.wait(1.5)
        return super().launch(spec, index, cancelled)


class Fragile(Local):
    """Local nodes, until launching is broken; counts the launches that were tried."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = ""  # why
        self.tried = 0

    def for_pool(self) -> Fragile:
        """Return itself: a test uses it for one pool, and breaks it."""
        return self

    def launch(self, spec: LaunchSpec, index: int, cancelled: Any) -> Launched:
        """Launch, or fail."""
        self.tried += 1
        if self.broken:
            raise ProvisionError(f"{self.broken}, try {self.tried}")
        return super().launch(spec, index, cancelled)
