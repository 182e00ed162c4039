"""What is too large: told to whoever asks for it, and no way to bring a node down (F31, F40)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import pytest
import zmq

import skyward as sky
from skyward.config import LEAST_FRAME
from skyward.wire.messages import Refused
from tests.rules.work import add
from tests.security.nodes import PATIENCE, Watch
from tests.security.peers import events_of
from tests.security.work import plus

if TYPE_CHECKING:
    from skyward.transport.keys import KeyPair
    from skyward.transport.sockets import Socket
    from tests.security.conftest import Connect, Start

MB: Final = 2**20
CAP: Final = 128 * MB  # bytes of one payload, of the node that is attacked
FRAMES: Final = 1_000_000


@sky.function
def length(value: bytes) -> int:
    """Return the length."""
    return len(value)


@sky.function
def make(size: int) -> bytes:
    """Return so many bytes."""
    return bytes(size)


@pytest.mark.rule("F31")
def test_result_over_the_cap_is_told(start_node: Start, key_file: tuple[str, KeyPair]) -> None:
    """A result of twice ``max_payload`` is a `ResultTooLargeError` with both sizes; the pool works on."""
    path, keys = key_file
    node = start_node(keys)
    with sky.Compute(sky.Static([node.address], key=path), max_payload=MB) as pool:
        with pytest.raises(sky.ResultTooLargeError) as caught:
            make(2 * MB) >> pool
        assert (caught.value.size > 2 * MB, caught.value.limit) == (True, MB)
        assert add(1, 2) >> pool == 3


@pytest.mark.rule("F31")
@pytest.mark.rule("R21")
def test_limit_of_the_node_counts_too(start_node: Start, key_file: tuple[str, KeyPair]) -> None:
    """Where the node takes less than the client, its limit holds for arguments and results."""
    path, keys = key_file
    node = start_node(keys, max_payload=MB)
    with sky.Compute(sky.Static([node.address], key=path)) as pool:
        with pytest.raises(sky.ResultTooLargeError, match=f"max_payload={MB}"):
            make(2 * MB) >> pool
        with pytest.raises(sky.SerializationError, match=f"max_payload={MB}"):
            length(bytes(2 * MB)) >> pool
        assert add(1, 2) >> pool == 3


@pytest.mark.rule("F40")
def test_argument_over_the_cap_is_refused_before_it_is_sent(start_node: Start, key_file: tuple[str, KeyPair]) -> None:
    """The sender gets an error that names size and option, and its connection stays."""
    path, keys = key_file
    node = start_node(keys)
    with sky.Compute(sky.Static([node.address], key=path), max_payload=MB) as pool:
        with pytest.raises(sky.SerializationError, match=rf"\d{{7}} bytes exceed max_payload={MB}"):
            length(bytes(2 * MB)) >> pool
        assert add(1, 2) >> pool == 3
    assert "client refused" not in node.log()


@pytest.mark.rule("F40")
def test_argument_that_a_late_node_does_not_take_is_told(start_node: Start, key_file: tuple[str, KeyPair]) -> None:
    """A call that waited when the node came ends with the error; those beside it in the batch run."""
    path, keys = key_file
    node = start_node(keys, max_payload=MB)
    with sky.Compute(sky.Static([node.address], key=path), nodes=(0, 1)) as pool:
        group = sky.gather(length(bytes(3)), length(bytes(LEAST_FRAME + MB)), length(bytes(4)), return_exceptions=True)
        first, large, last = group >> pool
        assert (first, last) == (3, 4)
        assert isinstance(large, sky.SerializationError)


@pytest.mark.rule("F40")
def test_small_cap_lets_code_and_batches_pass() -> None:
    """Calls that are small by themselves are sent together, and code counts apart."""
    captured = bytes(3 * MB)

    @sky.function
    def total(value: bytes) -> int:
        return len(captured) + len(value)

    with sky.Compute(sky.Local("tcp"), nodes=1, max_payload=10_000) as pool:
        results = sky.gather(*[total(bytes(5_000)) for _ in range(300)]) >> pool
        assert results == (3 * MB + 5_000,) * 300


@pytest.mark.rule("F40")
def test_function_that_captures_too_much_is_refused(start_node: Start, key_file: tuple[str, KeyPair]) -> None:
    """Code over the limit is an error of its sender, too."""
    captured = bytes(LEAST_FRAME + MB)
    path, keys = key_file
    node = start_node(keys)

    @sky.function
    def capture() -> int:
        return len(captured)

    with sky.Compute(sky.Static([node.address], key=path), max_payload=MB) as pool:
        with pytest.raises(sky.SerializationError, match="pass large values as arguments"):
            capture() >> pool
        assert add(1, 2) >> pool == 3


# --- who sends them all the same --------------------------------------------------------------


@pytest.mark.rule("F40")
def test_oversize_frame_drops_its_sender(start_node: Start, connect: Connect, keys: KeyPair) -> None:
    """The connection ends at the length that the frame claims; nothing of it is kept, and others go on."""
    node = start_node(keys, max_payload=MB)
    hostile, honest = connect(node, keys), connect(node, keys)
    for peer in (hostile, honest):
        peer.hello()
        assert peer.call(plus, 1, 2) == 3
    watch = Watch(node)
    with events_of(hostile.socket, zmq.EVENT_DISCONNECTED) as events:
        hostile.send_frames([b"x", bytes(2 * LEAST_FRAME)])
        assert events.poll(int(PATIENCE * 1000))
    assert honest.call(plus, 3, 4) == 7
    assert watch.stop() < LEAST_FRAME


@pytest.mark.rule("F40")
def test_message_of_a_million_frames_is_refused(
    start_node: Start, connect: Connect, keys: KeyPair, key_file: tuple[str, KeyPair]
) -> None:
    """Its sender is dropped, memory stays bounded, and no other client takes the node for lost meanwhile."""
    path, honest = key_file
    node = start_node(keys, honest, max_payload=CAP)
    hostile = connect(node, keys)
    hostile.hello()
    with sky.Compute(sky.Static([node.address], key=path)) as pool:
        assert add(1, 2) >> pool == 3
        watch, began = Watch(node), time.monotonic()
        sender = threading.Thread(target=send_many, args=(hostile.socket, FRAMES))
        sender.start()
        calls = 0
        while "client refused" not in node.log():
            assert add(calls, 1) >> pool == calls + 1
            calls += 1
            assert time.monotonic() < began + PATIENCE
        sender.join()
        growth = watch.stop()
        (mate,) = pool.snapshot().nodes
        assert mate.known_for > time.monotonic() - began
    assert hostile.wait_for(Refused).code in {"protocol", "version"}
    assert growth < 2 * CAP
    print(f"{FRAMES} frames: growth {growth / MB:.0f} MiB, {calls} calls of another client meanwhile")


def send_many(socket: Socket, count: int) -> None:
    """Send one message of so many frames."""
    for _ in range(count - 1):
        socket.send(b"x", zmq.SNDMORE)
    socket.send(b"x")
