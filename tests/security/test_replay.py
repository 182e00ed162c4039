"""What was recorded on the wire: of no use to say again, and nothing to read (F42, R42)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

import pytest
import zmq

import skyward as sky
from skyward.transport.sockets import make_dealer, make_router
from skyward.wire import payload
from skyward.wire.functions import FunctionStore
from tests.rules.work import note
from tests.security.nodes import PATIENCE
from tests.security.proxy import COMMAND, Proxy, frames

if TYPE_CHECKING:
    from pathlib import Path

    from skyward.transport.keys import KeyPair
    from skyward.transport.sockets import Context
    from tests.security.conftest import Start

CLOSED: Final = 5.0  # seconds until a connection that makes no sense is closed; handshakes have two


def ends_at_once(port: int, data: bytes) -> bool:
    """Say bytes to a port; return whether it hangs up."""
    with socket.create_connection(("127.0.0.1", port), CLOSED) as link:
        try:
            link.sendall(data)
            while link.recv(65_536):
                pass
        except TimeoutError:
            return False
        except OSError:  # reset
            return True
        return True


@pytest.mark.rule("F42")
def test_recorded_connection_cannot_be_said_again(
    start_node: Start, key_file: tuple[str, KeyPair], short_path: Path
) -> None:
    """A whole session, said again byte by byte, is hung up on, and its task does not run again."""
    path, keys = key_file
    node = start_node(keys)
    with Proxy(node.port) as proxy, sky.Compute(sky.Static([(proxy.endpoint, node.key)], key=path)) as pool:
        assert note(str(short_path), "runs").with_retries(0) >> pool == "runs"
        for connection in [c for c in proxy.connections if c.said]:
            assert ends_at_once(node.port, bytes(connection.said))
        assert note(str(short_path), "other") >> pool == "other"
    assert (short_path / "runs").read_text() == "x"
    node.wait_logged("session opened")
    assert node.log().count("session opened") == 1


@pytest.mark.rule("F42")
def test_frame_that_comes_twice_ends_the_connection(
    start_node: Start, key_file: tuple[str, KeyPair], short_path: Path
) -> None:
    """Frames of a live connection, injected again, close it; the client is back at once, and no task runs twice."""
    path, keys = key_file
    node = start_node(keys)
    with Proxy(node.port) as proxy, sky.Compute(sky.Static([(proxy.endpoint, node.key)], key=path)) as pool:
        assert note(str(short_path), "runs").with_retries(0) >> pool == "runs"
        connection = max(proxy.connections, key=lambda c: len(c.said))
        messages = [frame for frame in frames(bytes(connection.said)) if not frame[0] & COMMAND]
        connection.node.sendall(max(messages, key=len))
        assert connection.closed_by_node.wait(CLOSED)
        assert note(str(short_path), "other") >> pool == "other"
        (mate,) = pool.snapshot().nodes
        assert mate.in_flight == 0
    assert (short_path / "runs").read_text() == "x"
    assert (short_path / "other").read_text() == "x"


# --- what can be read -------------------------------------------------------------------------

ARGUMENT: Final = b"plain marker of an argument"
RESULT: Final = ARGUMENT[::-1]
SOURCE: Final = b"plain marker of the " + b"source"  # in one piece it stands only in the function
LARGE: Final = 200_000  # bytes that travel in a frame of their own


@sky.function
def secret(value: bytes, size: int) -> tuple[bytes, bytes]:
    """Return the value backwards, small and large."""
    assert value != b"plain marker of the source"
    return value[::-1], value[::-1] * (size // len(value))


def plain(value: Any) -> list[Any]:
    """Return a value as frames."""
    packed = payload.dumps_value(value)
    return [packed.data, *packed.buffers]


@pytest.mark.rule("R42")
def test_nothing_can_be_read_on_the_wire(start_node: Start, key_file: tuple[str, KeyPair]) -> None:
    """Neither arguments nor results nor the source of functions pass as they are."""
    path, keys = key_file
    node = start_node(keys)
    with Proxy(node.port) as proxy, sky.Compute(sky.Static([(proxy.endpoint, node.key)], key=path)) as pool:
        small, large = secret(ARGUMENT * (LARGE // len(ARGUMENT)), LARGE) >> pool
        assert RESULT in small
        assert RESULT in large
        recorded = proxy.recorded
    assert len(recorded) > 3 * LARGE
    assert [marker for marker in (ARGUMENT, RESULT, SOURCE, b"skyward", b"secret") if marker in recorded] == []


@pytest.mark.rule("R42")
def test_without_curve_everything_could_be_read(context: Context) -> None:
    """The same over a link without keys shows every marker: the test above is able to fail."""
    router = make_router(context, max_frame=10**7)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    blob = FunctionStore().resolve(secret, frozenset())
    call = payload.dumps_call((ARGUMENT, LARGE), {}, names=())[0]
    with Proxy(port) as proxy:
        dealer = make_dealer(context)
        dealer.connect(proxy.endpoint)
        assert dealer.poll(int(PATIENCE * 1000), zmq.POLLOUT)
        dealer.send_multipart([blob.body, *[module.body for module in blob.modules], call.data, *call.buffers])
        peer = router.recv_multipart()[0]
        router.send_multipart([peer, *plain((RESULT, RESULT * 1_000))])
        dealer.recv_multipart()
        recorded = proxy.recorded
        dealer.close(0)
    router.close(0)
    assert [marker for marker in (ARGUMENT, RESULT, SOURCE) if marker not in recorded] == []
