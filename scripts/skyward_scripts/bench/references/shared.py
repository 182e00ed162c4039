"""An array through shared memory whose pages are warm, handed over by a message on a Unix socket."""

from __future__ import annotations

import os
import pickle
from multiprocessing import shared_memory
from typing import TYPE_CHECKING, Any

import zmq

from skyward_scripts.bench.contestant import Contestant
from skyward_scripts.bench.references.bulk import FETCH, SEND, Arrays
from skyward_scripts.bench.references.places import Places
from skyward_scripts.bench.references.workers import Socket, fork, kill, secure

if TYPE_CHECKING:
    from skyward_scripts.bench.contestant import Task

ITEM = 8  # bytes of a float64


def serve(endpoint: str) -> None:
    """Serve as the worker: sum what lies in a segment, or fill it."""
    socket = secure(zmq.Context().socket(zmq.DEALER), None, server=True)
    socket.bind(endpoint)
    views = Views()
    ready = Arrays()
    while True:
        order, name, length = socket.recv_multipart()
        view = views.attach(name.decode(), int(length))
        if order == SEND:
            socket.send(pickle.dumps((os.getpid(), float(view.sum()))))
        else:
            view[:] = ready.of(int(length))
            socket.send(b"")


class Views:
    """Segments as arrays, attached once."""

    def __init__(self) -> None:
        self._segments: dict[str, shared_memory.SharedMemory] = {}

    def attach(self, name: str, length: int) -> Any:
        """Return the array that lies in a segment."""
        import numpy as np

        if name not in self._segments:
            self._segments[name] = shared_memory.SharedMemory(name)
        return np.ndarray((length,), buffer=self._segments[name].buf)


class Shared(Contestant):
    """One client, one worker, one segment for each length, used again and again."""

    def open(self, workers: int) -> None:
        """Start the worker and connect."""
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # both processes share one, so that it hears of each segment once
        self.places = Places("ipc")
        endpoint = self.places.new()
        self.processes = [fork(serve, endpoint)]
        self.context: zmq.Context[Socket] = zmq.Context()
        self.socket = secure(self.context.socket(zmq.DEALER), None, server=False)
        self.socket.connect(endpoint)
        self.segments: dict[int, shared_memory.SharedMemory] = {}

    def close(self) -> None:
        """End both, and remove the segments."""
        self.context.destroy(linger=0)
        kill(self.processes)
        self.places.close()
        for segment in self.segments.values():
            segment.close()
            segment.unlink()

    def send(self, task: Task, array: Any) -> Any:
        """Copy an array into the segment; return what the worker says of it."""
        name = self._name(len(array))
        self._view(len(array))[:] = array
        self.socket.send_multipart((SEND, name, b"%d" % len(array)))
        return pickle.loads(self.socket.recv())  # noqa: S301 - our own worker's

    def fetch(self, task: Task, length: int) -> Any:
        """Let the worker fill the segment; return the array in it."""
        self.socket.send_multipart((FETCH, self._name(length), b"%d" % length))
        self.socket.recv()
        return self._view(length)

    def _name(self, length: int) -> bytes:
        if length not in self.segments:
            self.segments[length] = shared_memory.SharedMemory(create=True, size=ITEM * length)
        return self.segments[length].name.encode()

    def _view(self, length: int) -> Any:
        import numpy as np

        return np.ndarray((length,), buffer=self.segments[length].buf)
