"""A port behind CURVE whose handler works while the test waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import zmq

from skyward.transport.keys import KeyPair, make_pair
from skyward.transport.sockets import make_router, secure_router
from skyward_node.zap import Zap

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward.transport.sockets import Context, Socket

LONG = 10.0  # seconds for what takes milliseconds


class Port:
    """A node's end of links."""

    def __init__(self, context: Context, *admitted: str, keys: KeyPair | None = None) -> None:
        self.context = context
        self.keys = keys or make_pair()
        self.zap = Zap(context, admitted)
        self.endpoint = "tcp://127.0.0.1:*"
        self.router: Socket = self.listen()

    def listen(self) -> Socket:
        """Listen, at the same port as before if it did."""
        self.router = make_router(self.context, max_frame=1_000_000)
        secure_router(self.router, self.keys)
        deadline = time.monotonic() + LONG
        while True:
            try:
                self.router.bind(self.endpoint)
            except zmq.ZMQError:  # the socket that had the port is being closed by ZeroMQ's own thread
                assert time.monotonic() < deadline
                time.sleep(0.001)
            else:
                break
        self.endpoint = self.router.getsockopt_string(zmq.LAST_ENDPOINT)
        return self.router

    def until(self, condition: Callable[[], object]) -> None:
        """Answer handshakes until the condition holds."""
        deadline = time.monotonic() + LONG
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            if self.zap.socket.poll(1):
                self.zap.serve()

    def receive(self) -> list[bytes]:
        """Return the next message, the connection first."""
        self.until(lambda: self.router.poll(1))
        return self.router.recv_multipart()

    def close(self) -> None:
        """Close it."""
        self.zap.close()
        self.router.close(0)
