"""A node that speaks the protocol and lies: what a client is told by whoever owns a key that it trusts."""

from __future__ import annotations

import os
import platform
import threading
from typing import TYPE_CHECKING, Any, Final

from skyward.transport.keys import make_pair
from skyward.transport.sockets import make_router, receive_frames, send_frames
from skyward.wire.codec import Decoder, encode, pack_body
from skyward.wire.frames import Payload
from skyward.wire.kinds import CLIENT_MESSAGES
from skyward.wire.messages import PROTOCOL, Beat, Bye, Hello, Message, Pulse, Results, Tasks, Welcome
from skyward.wire.statuses import OK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skyward.transport.sockets import Context

EPOCH: Final = 77
LOOK: Final = 50  # ms between looks whether to end


class Forger:
    """Welcomes every client and keeps the tasks it is sent; ``tell`` has it say anything."""

    def __init__(self, context: Context) -> None:
        pair = make_pair()
        self._router = make_router(context, max_frame=10**8)
        self._router.curve_server = True
        self._router.curve_secretkey, self._router.curve_publickey = pair.secret.encode(), pair.public.encode()
        port = self._router.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{port}", pair.public
        self.ids: list[int] = []  # of the tasks that it was given
        self.seq = 0
        self._to_say: list[list[Any]] = []
        self._decode = Decoder(CLIENT_MESSAGES).decode
        self._data = b""  # the connection that results belong to
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def tell(self, message: Message, body: Iterable[Any] = ()) -> None:
        """Say something on the connection for data, soon."""
        self._to_say.append([encode(message), *body])

    def forge(self, ids: Iterable[int], pickle: bytes, epoch: int = EPOCH) -> None:
        """Claim to have the results of tasks."""
        ids = list(ids)
        sizes, buffers, body = pack_body([Payload(pickle)] * len(ids))
        self.seq += 1
        self.tell(Results(epoch, self.seq, ids, [OK] * len(ids), sizes, buffers, [1] * len(ids)), body)

    def close(self) -> None:
        """Be gone."""
        self._over.set()
        self._thread.join()
        self._router.close(0)

    def _serve(self) -> None:
        while not self._over.is_set():
            while self._to_say and self._data:
                send_frames(self._router, [self._data, *self._to_say.pop(0)])
            if self._router.poll(LOOK):
                peer, header, *_ = receive_frames(self._router, copied=2)
                self._answer(bytes(peer), self._decode(header))

    def _answer(self, peer: bytes, message: Message | None) -> None:
        match message:
            case Hello(channel=channel):
                if channel == "data":
                    self._data = peer
                send_frames(self._router, [peer, encode(self._welcome(message))])
            case Beat(at=at):
                send_frames(self._router, [peer, encode(Pulse(EPOCH, 0, 0, at))])
            case Tasks(ids=ids):
                self.ids += ids
            case Bye():
                self._data = b""
            case _:
                pass

    @staticmethod
    def _welcome(hello: Hello) -> Welcome:
        return Welcome(
            protocol=PROTOCOL,
            python=platform.python_version(),
            versions={},
            session=hello.session,
            epoch=EPOCH,
            slots=4,
            executor="process",
            hostname="forged",
            address="127.0.0.1",
            pid=os.getpid(),
            accelerators=[],
            resumed=False,
        )
