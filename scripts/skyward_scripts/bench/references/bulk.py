"""An array as messages of 1 MiB over TCP, put together and summed on the other side."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any, ClassVar

import zmq

from skyward_scripts.bench.contestant import Contestant
from skyward_scripts.bench.references.places import Places
from skyward_scripts.bench.references.workers import Keys, Socket, Transport, fork, kill, make_keys, secure

if TYPE_CHECKING:
    from skyward_scripts.bench.contestant import Task

CHUNK = 2**20  # bytes
SEND, FETCH = b"send", b"fetch"


def serve(endpoint: str, keys: Keys | None) -> None:
    """Serve as the worker: sum arrays that come, and send arrays that are asked for."""
    socket = secure(zmq.Context().socket(zmq.DEALER), keys, server=True)
    _deepen(socket)
    socket.bind(endpoint)
    received, ready = Arrays(), Arrays()
    while True:
        order, length = socket.recv_multipart()
        if order == SEND:
            array = received.of(int(length))
            receive(socket, array)
            socket.send(pickle.dumps((os.getpid(), float(array.sum()))))
        else:
            send(socket, ready.of(int(length)))


class Arrays:
    """Arrays that are used again, by length: fresh pages would cost more than the way."""

    def __init__(self) -> None:
        self._arrays: dict[int, Any] = {}

    def of(self, length: int) -> Any:
        """Return the array of that length: ones, if nothing has been put there, after the id of the process."""
        import numpy as np

        if length not in self._arrays:
            self._arrays[length] = np.ones(length)
            self._arrays[length][0] = os.getpid()
        return self._arrays[length]


def send(socket: Socket, array: Any) -> None:
    """Send an array in chunks, without copying it."""
    view = memoryview(array).cast("B")
    for start in range(0, len(view), CHUNK):
        socket.send(view[start : start + CHUNK], copy=False)


def receive(socket: Socket, array: Any) -> None:
    """Put chunks together where the array is."""
    view = memoryview(array).cast("B")
    start = 0
    while start < len(view):
        chunk = socket.recv(copy=False).buffer
        view[start : start + len(chunk)] = chunk
        start += len(chunk)


def _deepen(socket: Socket) -> None:
    socket.setsockopt(zmq.SNDHWM, 0)  # a chunk never waits for a place in the queue
    socket.setsockopt(zmq.RCVHWM, 0)


class Chunks(Contestant):
    """One client, one worker, TCP."""

    transport: ClassVar[Transport] = "tcp"

    def open(self, workers: int) -> None:
        """Start the worker and connect."""
        keys = make_keys() if self.transport == "curve" else None
        self.places = Places("tcp")
        endpoint = self.places.new()
        self.processes = [fork(serve, endpoint, keys)]
        self.context: zmq.Context[Socket] = zmq.Context()
        self.socket = secure(self.context.socket(zmq.DEALER), keys, server=False)
        _deepen(self.socket)
        self.socket.connect(endpoint)
        self.arrays = Arrays()

    def close(self) -> None:
        """End both."""
        self.context.destroy(linger=0)
        kill(self.processes)

    def send(self, task: Task, array: Any) -> Any:
        """Send an array; return what the worker says of it."""
        self.socket.send_multipart((SEND, b"%d" % len(array)))
        send(self.socket, array)
        return pickle.loads(self.socket.recv())  # noqa: S301 - our own worker's

    def fetch(self, task: Task, length: int) -> Any:
        """Ask for an array and return it."""
        self.socket.send_multipart((FETCH, b"%d" % length))
        array = self.arrays.of(length)
        receive(self.socket, array)
        return array


class ChunksCurve(Chunks):
    """The same behind CURVE."""

    transport: ClassVar[Transport] = "curve"
