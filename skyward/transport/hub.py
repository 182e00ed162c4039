"""All sockets of a pool under one poller, and the descriptors that are watched beside them.

Only the owner of the loop touches a hub. This is a driver: it says what can be read, and decides nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

import zmq

from skyward.dispatch.alertness import Alertness
from skyward.transport import lanes
from skyward.transport.links import Connection, Link
from skyward.transport.polling import Poller
from skyward.transport.sockets import IO_THREADS, READABLE, WRITABLE

if TYPE_CHECKING:
    from skyward.transport.keys import KeyPair
    from skyward.transport.sockets import Context, Socket

# Descriptors that ZeroMQ may need at once. It ends the whole process, or waits for ever, where one is missing.
CONTEXT: Final = 8  # threads and what wakes them
LINK: Final = 7  # a socket, its monitor, its connection, its lane


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
        self._poller = Poller()
        self._answers = Alertness()
        self._links: dict[Socket, Link] = {}
        self._monitors: dict[Socket, Link] = {}
        self._lanes: dict[int, Link] = {}  # by descriptor
        self._watched: set[int] = set()

    def connect(self, endpoint: str, rank: int, server_key: str = "", *, urgent: bool = False) -> Link:
        """Return a link to a node, which connects in the background.

        ``server_key`` is the node's, if it has one. What is ``urgent`` is not held up by what is not. Raises
        `OSError` if there are too few descriptors.
        """
        require_descriptors(LINK if self._context is not None else CONTEXT + LINK)
        if self._context is None:
            self._context = zmq.Context(IO_THREADS)
        link = Link(self._context, endpoint, rank, self._poller, self.keys, server_key, urgent=urgent)
        self._links[link.socket] = link
        if link.monitor is not None:
            self._monitors[link.monitor] = link
            self._poller.register(link.monitor)
        return link

    def disconnect(self, link: Link) -> None:
        """Close a link."""
        if self._links.pop(link.socket, None) is not None:
            self._poller.unregister(link.socket)
            self.close_lane(link)
            if link.monitor is not None:
                del self._monitors[link.monitor]
                self._poller.unregister(link.monitor)
            link.close()

    def open_lane(self, link: Link, token: bytes) -> None:
        """Open a lane beside a link, if the node takes it in."""
        self.close_lane(link)
        lane = lanes.dial(link.endpoint, token)
        if lane is not None:
            link.lay(lane, token)
            self._lanes[lane.fileno()] = link
            self._poller.register(lane.fileno())

    def close_lane(self, link: Link) -> None:
        """Close the lane beside a link, if there is one."""
        lane, link.lane = link.lane, None
        if lane is not None:
            del self._lanes[lane.fileno()]
            self._poller.unregister(lane.fileno())
            lanes.close(lane)

    def watch(self, fd: int) -> None:
        """Report the descriptor when it is readable."""
        self._poller.register(fd)
        self._watched.add(fd)

    def unwatch(self, fd: int) -> None:
        """Report it no more."""
        if fd in self._watched:
            self._watched.remove(fd)
            self._poller.unregister(fd)

    def poll(self, timeout: float, *, eager: bool = False) -> list[Link | News | int]:
        """Return the links and descriptors that can be read, waiting for one at most ``timeout`` seconds.

        Also the news about connections. What waited in a link goes out on the way. ``eager``: somebody does nothing but
        wait for the answer to all that was said.
        """
        ready: list[Link | News | int] = []
        for source, events in self._poller.poll(timeout, self._answers if eager else None):
            if isinstance(source, int):
                if (link := self._lanes.get(source)) is None:
                    ready.append(source)
                elif link.look_at_lane():
                    ready.append(link)
                else:
                    self.close_lane(link)
                    ready.append(News(link, Connection.CUT))
            elif (link := self._links.get(source)) is not None:
                if events & WRITABLE:
                    link.flush()
                if events & READABLE:
                    ready.append(link)
            else:
                link = self._monitors[source]
                ready += [News(link, what) for what in link.news()]
        return ready

    def close(self) -> None:
        """Close everything; links with a linger are given their time."""
        for link in list(self._links.values()):
            self.disconnect(link)
        if self._context is not None:
            self._context.term()
        self._poller.close()


def require_descriptors(count: int) -> None:
    """Raise `OSError` unless so many more descriptors can be opened."""
    taken: list[int] = []
    try:
        while len(taken) < count:
            taken.append(os.eventfd(0, os.EFD_CLOEXEC))
    finally:
        for fd in taken:
            os.close(fd)
