"""A generator in plain pyzmq: its values in batches, its arrays as messages of their own, a few messages ahead.

It is what batching and credit alone allow. Small values are pickled a batch at a time; an array is copied into its
message when it is yielded, and read where it has come in.
"""

from __future__ import annotations

import itertools
import pickle
from typing import TYPE_CHECKING, Any

import zmq

from skyward_scripts.bench import tasks
from skyward_scripts.bench.contestant import Contestant
from skyward_scripts.bench.references.places import Places
from skyward_scripts.bench.references.workers import Socket, fork, kill, secure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from skyward_scripts.bench.contestant import Task

BATCH = 256  # values in a message
AHEAD = 8  # messages that the worker may be ahead
TAKEN = b"taken"  # a message was
END = b""


def serve(endpoint: str) -> None:
    """Serve as the worker: run generators, one after the other."""
    socket = secure(zmq.Context().socket(zmq.DEALER), None, server=True)
    socket.bind(endpoint)
    while True:
        name, item = pickle.loads(socket.recv())  # noqa: S301 - our own client's
        values = getattr(tasks, name)(item)
        credit = AHEAD
        for message in _batches(values) if name == "numbers" else values:
            if not credit:
                socket.recv()
                credit += 1
            socket.send(message)
            credit -= 1
        socket.send(END)
        for _ in range(AHEAD - credit):
            socket.recv()


def _batches(values: Iterator[Any]) -> Iterator[bytes]:
    while batch := list(itertools.islice(values, BATCH)):
        yield pickle.dumps(batch, 5)


class Yields(Contestant):
    """One client, one worker."""

    def open(self, workers: int) -> None:
        """Start the worker and connect."""
        self.places = Places("ipc")
        endpoint = self.places.new()
        self.processes = [fork(serve, endpoint)]
        self.context: zmq.Context[Socket] = zmq.Context()
        self.socket = secure(self.context.socket(zmq.DEALER), None, server=False)
        self.socket.connect(endpoint)

    def close(self) -> None:
        """End both."""
        self.context.destroy(linger=0)
        kill(self.processes)
        self.places.close()

    def iterate(self, task: Task, item: Any) -> Iterable[Any]:
        """Ask for a generator, and let it go on as values are taken."""
        name = task.__name__
        self.socket.send(pickle.dumps((name, item), 5))
        return self._values() if name == "numbers" else self._arrays()

    def _values(self) -> Iterator[Any]:
        while message := self.socket.recv():
            self.socket.send(TAKEN)
            yield from pickle.loads(message)  # noqa: S301 - our own worker's

    def _arrays(self) -> Iterator[Any]:
        import numpy as np

        while frame := self.socket.recv(copy=False).buffer:
            yield np.frombuffer(frame)
            self.socket.send(TAKEN)
