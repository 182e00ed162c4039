"""A client of a node that speaks the protocol by hand, and may break its rules."""

from __future__ import annotations

import os
import platform
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import zmq

import skyward as sky
from skyward.calls import function as mark
from skyward.transport.sockets import make_dealer, receive_frames, send_frames
from skyward.wire import failures, payload
from skyward.wire.codec import Decoder, encode, pack_body, split_body
from skyward.wire.functions import FunctionStore
from skyward.wire.kinds import NODE_MESSAGES
from skyward.wire.messages import (
    PROTOCOL,
    Beat,
    Bye,
    Function,
    Hello,
    Message,
    Module,
    Progress,
    Results,
    Tasks,
    Welcome,
)
from skyward.wire.statuses import OK
from tests.security.nodes import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from skyward.transport.keys import KeyPair
    from skyward.transport.sockets import Context, Socket
    from tests.security.nodes import Node

BEAT: Final = 0.1  # seconds between beats while it waits
LINGER: Final = 1_000  # ms that the last words may take


@contextmanager
def events_of(socket: Socket, events: int) -> Generator[Socket]:
    """Give a socket that tells what becomes of another one's connection."""
    monitor = socket.get_monitor_socket(events)
    try:
        yield monitor
    finally:
        socket.disable_monitor()
        monitor.close(0)


def refusal(node: tuple[str, str], key_file: str) -> tuple[Exception, float]:
    """Open a pool of a node that does not want us, or that we do not want; return the error and the time it took."""
    began = time.monotonic()
    with pytest.raises(sky.SkywardError) as caught:
        sky.Compute(sky.Static([node], key=key_file)).open()
    return caught.value, time.monotonic() - began


class Peer:
    """One connection. ``setup`` is done to the socket before it connects."""

    def __init__(self, context: Context, node: Node, keys: KeyPair, setup: Callable[[Socket], object] = id) -> None:
        self.socket = make_dealer(context, keys=keys, server_key=node.key)
        setup(self.socket)
        self.socket.connect(node.endpoint)
        self.session = os.urandom(16)
        self.epoch = 0
        self.seen = 0  # of the results
        self.log: list[Message] = []
        self.started: list[int] = []
        self.deliveries: list[int] = []
        self.outcomes: dict[int, tuple[int, Any]] = {}
        self._next_id = 1
        self._known: set[bytes] = set()
        self._decoder = Decoder(NODE_MESSAGES)
        self._store = FunctionStore()

    # --- out ---------------------------------------------------------------------------------

    def send(self, message: Message, body: Sequence[Any] = ()) -> None:
        """Send one message."""
        self.send_frames([encode(message), *body])

    def send_frames(self, frames: Sequence[Any]) -> None:
        """Send any frames, once the socket takes them."""
        assert self.socket.poll(int(PATIENCE * 1000), zmq.POLLOUT), "no connection"
        send_frames(self.socket, frames)

    def greet(self, **changes: Any) -> None:
        """Say hello."""
        fields: dict[str, Any] = {"session": self.session, "epoch": self.epoch, "ack": self.seen}
        fields |= {"protocol": PROTOCOL, "python": platform.python_version(), "versions": {}, "label": "test:1"}
        fields |= {"lease": 0.0, "heartbeat": 0.25, "cancel_grace": 0.3, "max_payload": 0}
        self.send(Hello(**(fields | changes)))

    def hello(self, **changes: Any) -> Welcome:
        """Say hello, and return the node's answer."""
        self.greet(**changes)
        welcome: Welcome = self.wait_for(Welcome)
        self.epoch = welcome.epoch
        return welcome

    def beat(self) -> None:
        """Show that we live, and acknowledge what has come."""
        self.send(Beat(self.epoch, self.seen, time.monotonic()))

    def leave(self) -> None:
        """Say goodbye, and close."""
        self.send(Bye(self.epoch, self.seen, "done"))
        self.socket.close(LINGER)

    def tasks(self, function: Callable[..., Any], *calls: tuple[Any, ...], retries: int = 3) -> tuple[Tasks, list[Any]]:
        """Return a message with calls of a function, whose code has been sent, and its body."""
        blob = self._store.resolve(mark(function), frozenset())
        if blob.key not in self._known:
            self._known.add(blob.key)
            for module in blob.modules:
                self.send(Module(self.epoch, module.key, module.name), [module.body])
            self.send(Function(self.epoch, blob.key, [module.key for module in blob.modules], blob.name), [blob.body])
        ids = list(range(self._next_id, self._next_id + len(calls)))
        self._next_id += len(ids)
        sizes, buffers, body = pack_body([payload.dumps_call(call, {}, names=())[0] for call in calls])
        zeros = [0] * len(ids)
        return Tasks(self.epoch, self.seen, [blob.key], ids, zeros, sizes, buffers, [retries] * len(ids)), body

    def submit(self, function: Callable[..., Any], *calls: tuple[Any, ...], retries: int = 3) -> list[int]:
        """Send calls of a function; return the ids of the tasks."""
        message, body = self.tasks(function, *calls, retries=retries)
        self.send(message, body)
        return message.ids

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function and return what it returns."""
        return self.value(*self.submit(function, arguments))

    # --- in ----------------------------------------------------------------------------------

    def value(self, id: int) -> Any:
        """Wait for a task's value."""
        self.until(lambda: id in self.outcomes)
        status, value = self.outcomes[id]
        assert status == OK, value
        return value

    def wait_for(self, kind: type[Any]) -> Any:
        """Wait for a message of a type, and return it."""
        start = len(self.log)
        self.until(lambda: any(isinstance(message, kind) for message in self.log[start:]))
        return next(message for message in self.log[start:] if isinstance(message, kind))

    def until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Take in messages, and beat, until the condition holds."""
        deadline = time.monotonic() + patience
        beat = time.monotonic() + BEAT
        while not condition():
            now = time.monotonic()
            assert now < deadline, f"nothing came of it; last messages: {self.log[-5:]}"
            if self.epoch and now >= beat:
                beat = now + BEAT
                self.beat()
            if self.socket.poll(int(BEAT * 1000)):
                self.take()

    def take(self) -> Message:
        """Take in one message, which must be there, and return it."""
        frames = receive_frames(self.socket, copied=1)
        message = self._decoder.decode(frames[0])
        assert message is not None
        self.log.append(message)
        if isinstance(message, Progress):
            self.started += message.started
        elif isinstance(message, Results) and message.seq > self.seen:
            self.seen = message.seq
            rows = split_body(message.sizes, message.buffers, frames[1:])
            for id, status, (data, buffers) in zip(message.ids, message.statuses, rows, strict=True):
                value = payload.loads_value(data, buffers) if status == OK else failures.decode(data)
                self.outcomes[id] = status, value
                self.deliveries.append(id)
        return message
