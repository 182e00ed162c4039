"""Who may connect: asked of the handler alone, and of real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import zmq
from zmq.utils import z85

from skyward.errors import ConfigError
from skyward.transport.keys import KeyPair, make_pair
from skyward.transport.sockets import DOMAIN, make_router, secure_router
from skyward_node import zap
from skyward_node.zap import Zap, who

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.transport.sockets import Context, Socket

WAIT = 10_000  # ms for what takes one
ALICE = make_pair().public
QUESTION = [DOMAIN, b"127.0.0.1", b"", b"CURVE", z85.decode(ALICE)]


@pytest.fixture
def context() -> Iterator[Context]:
    """Return a context that ends with the test."""
    with zmq.Context() as context:
        yield context


# --- the decision --------------------------------------------------------------------------


@pytest.mark.rule("R42")
def test_listed_key_is_admitted() -> None:
    """Who it is comes back as the text of the key."""
    assert who(QUESTION, {ALICE}) == ALICE


@pytest.mark.rule("R42")
def test_nobody_is_admitted_by_an_empty_list() -> None:
    """It stands for nobody, never for everybody."""
    assert who(QUESTION, ()) == ""


@pytest.mark.rule("R42")
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, b""),
        (0, b"global"),
        (3, b"NULL"),
        (3, b"PLAIN"),
        (3, b"curve"),
        (4, b""),
        (4, z85.decode(ALICE)[:31]),
        (4, z85.decode(ALICE) + b"\0"),
        (4, bytes(32)),
        (4, ALICE.encode()),
    ],
)
def test_anything_else_is_not(place: int, value: bytes) -> None:
    """Another domain, another mechanism, another key, or something that is none."""
    question = [*QUESTION[:place], value, *QUESTION[place + 1 :]]
    assert who(question, {ALICE}) == ""


@pytest.mark.parametrize("question", [[], QUESTION[:4], [*QUESTION, b""]])
def test_question_of_another_length_is_no_question(question: list[bytes]) -> None:
    """PLAIN has one field more, NULL one less."""
    assert who(question, {ALICE}) == ""


# --- the handler ---------------------------------------------------------------------------


def ask(context: Context, handler: Zap, frames: list[bytes]) -> list[bytes] | None:
    """Put a request to the handler as ZeroMQ does; return the answer, if there is one."""
    with context.socket(zmq.DEALER) as asker:
        asker.connect(zap.ENDPOINT)
        asker.send_multipart(frames)
        assert handler.socket.poll(WAIT)
        handler.serve()
        return asker.recv_multipart() if asker.poll(0) else None


def test_answer_names_the_client(context: Context) -> None:
    """By RFC 27: version, the request's number, status, a text, the user, no metadata."""
    handler = Zap(context, [ALICE])
    try:
        answer = ask(context, handler, [b"", b"1.0", b"17", *QUESTION])
        assert answer == [b"", b"1.0", b"17", b"200", b"OK", ALICE.encode(), b""]
        handler.admitted = frozenset()
        answer = ask(context, handler, [b"", b"1.0", b"18", *QUESTION])
        assert answer == [b"", b"1.0", b"18", b"400", b"this key is not admitted", b"", b""]
    finally:
        handler.close()


@pytest.mark.rule("R42")
@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"", b""],
        [b"", b"1.0"],
        [b"\xff"] * 3,
        [b"", b"1.0", b"1"],
        [b"", b"1.0", b"1", *QUESTION[:4]],
        [b"", b"9.9", b"1", *QUESTION],
        [b"x" * 10] * 50,
    ],
)
def test_garbage_admits_nobody(context: Context, frames: list[bytes]) -> None:
    """What is no request gets no answer, or a refusal; the next one is served."""
    handler = Zap(context, [ALICE])
    try:
        answer = ask(context, handler, frames)
        assert answer is None or b"200" not in answer
        assert (ask(context, handler, [b"", b"1.0", b"2", *QUESTION]) or [])[3] == b"200"
    finally:
        handler.close()


def test_flood_is_answered_in_turns(context: Context) -> None:
    """The daemon has other things to do between two of them."""
    handler = Zap(context, [ALICE])
    with context.socket(zmq.DEALER) as asker:
        asker.connect(zap.ENDPOINT)
        for number in range(2 * zap.READS):
            asker.send_multipart([b"", b"1.0", b"%d" % number, *QUESTION])
        handler.serve()
        answers = 0
        while asker.poll(0):
            asker.recv_multipart()
            answers += 1
        assert answers == zap.READS
        handler.close()


# --- with real sockets ---------------------------------------------------------------------


class Port:
    """A CURVE port, with or without its handler."""

    def __init__(self, context: Context, admitted: tuple[str, ...] = ()) -> None:
        self.keys = make_pair()
        self.zap = Zap(context, admitted)
        self.router = make_router(context, max_frame=1_000_000)
        secure_router(self.router, self.keys)
        self.router.bind("tcp://127.0.0.1:*")
        self.endpoint = self.router.getsockopt_string(zmq.LAST_ENDPOINT)

    def dial(self, context: Context, keys: KeyPair) -> Socket:
        """Return a client's socket that has something to say."""
        from skyward.transport.sockets import make_dealer

        dealer = make_dealer(context, keys=keys, server_key=self.keys.public)
        dealer.setsockopt(zmq.IMMEDIATE, 0)
        dealer.connect(self.endpoint)
        dealer.send(b"let me in")
        return dealer

    def hears(self, patience: int) -> bool:
        """Return whether anything reaches the node within so many milliseconds, while the handler, if any, works."""
        poller = zmq.Poller()
        poller.register(self.router, zmq.POLLIN)
        if not self.zap.socket.closed:
            poller.register(self.zap.socket, zmq.POLLIN)
        while ready := dict(poller.poll(patience)):
            if self.router in ready:
                return True
            self.zap.serve()
        return False

    def close(self) -> None:
        """Close it."""
        self.zap.close()
        self.router.close(0)


@pytest.fixture
def make_port(context: Context) -> Iterator[Any]:
    """Return a function that opens ports, which are closed afterwards."""
    ports: list[Port] = []

    def make(*admitted: str) -> Port:
        ports.append(Port(context, admitted))
        return ports[-1]

    yield make
    for port in ports:
        port.close()


@pytest.mark.rule("R42")
def test_admitted_client_is_heard_under_its_key(context: Context, make_port: Any) -> None:
    """The message carries the key that was proved."""
    pair = make_pair()
    port = make_port(pair.public)
    with port.dial(context, pair):
        assert port.hears(WAIT)
        assert port.router.recv(copy=False).get("User-Id") == pair.public


@pytest.mark.rule("R42")
@pytest.mark.rule("F35")
def test_nobody_enters_when_the_handler_is_gone(context: Context, make_port: Any) -> None:
    """Not even a client that was admitted a moment ago."""
    pair = make_pair()
    port = make_port(pair.public)
    with port.dial(context, pair):
        assert port.hears(WAIT)
        port.router.recv_multipart()
        port.zap.close()
        with port.dial(context, pair):
            assert not port.hears(500)


@pytest.mark.rule("R42")
@pytest.mark.rule("F36")
def test_port_that_lets_strangers_in_fails_its_proof(
    context: Context, make_port: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that admits everybody is noticed, and a client without a key as well as one with a random one."""
    port = make_port()
    zap.refuses_strangers(context, port.endpoint, port.keys.public, port.zap)
    monkeypatch.setattr(zap, "who", lambda question, admitted: "anybody")
    with pytest.raises(ConfigError, match=r"a client with an unknown key was not refused \(event 0x1000\)"):
        zap.refuses_strangers(context, port.endpoint, port.keys.public, port.zap)


@pytest.mark.rule("R42")
@pytest.mark.rule("F36")
def test_port_without_a_handler_fails_its_proof(
    context: Context, make_port: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal that is not the handler's proves nothing."""
    monkeypatch.setattr(zap, "PROOF", 0.3)
    port = make_port()
    monkeypatch.setattr(port.zap, "serve", port.zap.socket.recv_multipart)
    with pytest.raises(ConfigError, match="does not protect the node"):
        zap.refuses_strangers(context, port.endpoint, port.keys.public, port.zap)


@pytest.mark.rule("R42")
def test_proof_dials_wildcards_by_loopback(context: Context) -> None:
    """Nobody can connect to 0.0.0.0 by its name everywhere."""
    keys, handler, router = make_pair(), Zap(context), make_router(context, max_frame=1_000)
    secure_router(router, keys)
    router.bind("tcp://0.0.0.0:*")
    try:
        zap.refuses_strangers(context, router.getsockopt_string(zmq.LAST_ENDPOINT), keys.public, handler)
    finally:
        handler.close()
        router.close(0)
