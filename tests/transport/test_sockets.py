"""The sockets that everything else relies on."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zmq

from skyward.transport.keys import make_pair
from skyward.transport.sockets import Reader, make_dealer, make_router, receive_frames, send_frames, use_family
from skyward.wire.parcels import LARGEST
from tests.transport.curve import Port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.transport.sockets import Socket

WAIT = 10_000  # ms for what takes one
CLIENT = make_pair()


@pytest.fixture
def pair() -> Iterator[tuple[Socket, Socket]]:
    """Return a router and a dealer that is connected to it."""
    with tempfile.TemporaryDirectory(prefix="sky") as directory:
        context: zmq.Context[Socket] = zmq.Context()
        router = make_router(context, max_frame=1_000_000)
        dealer = make_dealer(context)
        endpoint = f"ipc://{Path(directory) / 's'}"
        router.bind(endpoint)
        dealer.connect(endpoint)
        yield router, dealer
        dealer.close(0)
        router.close(0)
        context.term()


def meet(router: Socket, dealer: Socket) -> bytes:
    """Have the dealer say something; return its routing id."""
    assert dealer.poll(WAIT, zmq.POLLOUT)
    send_frames(dealer, [b"hello"])
    assert router.poll(WAIT)
    return bytes(receive_frames(router, copied=2)[0])


def test_dealer_without_a_peer_queues_nothing() -> None:
    """A message waits with us, never in the socket, where a restarted peer would get it."""
    context: zmq.Context[Socket] = zmq.Context()
    dealer = make_dealer(context)
    dealer.connect("ipc:///tmp/skyward-nobody-listens")
    with pytest.raises(zmq.Again):
        send_frames(dealer, [b"hello"])
    dealer.close(0)
    context.term()


def test_router_reports_a_peer_that_is_gone(pair: tuple[Socket, Socket]) -> None:
    """A message for nobody is an error, not a loss."""
    router, _ = pair
    with pytest.raises(zmq.ZMQError) as caught:
        send_frames(router, [b"nobody", b"hello"])
    assert caught.value.errno == errno.EHOSTUNREACH


def test_router_reports_a_peer_that_is_full(pair: tuple[Socket, Socket]) -> None:
    """A slow reader is seen, and the message is still ours."""
    router, dealer = pair
    peer = meet(router, dealer)
    with pytest.raises(zmq.Again):
        fill(router, peer)


def fill(router: Socket, peer: bytes) -> None:
    """Send to a peer that does not read until the socket takes no more."""
    for _ in range(100_000):
        send_frames(router, [peer, bytes(10_000)])


def test_frames_arrive_whole_and_writable(pair: tuple[Socket, Socket]) -> None:
    """Headers come as bytes, the body as memory that its receiver owns."""
    router, dealer = pair
    assert dealer.poll(WAIT, zmq.POLLOUT)
    body = [b"small", bytes(200_000), b""]
    send_frames(dealer, [b"header", *body])
    assert router.poll(WAIT)
    _, header, *frames = receive_frames(router, copied=2)
    assert header == b"header"
    assert [bytes(frame) for frame in frames] == body
    assert all(isinstance(frame, bytearray) for frame in frames)


@pytest.mark.rule("R29")
def test_what_users_let_go_of_is_not_the_librarys(pair: tuple[Socket, Socket]) -> None:
    """Where pyzmq frees a frame an interrupt is lost; only what is long, or copied at once, stays where it arrived."""
    router, dealer = pair
    peer = meet(router, dealer)
    for body, passing, kind in (
        (bytes(LARGEST), None, bytearray),
        (bytes(LARGEST + 1), None, memoryview),
        (b"piece", b"header", memoryview),
    ):
        send_frames(router, [peer, b"header", body])
        assert dealer.poll(WAIT)
        _, frame = receive_frames(dealer, copied=1, passing=passing)
        assert type(frame) is kind
        assert bytes(frame) == body


def test_too_many_frames_are_cut(pair: tuple[Socket, Socket]) -> None:
    """A message of a million frames costs no memory, and can be told from a good one (F40)."""
    router, dealer = pair
    assert dealer.poll(WAIT, zmq.POLLOUT)
    send_frames(dealer, [b"x"] * 100)
    send_frames(dealer, [b"next"])
    assert router.poll(WAIT)
    assert len(receive_frames(router, copied=2, most=10)) == 11
    assert router.poll(WAIT)
    assert receive_frames(router, copied=2)[1:] == [b"next"]


@pytest.mark.filterwarnings("ignore")
def test_oversize_frame_drops_its_sender(pair: tuple[Socket, Socket]) -> None:
    """A frame over the bound never reaches us (F40)."""
    router, dealer = pair
    meet(router, dealer)
    send_frames(dealer, [bytes(2_000_000)])
    assert not router.poll(200)


@pytest.mark.rule("F27")
def test_connection_that_was_forgotten_on_the_way_ends(pair: tuple[Socket, Socket]) -> None:
    """Within seconds, not after a quarter of an hour, when what is sent comes to nothing; half-open ones end sooner."""
    for socket in pair:
        assert socket.getsockopt(zmq.TCP_MAXRT) == 10_000
        assert socket.getsockopt(zmq.HANDSHAKE_IVL) == 2_000


def test_sockets_close_without_waiting(pair: tuple[Socket, Socket]) -> None:
    """No message holds up an exit."""
    assert [socket.getsockopt(zmq.LINGER) for socket in pair] == [0, 0]


# --- CURVE ---------------------------------------------------------------------------------


def dial(port: Port, socket: Socket) -> Socket:
    """Have a client's socket connect and say something, also if it will never be heard."""
    socket.setsockopt(zmq.IMMEDIATE, 0)
    socket.connect(port.endpoint)
    send_frames(socket, [b"header", b"body"])
    return socket


@pytest.fixture
def port() -> Iterator[Port]:
    """Return a port that admits one client."""
    with zmq.Context() as context:
        port = Port(context, CLIENT.public)
        yield port
        port.close()


@pytest.mark.rule("R42")
def test_message_comes_with_the_key_of_its_sender(port: Port) -> None:
    """ZeroMQ says whose it is, for each message."""
    with dial(port, make_dealer(port.context, keys=CLIENT, server_key=port.keys.public)):
        port.until(lambda: port.router.poll(1))
        reader = Reader(port.router, keyed=True)
        peer, *frames = reader.read(10) or []
        assert reader.user == CLIENT.public
        assert peer
        assert frames == [b"header", memoryview(b"body")]


def test_message_without_curve_comes_under_no_key(pair: tuple[Socket, Socket]) -> None:
    """Over a socket file there is none to tell."""
    router, dealer = pair
    meet(router, dealer)
    send_frames(dealer, [b"hello"])
    assert router.poll(WAIT)
    reader = Reader(router, keyed=True)
    assert (reader.read(10) or [])[1:] == [b"hello"]
    assert reader.user == ""
    with pytest.raises(zmq.Again):
        reader.read(10)


@pytest.mark.rule("R42")
@pytest.mark.rule("F33")
@pytest.mark.parametrize("who", ["nobody", "plain", "stranger", "misled"])
def test_nothing_of_others_reaches_a_protected_socket(port: Port, who: str) -> None:
    """A client without a key, with a password, with a key that is not listed, or that wants to talk to another node."""
    socket = make_dealer(port.context)
    if who == "plain":
        socket.setsockopt_string(zmq.PLAIN_USERNAME, "admin")
        socket.setsockopt_string(zmq.PLAIN_PASSWORD, "admin")
    elif who != "nobody":
        socket.close(0)
        keys = make_pair() if who == "stranger" else CLIENT
        server = port.keys if who == "stranger" else make_pair()
        socket = make_dealer(port.context, keys=keys, server_key=server.public)
    with dial(port, socket), dial(port, make_dealer(port.context, keys=CLIENT, server_key=port.keys.public)):
        port.until(lambda: port.router.poll(1))
        reader = Reader(port.router, keyed=True)
        assert reader.read(10)
        assert reader.user == CLIENT.public
        assert not port.router.poll(200)


def test_numeric_ipv6_address_is_reached(port: Port) -> None:
    """By itself ZeroMQ does not know such addresses."""
    use_family(port.router, "tcp://[::1]:*")
    port.router.bind("tcp://[::1]:*")
    port.endpoint = port.router.getsockopt_string(zmq.LAST_ENDPOINT)
    dealer = make_dealer(port.context, keys=CLIENT, server_key=port.keys.public)
    use_family(dealer, port.endpoint)
    with dial(port, dealer):
        assert port.receive()[1:] == [b"header", b"body"]


@pytest.mark.rule("R42")
@pytest.mark.rule("F37")
def test_connection_cannot_be_stolen_by_its_name(port: Port) -> None:
    """A second client that gives itself the name of the first one is not heard, and gets nothing of the first one's."""
    thief = make_pair()
    port.zap.admitted = frozenset({CLIENT.public, thief.public})
    victim, other = (make_dealer(port.context, keys=keys, server_key=port.keys.public) for keys in (CLIENT, thief))
    for socket in (victim, other):
        socket.setsockopt(zmq.ROUTING_ID, b"me")
    with dial(port, victim):
        assert port.receive()[0] == b"me"
        with dial(port, other):
            port.until(lambda: other.poll(1, zmq.POLLOUT))
            assert not port.router.poll(200)
            send_frames(port.router, [b"me", b"for the first one"])
            assert victim.poll(WAIT)
            assert not other.poll(100)
