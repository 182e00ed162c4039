"""A TCP port and who may come in: opened in the order that keeps strangers out."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from skyward.errors import ConfigError
from skyward.model import NodeConfig
from skyward.transport.keys import Client, KeyPair, make_pair, write_clients
from skyward.transport.sockets import ENFORCE_DOMAIN, make_dealer, make_router, send_frames, use_family
from skyward_node import door as doors
from skyward_node import zap
from skyward_node.access import CLIENTS, own_pair
from skyward_node.door import LOOK, Door

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from skyward.transport.sockets import Context, Socket

WAIT = 10_000  # ms for what takes one
ANYWHERE = "tcp://127.0.0.1:0"


class House:
    """A node's socket, whose door is opened by the test."""

    def __init__(self, context: Context, stack: ExitStack) -> None:
        self.context = context
        self._stack = stack
        self.router = make_router(context, max_frame=1_000_000)
        stack.callback(self.router.close, 0)

    def open(self, **config: Any) -> Door:
        """Open the door."""
        fields: dict[str, Any] = {"bind": ANYWHERE, **config}
        return Door(self.context, self.router, NodeConfig(**fields), self._stack)

    def hears(self, door: Door, keys: KeyPair, patience: int = WAIT) -> bool:
        """Return whether a client with these keys reaches the node."""
        dealer = make_dealer(self.context, keys=keys, server_key=door.public_key)
        use_family(dealer, door.endpoint)
        dealer.setsockopt(zmq.IMMEDIATE, 0)
        with dealer:
            dealer.connect(door.endpoint)
            send_frames(dealer, [b"hello"])
            poller = zmq.Poller()
            poller.register(self.router, zmq.POLLIN)
            poller.register(door.zap.socket, zmq.POLLIN)
            while ready := dict(poller.poll(patience)):
                if self.router in ready:
                    self.router.recv_multipart()
                    return True
                door.zap.serve()
        return False


class Absent(zap.Zap):
    """A handler that is never asked: it listens elsewhere."""

    def __init__(self, context: Context, admitted: Any = ()) -> None:
        self.admitted = frozenset(admitted)
        self.socket: Socket = context.socket(zmq.ROUTER)
        self.socket.bind("inproc://somewhere-else")


@pytest.fixture
def house() -> Iterator[House]:
    """Return a node's socket that is not bound yet."""
    with zmq.Context() as context, ExitStack() as stack:
        yield House(context, stack)


@pytest.mark.rule("R42")
def test_door_is_open_for_those_on_the_list(house: House, tmp_path: Path) -> None:
    """The launcher's key and those of the file, under the node's own lasting key, on the port that was found."""
    place = str(tmp_path / "keys")
    alice, launcher, stranger = make_pair(), make_pair(), make_pair()
    write_clients(f"{place}/{CLIENTS}", [Client(alice.public, "alice")])
    door = house.open(keys=place, client_keys=(launcher.public,))
    assert door.public_key == own_pair(place).public
    assert door.endpoint.startswith("tcp://127.0.0.1:")
    assert not door.endpoint.endswith((":0", ":*"))
    assert house.hears(door, alice)
    assert house.hears(door, launcher)
    assert not house.hears(door, stranger, patience=200)


@pytest.mark.rule("R42")
def test_door_with_an_empty_list_admits_nobody(house: House) -> None:
    """It opens all the same: keys may come later."""
    door = house.open()
    assert door.access.keys == frozenset()
    assert not house.hears(door, make_pair(), patience=200)


@pytest.mark.rule("R42")
def test_list_is_looked_at_twice_a_second(house: House, tmp_path: Path) -> None:
    """Who is added may come in from then on, and who is removed may not; between two looks nothing is read."""
    place = str(tmp_path / "keys")
    alice = make_pair()
    door = house.open(keys=place)
    assert not door.look(100.0)
    write_clients(f"{place}/{CLIENTS}", [Client(alice.public, "alice")])
    assert not door.look(100.0 + 0.9 * LOOK)
    assert door.look(100.0 + LOOK)
    assert house.hears(door, alice)
    write_clients(f"{place}/{CLIENTS}", [])
    assert door.look(101.0)
    assert door.zap.admitted == frozenset()
    assert not house.hears(door, alice, patience=200)
    assert 2 * LOOK <= 1.0, "a key that leaked is out within a second"


@pytest.mark.rule("R42")
@pytest.mark.rule("F36")
def test_door_does_not_open_without_its_handler(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody asks for keys nobody is served: the proof at the start sees it."""
    monkeypatch.setattr(doors, "Zap", Absent)
    monkeypatch.setattr(zap, "PROOF", 0.3)
    with pytest.raises(ConfigError, match="a client with an unknown key was not refused"):
        house.open()


@pytest.mark.rule("R42")
@pytest.mark.rule("F36")
def test_door_does_not_open_if_anybody_may_enter(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that does not insist on its handler lets every key in: the proof at the start sees that, too."""

    def careless(socket: Socket, keys: KeyPair) -> None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt_string(zmq.CURVE_PUBLICKEY, keys.public)
        socket.setsockopt_string(zmq.CURVE_SECRETKEY, keys.secret)

    monkeypatch.setattr(doors, "secure_router", careless)
    monkeypatch.setattr(doors, "Zap", Absent)
    with pytest.raises(ConfigError, match=r"was not refused \(event 0x1000\).*does not protect the node"):
        house.open()


def test_socket_that_cannot_be_protected_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ZeroMQ without the option is named, and what to install."""
    monkeypatch.setattr("skyward.transport.sockets.ENFORCE_DOMAIN", 9_999)
    with pytest.raises(ConfigError, match=r"this build of ZeroMQ \(4\.\d.*\) cannot protect TCP links.*pyzmq wheel"):
        house.open()
    assert ENFORCE_DOMAIN == 93


def test_port_that_is_taken_is_told(house: House) -> None:
    """The error names the endpoint."""
    with house.context.socket(zmq.ROUTER) as other:
        other.bind("tcp://127.0.0.1:*")
        taken = other.getsockopt_string(zmq.LAST_ENDPOINT)
        with pytest.raises(ConfigError, match=f"cannot bind {taken}: Address already in use"):
            house.open(bind=taken)


@pytest.mark.rule("R42")
@pytest.mark.parametrize("bind", ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://localhost:0", "tcp://[::1]:0", "tcp://[::]:0"])
def test_any_address_is_behind_the_same_door(house: House, bind: str) -> None:
    """Whatever is listened on, one address or all of them, who is on the list comes in and nobody else."""
    pair = make_pair()
    door = house.open(bind=bind, client_keys=(pair.public,))
    port = door.endpoint.rpartition(":")[2]
    door.endpoint = f"tcp://[::1]:{port}" if "[" in bind else f"tcp://127.0.0.1:{port}"
    assert house.hears(door, pair)
    assert not house.hears(door, make_pair(), patience=200)
