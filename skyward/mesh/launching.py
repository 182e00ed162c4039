"""Threads that launch and end nodes, because providers block. One thread per node that comes or goes."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

from skyward.errors import ProvisionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward.providers.base import Launched, LaunchSpec, Provider


class Launcher:
    """Starts nodes in the background and reports through callbacks, from its threads."""

    def __init__(self, provider: Provider, spec: LaunchSpec) -> None:
        self._provider = provider
        self._spec = spec
        self._count = 0
        self._cancelled = threading.Event()
        self._threads: set[threading.Thread] = set()

    def launch(self, on_done: Callable[[Launched | None, BaseException | None], None]) -> None:
        """Start one node; ``on_done(launched, error)`` is called when it serves or cannot."""
        index = self._count
        self._count += 1

        def work() -> None:
            try:
                launched = self._provider.launch(self._spec, index, self._cancelled)
            except ProvisionError as error:
                on_done(None, error)
            except Exception as error:  # a provider's bug must not look like a node that is still coming
                on_done(None, error)
            else:
                on_done(launched, None)

        self._start(work, f"skyward-launch-{index}")

    def terminate(self, launched: Launched) -> None:
        """End one node, which may be gone already."""
        self._start(lambda: self._provider.terminate(launched), f"skyward-end-{launched.ident}")

    def close(self) -> None:
        """Stop launching, end every node, and return when nothing is left."""
        self._cancelled.set()
        self._join()
        try:
            self._provider.close()
        finally:
            self._join()

    def _start(self, work: Callable[[], None], name: str) -> None:
        def run() -> None:
            try:
                work()
            finally:
                self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.add(thread)
        thread.start()

    def _join(self) -> None:
        for thread in list(self._threads):
            thread.join()


def free_port() -> int:
    """Return a TCP port that was free on this machine a moment ago, for what tasks set up on the head."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
