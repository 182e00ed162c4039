"""Lanes: where they are, who may dial, and how either end notices that the other one is gone."""

from __future__ import annotations

import os
import resource
import signal
import stat
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from skyward.transport import lanes

if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Generator, Iterator
    from pathlib import Path

TOKEN = b"who we are"


@contextmanager
def listening(path: str) -> Generator[socket]:
    """Return a socket that takes in lanes at a path."""
    listener = lanes.listen(path)
    assert listener is not None
    with closing(listener):
        yield listener


@pytest.fixture
def place(short_path: Path) -> str:
    """Return the path of a ROUTER."""
    return f"{short_path}/n0.sock"


@pytest.fixture
def ends(place: str) -> Iterator[tuple[socket, socket]]:
    """Return both ends of a lane: the client's and the node's, which has got the token."""
    with listening(lanes.path_beside(place)) as listener:
        near = lanes.dial(f"ipc://{place}", TOKEN)
        assert near is not None
        far = lanes.accept(listener)
        assert lanes.receive(far) == TOKEN
        with closing(near), closing(far):
            yield near, far


@contextmanager
def without_descriptors() -> Generator[None]:
    """Have the system refuse us every new descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("path", "beside"),
    [
        ("/d/n0.sock", "/d/n0.lane"),
        ("/d/node", "/d/node.lane"),
        ("/d/" + "x" * 99 + ".sock", "/d/" + "x" * 99 + ".lane"),
        ("/d/" + "x" * 99, "/d/" + "x" * 99 + ".lane"),
        ("/d/" + "x" * 100, ""),
        ("/d/" + "ä" * 50, ""),
    ],
)
def test_lane_is_beside_the_socket(path: str, beside: str) -> None:
    """Its name differs in the suffix; where that makes it too long for a socket there is none."""
    assert lanes.path_beside(path) == beside


def test_messages_keep_their_bounds(ends: tuple[socket, socket]) -> None:
    """What is sent in two is received in two, in order, up to the largest."""
    near, far = ends
    largest = os.urandom(lanes.MOST)
    assert lanes.receive(far) is None
    assert lanes.send(near, b"one")
    assert lanes.send(near, largest)
    assert [lanes.receive(far), lanes.receive(far), lanes.receive(far)] == [b"one", largest, None]
    assert lanes.send(far, b"back")
    assert lanes.receive(near) == b"back"


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.rule("R42")
def test_only_the_owner_may_dial(place: str, umask: int) -> None:
    """Whatever the umask is, which is as before afterwards."""
    before = os.umask(umask)
    try:
        with listening(place):
            assert stat.S_IMODE(os.lstat(place).st_mode) == 0o600
        assert os.umask(umask) == umask
    finally:
        os.umask(before)


def test_listener_takes_the_place_of_one_that_was_killed(place: str) -> None:
    """A socket file where nobody listens is no reason to have no lanes."""
    with listening(place):
        pass
    assert stat.S_ISSOCK(os.lstat(place).st_mode)
    with listening(place):
        pass


@pytest.mark.parametrize("kind", ["file", "directory", "link", "missing"])
def test_listener_leaves_alone_what_is_no_socket(short_path: Path, kind: str) -> None:
    """Somebody's file is not removed: then there are no lanes; as where the directory is missing."""
    path = short_path / "taken"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(short_path / "elsewhere")
    else:
        path = short_path / "missing" / "taken"
    assert lanes.listen(str(path)) is None
    assert kind in ("missing", "link", "directory") or path.read_text() == "precious"


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:7700", "ipc://{place}", "ipc://" + "x" * 200])
def test_node_without_lanes_has_the_road(place: str, endpoint: str) -> None:
    """No lane is dialled over TCP, none where nobody takes it in, and none that cannot be."""
    assert lanes.dial(endpoint.format(place=place), TOKEN) is None


def test_lane_that_nobody_takes_in_has_the_road(place: str) -> None:
    """A daemon that is stopped holds nobody up, however many dial."""
    with listening(lanes.path_beside(place)):
        dialled = []
        while (lane := lanes.dial(f"ipc://{place}", TOKEN)) is not None:
            dialled.append(lane)
        assert len(dialled) >= lanes.WAITING
        for lane in dialled:
            lane.close()


@pytest.mark.rule("F61")
def test_lack_of_descriptors_leaves_the_road(place: str) -> None:
    """Who has none left for a lane goes without, on either side."""
    with listening(lanes.path_beside(place)), without_descriptors():
        assert lanes.dial(f"ipc://{place}", TOKEN) is None
        assert lanes.listen(place) is None


def test_full_lane_takes_no_more(ends: tuple[socket, socket]) -> None:
    """Nobody waits for one who does not read: what is sent is sent whole, or not at all."""
    near, far = ends
    sent = 0
    while lanes.send(near, bytes(1_000)):
        sent += 1
    assert sent
    assert [lanes.receive(far) for _ in range(sent)] == [bytes(1_000)] * sent
    assert lanes.receive(far) is None


def test_end_is_noticed(ends: tuple[socket, socket]) -> None:
    """What was sent before arrives; then the lane is at its end, in both directions."""
    near, far = ends
    assert lanes.send(near, b"last")
    lanes.close(near)
    assert lanes.receive(far) == b"last"
    assert lanes.receive(far) == b""
    assert not lanes.send(far, b"anybody?")


def test_end_is_noticed_though_a_child_has_a_copy(ends: tuple[socket, socket]) -> None:
    """A fork of the client that goes on does not keep its lane."""
    near, far = ends
    copy = os.dup(near.fileno())
    lanes.close(near)
    assert lanes.receive(far) == b""
    os.close(copy)


def test_end_kills_nobody(ends: tuple[socket, socket]) -> None:
    """Not even a program that has SIGPIPE end it, as many commands do."""
    near, far = ends
    far.close()
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        assert not lanes.send(near, b"anybody?")
    finally:
        signal.signal(signal.SIGPIPE, before)
