"""A lone call in plain pyzmq: one leg (client and worker) or two (client, router, worker), and back.

Both legs of two go over the same transport. A worker answers with the id of its process.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import zmq

from skyward_scripts.bench.contestant import Contestant
from skyward_scripts.bench.references.places import Places
from skyward_scripts.bench.references.workers import Keys, Socket, Transport, fork, kill, make_keys, secure

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from skyward_scripts.bench.contestant import Task

READY = b"ready"


def answer_peers(endpoint: str, keys: Keys | None) -> None:
    """Serve as the worker of one leg."""
    router = secure(zmq.Context().socket(zmq.ROUTER), keys, server=True)
    router.bind(endpoint)
    pid = b"%d" % os.getpid()
    while True:
        peer, _ = router.recv_multipart()
        router.send_multipart((peer, pid))


def answer_router(endpoint: str, keys: Keys | None) -> None:
    """Serve as the worker of two legs."""
    dealer = secure(zmq.Context().socket(zmq.DEALER), keys, server=False)
    dealer.connect(endpoint)
    pid = b"%d" % os.getpid()
    dealer.send(READY)
    while True:
        client, _ = dealer.recv_multipart()
        dealer.send_multipart((client, pid))


def route(front: str, back: str, workers: int, keys: Keys | None) -> None:
    """Pass requests to the workers in turn, and answers to the client."""
    context = zmq.Context()
    clients = secure(context.socket(zmq.ROUTER), keys, server=True)
    servants = secure(context.socket(zmq.ROUTER), keys, server=True)
    servants.bind(back)
    idle: list[bytes] = []
    while len(idle) < workers:
        idle.append(servants.recv_multipart()[0])
    clients.bind(front)
    poller = zmq.Poller()
    poller.register(clients, zmq.POLLIN)
    poller.register(servants, zmq.POLLIN)
    while True:
        for socket, _ in poller.poll():
            if socket is clients:
                client, request = clients.recv_multipart()
                servants.send_multipart((idle.pop(0), client, request))
            else:
                worker, client, answer = servants.recv_multipart()
                idle.append(worker)
                clients.send_multipart((client, answer))


class Legs(Contestant, ABC):
    """What one and two legs share: a client's DEALER, and processes."""

    transport: ClassVar[Transport] = "ipc"
    processes: list[BaseProcess]
    context: zmq.Context[Socket]
    dealer: Socket

    def open(self, workers: int) -> None:
        """Start processes, and connect once they are forked."""
        keys = make_keys() if self.transport == "curve" else None
        self.places = Places(self.transport)
        endpoints = self.start(workers, keys)
        self.context = zmq.Context()
        self.dealer = secure(self.context.socket(zmq.DEALER), keys, server=False)
        for endpoint in endpoints:
            self.dealer.connect(endpoint)

    @abstractmethod
    def start(self, workers: int, keys: Keys | None) -> list[str]:
        """Start processes and return where the client connects."""

    def close(self) -> None:
        """End them all."""
        self.context.destroy(linger=0)
        kill(self.processes)
        self.places.close()

    def call(self, task: Task, item: Any) -> Any:
        """Send a request and wait for the answer."""
        self.dealer.send(b"%d" % item)
        return int(self.dealer.recv())


class OneLeg(Legs):
    """Client and workers, which a DEALER asks in turn."""

    def start(self, workers: int, keys: Keys | None) -> list[str]:
        """Start the workers."""
        endpoints = [self.places.new() for _ in range(workers)]
        self.processes = [fork(answer_peers, endpoint, keys) for endpoint in endpoints]
        return endpoints


class OneLegCurve(OneLeg):
    """The same over TCP behind CURVE."""

    transport: ClassVar[Transport] = "curve"


class TwoLegs(Legs):
    """Client, router and workers."""

    def start(self, workers: int, keys: Keys | None) -> list[str]:
        """Start a router and its workers."""
        front, back = self.places.new(), self.places.new()
        self.processes = [fork(route, front, back, workers, keys)]
        self.processes += [fork(answer_router, back, keys) for _ in range(workers)]
        return [front]


class TwoLegsTcp(TwoLegs):
    """The same over TCP."""

    transport: ClassVar[Transport] = "tcp"


class TwoLegsCurve(TwoLegs):
    """The same over TCP behind CURVE."""

    transport: ClassVar[Transport] = "curve"
