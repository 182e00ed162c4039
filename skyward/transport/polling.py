"""Waiting for ZeroMQ sockets and descriptors by epoll: what a wait costs does not grow with what is idle.

The descriptor of a ZeroMQ socket says only that something may have happened to the socket, and says it once: every
send and every receive may take note of it on the way. So a socket that has been used is asked before the next wait
(`used`), and the descriptor tells about all others. Whoever has read a socket until it was empty (`zmq.Again`, or
nothing from `poll_now`) has asked already.

Where an answer is expected within a moment, and sleeping until then has been slower (`dispatch.alertness`), a poller
looks again and again before it sleeps, and lets whoever could bring the answer run in between.

This is a driver: it says what may be read or written, and decides nothing.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, cast

import zmq

from skyward.dispatch.alertness import MOMENT
from skyward.transport.sockets import READABLE, poll_now

if TYPE_CHECKING:
    from skyward.dispatch.alertness import Alertness
    from skyward.transport.sockets import Socket


class Poller:
    """Sockets and descriptors that are waited for together. One thread at a time."""

    def __init__(self, most: int = -1) -> None:
        """``most``: descriptors that one poll tells of; the rest stays ready."""
        self._epoll = select.epoll()
        self._most = most
        self._sockets: dict[int, Socket] = {}  # by their descriptors
        self._wanted: dict[Socket, int] = {}
        self._used: dict[Socket, int] = {}

    def register(self, source: Socket | int, events: int = READABLE) -> None:
        """Wait for a source, too, until ``events`` come: of a descriptor those of epoll, where readable is the same."""
        if isinstance(source, int):
            self._epoll.register(source, events)
            return
        if source not in self._wanted:
            fd = cast("int", source.getsockopt(zmq.FD))
            self._sockets[fd] = source
            self._epoll.register(fd, select.EPOLLIN)
        self._wanted[source] = events
        self.used(source)

    def modify(self, fd: int, events: int) -> None:
        """Wait for other events of a descriptor."""
        self._epoll.modify(fd, events)

    def unregister(self, source: Socket | int) -> None:
        """Wait for it no more; before it is closed."""
        if isinstance(source, int):
            self._epoll.unregister(source)
            return
        fd = cast("int", source.getsockopt(zmq.FD))
        self._epoll.unregister(fd)
        del self._sockets[fd], self._wanted[source]
        self._used.pop(source, None)

    def used(self, socket: Socket) -> None:
        """Note that something was sent over a socket, or received without seeing the end."""
        self._used[socket] = self._wanted[socket]

    def poll(self, timeout: float, alertness: Alertness | None = None) -> list[tuple[Socket | int, int]]:
        """Return sources and what may be done with each, waiting for one at most ``timeout`` seconds.

        A socket may turn out to be empty all the same; it has to be read until it is, or to be `used`. With
        ``alertness`` it is for an answer of that kind.
        """
        ready: list[tuple[Socket | int, int]] = []
        if self._used:
            asked = list(self._used.items())
            self._used.clear()
            if ready := poll_now(asked, 0):
                timeout = 0.0
        told = [source for source, _ in ready] if ready else ()
        if alertness is None or timeout <= 0.0:
            found = self._epoll.poll(timeout, self._most)
        else:
            found = self._await(timeout, alertness)
        for fd, events in found:
            socket = self._sockets.get(fd)
            if socket is None:
                ready.append((fd, events))
            elif socket in told:
                continue
            elif (wanted := self._wanted[socket]) == READABLE:
                ready.append((socket, READABLE))
            else:
                ready += poll_now([(socket, wanted)], 0)
        return ready

    def _await(self, timeout: float, alertness: Alertness) -> list[tuple[int, int]]:
        """Poll for an answer, awake or asleep."""
        poll = self._epoll.poll
        began = time.monotonic()
        awake = alertness.stay_awake()
        ready: list[tuple[int, int]] = []
        if awake:
            end = began + min(MOMENT, timeout)
            while not (ready := poll(0)) and time.monotonic() < end:
                os.sched_yield()
        if not ready:
            ready = poll(max(0.0, began + timeout - time.monotonic()) if awake else timeout)
        alertness.note(time.monotonic() - began, awake=awake, answered=bool(ready))
        return ready

    def close(self) -> None:
        """Give the descriptor back."""
        self._epoll.close()
