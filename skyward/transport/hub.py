"""All sockets of a pool under one poller, and the descriptors that are watched beside them.

Only the owner of the loop touches a hub. This is a driver: it says what can be read, and decides nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

import zmq

from skyward.transport.links import Connection, Link
from skyward.transport.sockets import IO_THREADS

if TYPE_CHECKING:
    from skyward.transport.keys import KeyPair
    from skyward.transport.sockets import Context, Socket

# Descriptors that ZeroMQ may need at once. It ends the whole process, or waits for ever, where one is missing.
CONTEXT: Final = 8  # threads and what wakes them
LINK: Final = 6  # a socket, its monitor, its connection


class News(NamedTuple):
    """Something has become of a link's connection."""

    link: Link
    what: Connection


class Hub:
    """The links of one pool. It has no I/O thread and no socket before the first link."""

    def __init__(self, keys: KeyPair | None = None) -> None:
        """``keys`` say who we are to nodes behind CURVE."""
        self.keys = keys
        self._context: Context | None = None
        self._poller = zmq.Poller()
        self._links: dict[Socket, Link] = {}
        self._monitors: dict[Socket, Link] = {}

    def connect(self, endpoint: str, rank: int, server_key: str = "", *, urgent: bool = False) -> Link:
        """Return a link to a node, which connects in the background.

        ``server_key`` is the node's, if it has one. What is ``urgent`` is not held up by what is not. Raises
        `OSError` if there are too few descriptors.
        """
        require_descriptors(LINK if self._context is not None else CONTEXT + LINK)
        if self._context is None:
            self._context = zmq.Context(IO_THREADS)
        link = Link(self._context, endpoint, rank, self._on_blocked, self.keys, server_key, urgent=urgent)
        self._links[link.socket] = link
        self._poller.register(link.socket, zmq.POLLIN)
        if link.monitor is not None:
            self._monitors[link.monitor] = link
            self._poller.register(link.monitor, zmq.POLLIN)
        return link

    def disconnect(self, link: Link) -> None:
        """Close a link."""
        if self._links.pop(link.socket, None) is not None:
            self._poller.unregister(link.socket)
            if link.monitor is not None:
                del self._monitors[link.monitor]
                self._poller.unregister(link.monitor)
            link.close()

    def watch(self, fd: int) -> None:
        """Report the descriptor when it is readable."""
        self._poller.register(fd, zmq.POLLIN)

    def unwatch(self, fd: int) -> None:
        """Report it no more."""
        if fd in self._poller:
            self._poller.unregister(fd)

    def poll(self, timeout: float) -> list[Link | News | int]:
        """Return the links and descriptors that can be read, waiting for one at most ``timeout`` seconds.

        Also the news about connections. What waited in a link goes out on the way.
        """
        ready: list[Link | News | int] = []
        # Rounded up: waking a little late is cheaper than polling again a little early.
        for source, events in self._poller.poll(int(timeout * 1000 + 0.999)):
            if isinstance(source, int):
                ready.append(source)
                continue
            if source in self._monitors:
                ready += [News(self._monitors[source], what) for what in self._monitors[source].news()]
                continue
            link = self._links[source]
            if events & zmq.POLLOUT and link.flush():
                self._poller.modify(source, zmq.POLLIN)
            if events & zmq.POLLIN:
                ready.append(link)
        return ready

    def close(self) -> None:
        """Close everything; links with a linger are given their time."""
        for link in list(self._links.values()):
            self.disconnect(link)
        if self._context is not None:
            self._context.term()

    def _on_blocked(self, link: Link) -> None:
        self._poller.modify(link.socket, zmq.POLLIN | zmq.POLLOUT)


def require_descriptors(count: int) -> None:
    """Raise `OSError` unless so many more descriptors can be opened."""
    taken: list[int] = []
    try:
        while len(taken) < count:
            taken.append(os.eventfd(0, os.EFD_CLOEXEC))
    finally:
        for fd in taken:
            os.close(fd)
