"""The daemon's socket, with a client that misbehaves at the other end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import zmq

from skyward.machine.memory import Arena, Files, Mappings
from skyward.transport.keys import make_pair
from skyward.transport.sockets import make_dealer, make_router, send_frames
from skyward.wire.codec import encode
from skyward.wire.frames import Ref
from skyward.wire.lone import Call
from skyward.wire.messages import PROTOCOL, Beat, Hello, Module, Parcels, Part, Pulse, Results, Tasks
from skyward.wire.parcels import LARGEST, Cutter
from skyward_node.core.actions import Blocked, Gone, Incoming, Nonsense
from skyward_node.router import Router
from tests.transport.curve import Port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from skyward.wire.messages import Message
    from skyward_node.core.actions import Event

WAIT = 10_000  # ms for what takes one
ALICE = make_pair()
GREETING = Hello(
    protocol=PROTOCOL, python="3.11.0", versions={}, session=bytes(16), label="test:1", epoch=0, ack=0, lease=0.0,
    heartbeat=0.25, cancel_grace=0.3, max_payload=0,
)  # fmt: skip


@pytest.fixture
def ends(directory: Path) -> Iterator[tuple[Router, Any]]:
    """Return a router and the dealer that is connected to it."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket, dealer = make_router(context, max_frame=10_000_000), make_dealer(context)
    socket.bind(f"ipc://{directory}/s")
    dealer.connect(f"ipc://{directory}/s")
    assert dealer.poll(WAIT, zmq.POLLOUT)
    yield Router(socket, 2**30), dealer
    dealer.close(0)
    socket.close(0)
    context.term()


CALL = Call(7, 0, bytes(16), 1, b"args")


def receive(router: Router) -> list[Any]:
    """Return what has arrived, once something has."""
    assert router.socket.poll(WAIT)
    return router.receive()


def test_message_becomes_an_event(ends: tuple[Router, Any]) -> None:
    """A good message is decoded."""
    router, dealer = ends
    send_frames(dealer, [encode(Beat(1, 2, 3.0))])
    (event,) = receive(router)
    assert isinstance(event, Incoming)
    assert event.message == Beat(1, 2, 3.0)


def test_lone_task_is_offered_first(ends: tuple[Router, Any]) -> None:
    """Once it is taken, what came behind it is read later; if it is not, it is an event like any other."""
    router, dealer = ends
    offered: list[Any] = []
    taken = True

    def take(*offer: Any) -> bool:
        offered.append(offer)
        return taken

    def arrive(*messages: Message) -> tuple[list[Any], bool]:
        """Return what is received of these messages, and whether there may be more."""
        for message in messages:
            send_frames(dealer, [encode(message)])
        assert not messages or router.socket.poll(WAIT)
        return router.receive_alone(take), router.more

    assert arrive(CALL) == ([], True)
    (peer, user, task, frame) = offered.pop()
    assert (user, task, frame) == ("", CALL, encode(CALL))
    assert arrive() == ([], False)
    assert arrive(CALL, Beat(1, 2, 3.0)) == ([], True)
    assert offered.pop() == (peer, "", CALL, encode(CALL))
    assert receive(router) == [Incoming(peer, Beat(1, 2, 3.0), [])]
    taken = False
    assert arrive(CALL) == ([Incoming(peer, CALL, [])], False)
    assert offered.pop() == (peer, "", CALL, encode(CALL))
    events, _ = arrive(Beat(1, 2, 3.0), CALL)
    while len(events) < 2:
        events += receive(router)
    assert [event.message for event in events] == [Beat(1, 2, 3.0), CALL]
    assert offered == []


@pytest.mark.rule("R43")
def test_lone_task_among_pieces_goes_the_usual_way(ends: tuple[Router, Any]) -> None:
    """A client that has announced pieces for its next message is told what is wrong with this one."""
    router, dealer = ends
    send_frames(dealer, [encode(Parcels(7, [0], [1]))])
    assert [type(event.message) for event in receive(router)] == [Parcels]
    send_frames(dealer, [encode(CALL)])
    assert router.socket.poll(WAIT)
    (event,) = router.receive_alone(lambda *_: True)
    assert isinstance(event, Nonsense)


@pytest.mark.rule("R43")
def test_greeting_forgets_what_has_come_in_pieces(ends: tuple[Router, Any]) -> None:
    """A client that announced pieces which are not there, and then greets, is as good as a new one."""
    router, dealer = ends
    for message in (Parcels(7, [0], [1]), GREETING, Beat(7, 0, 1.0)):
        send_frames(dealer, [encode(message)])
    events: list[Any] = []
    while len(events) < 3:
        events += receive(router)
    assert [type(event.message) for event in events] == [Parcels, Hello, Beat]


@pytest.mark.rule("R43")
@pytest.mark.parametrize("messages", [[Part(7, 1, 2**22, 2**20)], [Parcels(7, [0], [1]), Module(7, bytes(16), "m")]])
def test_pieces_that_are_not_there_are_told_apart(ends: tuple[Router, Any], messages: list[Any]) -> None:
    """They are no nonsense if those before them have gone with a connection."""
    router, dealer = ends
    for message in messages:
        send_frames(dealer, [encode(message), b""] if type(message) is not Parcels else [encode(message)])
    events: list[Any] = []
    while len(events) < len(messages):
        events += receive(router)
    assert isinstance(events[-1], Nonsense)
    assert events[-1].code == "body"


@pytest.mark.rule("R43")
@pytest.mark.parametrize(
    ("frames", "code"),
    [([b""], "protocol"), ([b"\x01\x02?"], "protocol"), ([b"\x02\x06\x93\x01\x02\x03"], "version")],
)
def test_nonsense_becomes_an_event(ends: tuple[Router, Any], frames: list[bytes], code: str) -> None:
    """A bad message is told apart, and which version it speaks."""
    router, dealer = ends
    send_frames(dealer, frames)
    (event,) = receive(router)
    assert isinstance(event, Nonsense)
    assert event.code == code


def test_unknown_hint_is_ignored(ends: tuple[Router, Any]) -> None:
    """A later revision may say more than we understand."""
    router, dealer = ends
    send_frames(dealer, [b"\x01\xc8\x90"])
    assert receive(router) == []


def test_blocked_connection_keeps_order_and_recovers(ends: tuple[Router, Any]) -> None:
    """What a slow client does not take waits, and arrives whole and in order when it reads."""
    router, dealer = ends
    send_frames(dealer, [encode(Beat(1, 0, 0.0))])
    peer = receive(router)[0].peer
    count = 0
    while (event := router.send(peer, Pulse(1, 0, count, 0.0), [bytes(10_000)])) is None:
        count += 1
    assert event == Blocked(peer, blocked=True)
    assert router.send(peer, Pulse(1, 0, count + 1, 0.0), []) is None
    assert router.tell(peer, encode(Pulse(1, 0, count + 2, 0.0))) is None
    assert router.blocked
    seen = 0
    events: list[Any] = []
    while seen < count + 3:
        assert dealer.poll(WAIT)
        assert dealer.recv_multipart()[0] == encode(Pulse(1, 0, seen, 0.0))
        seen += 1
        events += router.retry()
    assert events == [Blocked(peer, blocked=False)]
    assert not router.blocked


def test_gone_connection_is_told(ends: tuple[Router, Any]) -> None:
    """A message for nobody says so."""
    router, _ = ends
    assert router.send(b"nobody", Pulse(1, 0, 0, 0.0), []) == Gone(b"nobody")
    assert router.tell(b"nobody", encode(Pulse(1, 0, 0, 0.0))) == Gone(b"nobody")


def test_endless_backlog_drops_the_connection(ends: tuple[Router, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never reads cannot fill our memory (F26)."""
    monkeypatch.setattr("skyward_node.router.BACKLOG", 1_000_000)
    router, dealer = ends
    send_frames(dealer, [encode(Beat(1, 0, 0.0))])
    peer = receive(router)[0].peer
    events = [router.send(peer, Pulse(1, 0, 0, 0.0), [bytes(100_000)]) for _ in range(3_000)]
    assert [event for event in events if event is not None][:2] == [Blocked(peer, blocked=True), Gone(peer)]


# --- behind CURVE --------------------------------------------------------------------------


@pytest.fixture
def keyed() -> Iterator[tuple[Router, Any, Port]]:
    """Return a router behind CURVE, an admitted client's socket, and what admits it."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    port = Port(context, ALICE.public)
    dealer = make_dealer(context, keys=ALICE, server_key=port.keys.public)
    dealer.connect(port.endpoint)
    port.until(lambda: dealer.poll(1, zmq.POLLOUT))
    yield Router(port.router, 2**30, curve=True), dealer, port
    dealer.close(0)
    port.close()
    context.term()


@pytest.mark.rule("R42")
def test_message_says_whose_key_it_came_under(keyed: tuple[Router, Any, Port]) -> None:
    """Every one of them, with its body."""
    router, dealer, _ = keyed
    peers: list[bytes] = []
    for _ in range(2):
        send_frames(dealer, [encode(Module(1, bytes(16), "m")), b"source"])
        (event,) = receive(router)
        assert isinstance(event, Incoming)
        assert (event.user, event.message) == (ALICE.public, Module(1, bytes(16), "m"))
        assert [bytes(frame) for frame in event.body] == [b"source"]
        peers.append(event.peer)
    assert peers[0] == peers[1]
    assert router.send(peers[0], Pulse(1, 0, 0, 0.0), []) is None
    assert dealer.recv_multipart() == [encode(Pulse(1, 0, 0, 0.0))]


@pytest.mark.rule("R43")
@pytest.mark.parametrize(("frames", "code"), [([b""], "protocol"), ([b"\x02\x06\x93\x01\x02\x03"], "version")])
def test_nonsense_under_a_key_becomes_an_event(keyed: tuple[Router, Any, Port], frames: list[bytes], code: str) -> None:
    """Just as without; hints are ignored."""
    router, dealer, _ = keyed
    send_frames(dealer, frames)
    (event,) = receive(router)
    assert isinstance(event, Nonsense)
    assert event.code == code
    send_frames(dealer, [b"\x01\xc8\x90"])
    assert receive(router) == []


@pytest.mark.rule("R42")
def test_message_under_no_key_is_never_decoded(ends: tuple[Router, Any]) -> None:
    """ZeroMQ admits nobody without one: if such a message comes all the same, its sender is refused."""
    router, dealer = Router(ends[0].socket, 2**30, curve=True), ends[1]
    send_frames(dealer, [encode(Module(1, bytes(16), "m")), b"source"])
    (event,) = receive(router)
    assert isinstance(event, Nonsense)
    assert (event.code, event.reason) == ("auth", "a message that came under no key")
    assert router.receive() == []


def large_task(size: int) -> tuple[Tasks, list[bytes]]:
    """Return a task with an argument of so many bytes."""
    return Tasks(1, 0, [b"k" * 16], [1], [0], [4], [1]), [b"data", b"x" * size]


def events_of(router: Router, count: int) -> list[Event]:
    """Return what comes of so many messages."""
    events: list[Event] = []
    while len(events) < count:
        events += receive(router)
    return events


@pytest.mark.rule("R20")
def test_large_argument_is_put_together_where_workers_read_it(ends: tuple[Router, Any]) -> None:
    """Its memory is used again when the task is gone, and given up when nobody sends in pieces any more."""
    plain, dealer = ends
    arena = Arena(64 * 2**20)
    router, cutter = Router(plain.socket, 2**30, arena=arena), Cutter()
    message, body = large_task(LARGEST + 1)

    def send() -> tuple[bytes, int]:
        messages = list(cutter.cut(1, message, body))
        for frames in messages:
            send_frames(dealer, frames)
        *_, last = events_of(router, len(messages))
        assert isinstance(last, Incoming)
        assert last.message == message
        [data, frame] = last.body
        assert isinstance(frame, Ref)
        assert (bytes(data), bytes(Mappings(Files()).open(frame))) == (body[0], body[1])
        return last.peer, frame.fields[4]

    peer, offset = send()
    assert send() == (peer, offset)
    router.forget(peer)
    assert arena._segment is None


@pytest.mark.rule("R20")
def test_result_that_its_client_cannot_read_is_sent_as_bytes(ends: tuple[Router, Any]) -> None:
    """One that it can read is sent as it is."""
    plain, dealer = ends
    asked: list[Ref] = []

    def bytes_of(ref: Ref) -> bytes:
        asked.append(ref)
        return b"bytes"

    send_frames(dealer, [encode(Module(1, bytes(16), "m")), b"source"])
    peer = receive(plain)[0].peer
    router = Router(plain.socket, 2**30, bytes_of=bytes_of)
    ref = Ref.make(1, 2, 3, 4, 5, 6)
    for shared, expected in (([], b"bytes"), ([1], bytes(ref))):
        message = Results(1, 1, [1], [0], [4], [1], [5], shared)
        assert router.send(peer, message, [b"data", ref]) is None
        assert dealer.recv_multipart() == [encode(message), b"data", expected]
    assert asked == [ref]
