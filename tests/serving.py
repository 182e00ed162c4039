"""HTTP servers of tests."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator
    from http.server import HTTPServer

S = TypeVar("S", bound="HTTPServer")


@contextmanager
def serving(server: S) -> Generator[S]:
    """Let a server run in a thread of its own."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
