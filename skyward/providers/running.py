"""Nodes that run already, whoever has started them: a pool takes part in them, and lets them go.

Nothing is launched and nothing ended. Which nodes there are is said by `Static` and `meshes.attached.Attached`.
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from skyward.errors import ProvisionError
from skyward.providers.base import Provider

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from skyward.providers.base import Launched
    from skyward.transport.keys import KeyPair

CONNECT: Final = 5.0  # seconds a port may take to answer: what runs answers at once, also far away


class Reachable(Protocol):
    """What a pool can take part in."""

    @property
    def endpoint(self) -> str:
        """Return where it is."""
        ...


AnyNode = TypeVar("AnyNode", bound=Reachable)


class Running(Provider):
    """Which of its nodes take part in something; see the subclasses."""

    def __init__(self) -> None:
        self._keys: KeyPair | None = None
        self._lock = threading.Lock()
        self._used: set[str] = set()  # endpoints of nodes that take part
        self._closed = False

    def keys(self) -> KeyPair | None:
        """Return the client's pair."""
        return self._keys

    def _take(self, nodes: Iterable[AnyNode], but: Collection[str] = ()) -> AnyNode | None:
        """Return the next node that takes part in nothing; raises `ProvisionError` once this is closed."""
        with self._lock:
            if self._closed:
                raise ProvisionError("this provider was closed with its pool; make another one")
            for node in nodes:
                if node.endpoint not in self._used and node.endpoint not in but:
                    self._used.add(node.endpoint)
                    return node
        return None

    def _enter(self, endpoint: str, timeout: float, cancelled: threading.Event) -> str:
        """Return the numeric address of a node that was taken; raises `OSError` if it does not answer, and lets it go.

        Raises `ProvisionError` if it is not wanted any more.
        """
        try:
            host = knock(endpoint, min(CONNECT, timeout))
            if cancelled.is_set():
                raise ProvisionError("it was not wanted any more")
        except BaseException:
            self._give_back(endpoint)
            raise
        return host

    def _give_back(self, endpoint: str) -> None:
        with self._lock:
            self._used.discard(endpoint)

    def terminate(self, launched: Launched) -> None:
        """Let a node go; it runs on."""
        self._give_back(launched.endpoint)

    def log_tail(self, launched: Launched) -> tuple[str, ...]:
        """Return nothing: what these nodes log is seen where they run, or by `skyward-mesh logs`."""
        return ()

    def close(self) -> None:
        """Let all nodes go; they run on."""
        with self._lock:
            self._closed = True
            self._used.clear()


def knock(endpoint: str, timeout: float) -> str:
    """Return the numeric address, if somebody listens; raises `OSError`."""
    if endpoint.startswith("ipc://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(timeout)
            probe.connect(endpoint.removeprefix("ipc://"))
        return "127.0.0.1"
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout) as probe:
        address: str = probe.getpeername()[0]
        return address
