"""Where the sockets of a reference meet: a private directory, or ports of the loopback interface."""

from __future__ import annotations

import shutil
import socket
import tempfile


class Places:
    """Gives out endpoints, until it is closed."""

    def __init__(self, transport: str) -> None:
        self._directory = tempfile.mkdtemp(prefix="z") if transport == "ipc" else ""
        self._count = 0

    def new(self) -> str:
        """Return an endpoint that nobody listens at."""
        self._count += 1
        if self._directory:
            return f"ipc://{self._directory}/{self._count}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return f"tcp://127.0.0.1:{probe.getsockname()[1]}"

    def close(self) -> None:
        """Remove the directory."""
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
