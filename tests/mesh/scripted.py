"""A node that does what a test says: a ROUTER in the test itself.

Nothing here runs by itself: a test reads what the client sent, and sends what it wants to. Only a second connection
for heartbeats is welcomed as soon as it is seen.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import zmq

from skyward.providers.base import Launched
from skyward.transport import lanes
from skyward.wire import payload
from skyward.wire.codec import Decoder, check_body, encode, pack_body, split_body
from skyward.wire.frames import Payload
from skyward.wire.functions import FunctionBlob
from skyward.wire.kinds import CLIENT_MESSAGES
from skyward.wire.lone import Call, Reply
from skyward.wire.messages import (
    PROTOCOL,
    Beat,
    Function,
    Hello,
    Message,
    Module,
    Pulse,
    Refused,
    Results,
    Roster,
    Tasks,
    Welcome,
)
from skyward.wire.sources import ModuleBlob
from skyward.wire.statuses import OK

if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer

LONG = 60.0  # seconds that nothing here takes, however busy the machine is
TOKEN = b"come in"  # what a lane begins with

M = TypeVar("M", bound=Message)


def blob(name: str = "f", *modules: str) -> FunctionBlob:
    """Return code."""
    blobs = tuple(ModuleBlob(module.encode().ljust(16), module, b"source of " + module.encode()) for module in modules)
    return FunctionBlob(name.encode().ljust(16), name, b"code of " + name.encode(), blobs)


class Node:
    """One scripted node."""

    def __init__(self, context: zmq.Context[Any], path: str, *, slots: int = 1, epoch: int = 7) -> None:
        self.endpoint = f"ipc://{path}"
        self.slots = slots
        self.epoch = epoch
        self.log: tuple[str, ...] = ()
        self.body: list[bytes] = []  # of the last message
        self.code: list[Message] = []  # functions and modules that came before the last message asked for
        self.ended = threading.Event()  # the client has had its provider end it
        self.launched: Launched | None = None
        self._context = context
        self._socket: zmq.Socket[bytes] | None = None
        self._peer = b""
        self._seq = 0
        self._echo = 0.0
        self._calls = 0  # SUBMIT and REVOKE messages sent
        self.control = b""  # the second connection, once it has said hello
        self.told: list[Message] = []  # what has come over it
        self._greeters: set[bytes] = set()  # connections that have said hello since it listens
        self._heard: Message | None = None  # what `hears_nothing` has found
        self._death_fd = -1
        self._listener: _socket.socket | None = None
        self.lane: _socket.socket | None = None  # the last that was taken in
        self._decode = Decoder(CLIENT_MESSAGES).decode
        self.bind()

    # --- life ------------------------------------------------------------------------------

    def bind(self) -> None:
        """Listen; again, if it did before: the old connections are gone then."""
        self.close()
        self._greeters.clear()
        self._heard = None
        socket = self._socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(self.endpoint)

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.cut()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def launch(self, *, mortal: bool) -> Launched:
        """Return what its provider says of it."""
        death_fd = os.eventfd(0, os.EFD_CLOEXEC) if mortal else None
        self._death_fd = -1 if death_fd is None else death_fd
        self.launched = Launched(ident=self.endpoint, endpoint=self.endpoint, pid=os.getpid(), death_fd=death_fd)
        return self.launched

    def die(self) -> None:
        """Let its process end."""
        os.eventfd_write(self._death_fd, 1)

    def end(self) -> None:
        """Be ended by the provider."""
        if self._death_fd >= 0:
            os.close(self._death_fd)
            self._death_fd = -1
        self.ended.set()

    # --- lanes -----------------------------------------------------------------------------

    def listen(self) -> None:
        """Take in lanes, too: it has to say so in its welcome."""
        self._listener = lanes.listen(lanes.path_beside(self.endpoint.removeprefix("ipc://")))
        assert self._listener is not None

    def take_in(self) -> None:
        """Take in the lane that the client has opened before it has said anything after the welcome."""
        assert self._listener is not None
        self.cut()
        self.lane = lanes.accept(self._listener)
        assert lanes.receive(self.lane) == TOKEN
        assert lanes.send(self.lane, TOKEN)

    def cut(self) -> None:
        """Close the lane."""
        if self.lane is not None:
            self.lane.close()
            self.lane = None

    def call_by_lane(self) -> Call:
        """Return the next task, which comes by the lane."""
        assert self.lane is not None
        assert select.select([self.lane], [], [], LONG)[0], "nothing comes by the lane"
        message = self._decode(lanes.receive(self.lane) or b"")
        assert isinstance(message, Call)
        return message

    def reply_by_lane(self, id: int, value: object = None) -> None:
        """Send the result of one task by the lane."""
        self._seq += 1
        data = bytes(payload.dumps_value(value).data)
        self.say_by_lane(encode(Reply(self.epoch, self._seq, id, OK, 1000, data)))

    def say_by_lane(self, frame: bytes) -> None:
        """Say anything by the lane."""
        assert self.lane is not None
        assert lanes.send(self.lane, frame)

    def lane_is_quiet(self) -> bool:
        """Return whether nothing has come by the lane."""
        assert self.lane is not None
        return lanes.receive(self.lane) is None

    # --- talking ---------------------------------------------------------------------------

    def receive(self) -> Message:
        """Return the next message of the client; its body is in ``body``."""
        message, self._heard = self._heard or self._take(LONG), None
        assert message is not None, "the client says nothing"
        return message

    def _take(self, patience: float) -> Message | None:
        """Return what comes next but by the control connection, whose messages are told apart; None for nothing."""
        assert self._socket is not None
        while self._socket.poll(int(patience * 1000)):
            peer, header, *body = self._socket.recv_multipart()
            message = self._decode(header)
            assert message is not None
            check_body(message, body)
            if isinstance(message, Hello):
                self._greeters.add(peer)
                if message.channel == "control":
                    self.control = peer
                    self._socket.send_multipart([peer, encode(self.greeting(message, resumed=True))])
            if peer not in self._greeters:
                self._socket.send_multipart([peer, encode(Refused("session", "who are you?", "3.11.0", PROTOCOL))])
            elif peer != self.control:
                self._peer, self.body = peer, body
                return message
            else:
                self.told.append(message)
        return None

    def expect(self, kind: type[M]) -> M:
        """Return the next message, which is of this type.

        Rosters and code may come before it, and beats, which are answered.
        """
        self.code = []
        while True:
            message = self.receive()
            if isinstance(message, kind):
                return message
            if isinstance(message, Beat):
                self.pulse()
                continue
            assert isinstance(message, Function | Module | Roster), f"{message} instead of {kind.__name__}"
            if not isinstance(message, Roster):
                self.code.append(message)

    def hears_nothing(self) -> bool:
        """Return whether no message is there, but for those that come by the control connection at any time."""
        self._heard = self._heard or self._take(0.0)
        return self._heard is None and all(isinstance(message, Hello | Beat) for message in self.told)

    def send(self, message: Message, body: Sequence[Buffer] = ()) -> None:
        """Say something."""
        self.send_frames([encode(message), *body])

    def send_frames(self, frames: Sequence[Buffer]) -> None:
        """Say anything."""
        assert self._socket is not None
        self._socket.send_multipart([self._peer, *frames])

    def welcome(self, *, resumed: bool = False, **changes: Any) -> Hello:
        """Answer the client's hello, and return it."""
        hello = self.expect(Hello)
        self.send(self.greeting(hello, resumed=resumed, **changes))
        return hello

    def greeting(self, hello: Hello, *, resumed: bool, **changes: Any) -> Welcome:
        """Return the answer to a hello."""
        fields: dict[str, Any] = {
            "protocol": PROTOCOL,
            "python": hello.python,
            "versions": {},
            "session": hello.session,
            "epoch": self.epoch,
            "slots": self.slots,
            "executor": "process",
            "hostname": "scripted",
            "address": "here",
            "pid": 1,
            "accelerators": [],
            "resumed": resumed,
        }
        return Welcome(**{**fields, **changes})

    def refuse(self, code: str, *, python: str = "3.99.0", protocol: int = PROTOCOL) -> None:
        """Say that it does not talk to the client."""
        self.send(Refused(code, "so be it", python, protocol))

    def number(self) -> int:
        """Return the number of the next SUBMIT or REVOKE."""
        self._calls += 1
        return self._calls

    def pulse(self, heard: int = 0) -> None:
        """Show that it lives, over the second connection if there is one."""
        self._echo += 1.0
        pulse = Pulse(self.epoch, 0, 0, self._echo, heard)
        if self.control:
            self.say_over_control(pulse)
        else:
            self.send(pulse)

    def say_over_control(self, message: Message) -> None:
        """Say something over the second connection."""
        assert self._socket is not None
        self._socket.send_multipart([self.control, encode(message)])

    def finish(self, ids: Sequence[int], value: object = None, **changes: Any) -> None:
        """Send the results of tasks, all with this value."""
        self._seq = changes.pop("seq", self._seq + 1)
        status = changes.pop("status", OK)
        data = changes.pop("data", None)
        payloads = [payload.dumps_value(value) if data is None else Payload(data) for _ in ids]
        sizes, buffers, body = pack_body(payloads)
        statuses = [status] * len(ids)
        epoch = changes.pop("epoch", self.epoch)
        assert not changes
        self.send(Results(epoch, self._seq, list(ids), statuses, sizes, buffers, [1000] * len(ids)), body)

    def reply(self, id: int, value: object = None, *, seq: int | None = None, epoch: int | None = None) -> None:
        """Send the result of one task in one frame."""
        self._seq = self._seq + 1 if seq is None else seq
        data = bytes(payload.dumps_value(value).data)
        self.send(Reply(self.epoch if epoch is None else epoch, self._seq, id, OK, 1000, data))

    def tasks(self) -> list[int]:
        """Return the ids of the next batch of tasks."""
        return self.expect(Tasks).ids

    def payloads(self, message: Tasks) -> list[bytes]:
        """Return the arguments of a batch that has just come."""
        return [bytes(data) for data, _ in split_body(message.sizes, message.buffers, self.body)]
