"""The bare mesh: two nodes that are their own workers, 64 tasks a message, the slimmest future that works.

It is what batching alone allows: the argument of every task is pickled, every task is called, and every value
finds its future, with nothing else done.
"""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import zmq

from skyward_scripts.bench.contestant import Contestant
from skyward_scripts.bench.references.places import Places
from skyward_scripts.bench.references.workers import Socket, fork, kill, secure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.process import BaseProcess

    from skyward_scripts.bench.contestant import Call, Task

BATCH = 64  # tasks in a message
AHEAD = 8  # messages under way to each node: it never waits for the client


def work(endpoint: str) -> None:
    """Serve as a node that runs what it is sent."""
    router = secure(zmq.Context().socket(zmq.ROUTER), None, server=True)
    router.bind(endpoint)
    while True:
        peer, number, request = router.recv_multipart()
        values = [_no_op(*arguments) for arguments in pickle.loads(request)]  # noqa: S301 - our own client's
        router.send_multipart((peer, number, pickle.dumps(values, 5)))


def _no_op(item: Any) -> int:
    return os.getpid()


class SlimFuture:
    """A value that is there or not."""

    __slots__ = ("done", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None


class Mesh(Contestant):
    """A client with one DEALER per node."""

    def open(self, workers: int) -> None:
        """Start nodes, and connect to each."""
        self.places = Places("ipc")
        endpoints = [self.places.new() for _ in range(workers)]
        self.processes: list[BaseProcess] = [fork(work, endpoint) for endpoint in endpoints]
        self.context: zmq.Context[Socket] = zmq.Context()
        self.poller = zmq.Poller()
        self.dealers: list[Socket] = []
        for endpoint in endpoints:
            dealer = secure(self.context.socket(zmq.DEALER), None, server=False)
            dealer.connect(endpoint)
            self.poller.register(dealer, zmq.POLLIN)
            self.dealers.append(dealer)

    def close(self) -> None:
        """End them all."""
        self.context.destroy(linger=0)
        kill(self.processes)
        self.places.close()

    def gather(self, calls: Sequence[Call]) -> Sequence[Any]:
        """Send batches to whoever has room, and give each task's value to its future."""
        futures = [SlimFuture() for _ in calls]
        starts = iter(range(0, len(calls), BATCH))
        waiting = -(-len(calls) // BATCH)
        for dealer in self.dealers * AHEAD:
            self._send(dealer, calls, next(starts, None))
        while waiting:
            for dealer, _ in self.poller.poll():
                number, answer = dealer.recv_multipart()
                self._send(dealer, calls, next(starts, None))
                start = int(number)
                values: list[Any] = pickle.loads(answer)  # noqa: S301 - our own worker's
                for future, value in zip(futures[start : start + BATCH], values, strict=True):
                    future.value = value
                    future.done = True
                waiting -= 1
        return [future.value for future in futures if future.done]

    def _send(self, dealer: Socket, calls: Sequence[tuple[Task, Any]], start: int | None) -> None:
        if start is not None:
            arguments = [(item,) for _, item in calls[start : start + BATCH]]
            dealer.send_multipart((b"%d" % start, pickle.dumps(arguments, 5)))
