"""Who answers in a node's place is told nothing (F34)."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Final

import pytest
import zmq

import skyward as sky
from skyward.transport.keys import KeyPair, make_pair
from tests.rules.work import BUSY
from tests.security.peers import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skyward.transport.sockets import Context

SOON: Final = 2.0 * BUSY  # seconds until a pool knows that the node is not what it should be: those of a handshake


class Sink:
    """Takes TCP connections, notes what comes, and says nothing; or hangs up at once."""

    def __init__(self, *, hangs_up: bool) -> None:
        self._hangs_up = hangs_up
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.received = b""
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            while not self._hangs_up and (data := connection.recv(65_536)):
                self.received += data
            connection.close()

    def close(self) -> None:
        """Take no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for connection in self._open:
            connection.close()
        self._thread.join()
        self._listener.close()


@pytest.fixture
def impostor(context: Context, request: pytest.FixtureRequest) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Return where somebody listens who is not the node, and what he has been told."""
    kind = request.param
    if kind in {"silent", "rude"}:
        sink = Sink(hangs_up=kind == "rude")
        yield sink.endpoint, lambda: sink.received
        sink.close()
        return
    router = context.socket(zmq.ROUTER)
    if kind == "other key":
        pair = make_pair()
        router.curve_server = True
        router.curve_secretkey, router.curve_publickey = pair.secret.encode(), pair.public.encode()
    port = router.bind_to_random_port("tcp://127.0.0.1")
    yield f"tcp://127.0.0.1:{port}", lambda: b"".join(router.recv_multipart()) if router.poll(0) else b""
    router.close(0)


@pytest.mark.rule("F34")
@pytest.mark.parametrize("impostor", ["other key", "no CURVE", "rude"], indirect=True)
def test_impostor_is_told_nothing(impostor: tuple[str, Callable[[], bytes]], key_file: tuple[str, KeyPair]) -> None:
    """Whoever answers without the node's key hears not even a hello, and the pool says so."""
    path, _ = key_file
    endpoint, told = impostor
    error, seconds = refusal((endpoint, make_pair().public), path)
    assert isinstance(error, sky.AuthError)
    # One without CURVE is found out by its handshake or by a probe of the port, whichever is first.
    assert any(reason in str(error) for reason in ("cannot prove", "does not speak CURVE"))
    assert seconds < SOON
    assert told() == b""


@pytest.mark.rule("F34")
@pytest.mark.parametrize("impostor", ["silent"], indirect=True)
def test_silent_impostor_is_told_nothing(
    impostor: tuple[str, Callable[[], bytes]], key_file: tuple[str, KeyPair]
) -> None:
    """Who takes the connection and says nothing sees how ZeroMQ begins, and the pool does not open."""
    path, _ = key_file
    endpoint, told = impostor
    error, _ = refusal((endpoint, make_pair().public), path)
    assert isinstance(error, sky.AuthError | sky.ProvisionError)
    assert len(told()) <= 64 * 3  # of three connections: the greeting, which is the same for all
