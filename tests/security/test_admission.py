"""Who gets in, and what those learn who do not (F32, F33, F35, F36)."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

import pytest

import skyward as sky
from skyward.errors import ConfigError
from skyward.transport.keys import KeyPair, check_public, make_pair
from skyward.transport.sockets import FAILED_HANDSHAKE, make_router, secure_router
from skyward.wire.messages import PROTOCOL, Refused
from skyward_node.zap import Zap
from tests.rules.work import BUSY
from tests.security.dialling import ADMITTED, WELCOME, WRONG, dial
from tests.security.nodes import PATIENCE
from tests.security.peers import events_of, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from skyward.transport.sockets import Context
    from tests.security.conftest import Connect, Start

SOON: Final = 1.0 * BUSY  # seconds until a client knows that it is refused
DEATH: Final = 2.0 * BUSY  # seconds until a daemon without its handler is gone


# --- F32 --------------------------------------------------------------------------------------


@pytest.mark.rule("F32")
@pytest.mark.rule("R35")
def test_other_python_is_told_with_both_versions(
    start_node: Start, key_file: tuple[str, KeyPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of another minor version gets a `VersionMismatchError` within a second."""
    path, keys = key_file
    node = start_node(keys)
    monkeypatch.setattr("skyward.mesh.greeting.platform.python_version", lambda: "3.99.1")
    error, seconds = refusal(node.address, path)
    assert isinstance(error, sky.VersionMismatchError)
    assert "3.99.1" in error.client
    assert re.search(r"Python 3\.\d+\.\d+", error.node)
    assert seconds < SOON


@pytest.mark.rule("F32")
def test_hello_of_another_protocol_is_told(start_node: Start, connect: Connect, keys: KeyPair) -> None:
    """The bytes of a version to come are refused with our version, within a second, and open no session."""
    node = start_node(keys)
    peer = connect(node, keys)
    python, session = b"\xa6" + b"3.99.0", b"\xc4\x10" + bytes(16)
    fields = [b"\x63", python, b"\x80", session, b"\x00", b"\x00", b"\x00", b"\x00", b"\x00", b"\x00", b"\xa1?", b"?"]
    began = time.monotonic()
    peer.send_frames([bytes((99, 1, 0x90 + len(fields))) + b"".join(fields)])
    refused = peer.wait_for(Refused)
    assert time.monotonic() - began < SOON
    assert (refused.code, refused.protocol) == ("version", PROTOCOL)
    assert "session opened" not in node.log()


# --- F33 --------------------------------------------------------------------------------------


@pytest.mark.rule("F33")
@pytest.mark.rule("R42")
def test_key_that_is_not_admitted_is_told(start_node: Start, key_file: tuple[str, KeyPair]) -> None:
    """A pool with a key that the node does not list is refused within a second, and told what to do."""
    path, keys = key_file
    node = start_node(make_pair())
    error, seconds = refusal(node.address, path)
    assert isinstance(error, sky.AuthError)
    assert f"skyward-node keys add '{keys.public}'" in str(error)
    assert seconds < SOON
    assert "session opened" not in node.log()


@pytest.mark.rule("F33")
def test_wrong_key_of_the_node_is_told(start_node: Start, key_file: tuple[str, KeyPair]) -> None:
    """A pool that was given another key for the node says so within a second."""
    path, keys = key_file
    node = start_node(keys)
    error, seconds = refusal((node.endpoint, make_pair().public), path)
    assert isinstance(error, sky.AuthError)
    assert "cannot prove" in str(error)
    assert seconds < SOON
    assert "session opened" not in node.log()


@pytest.mark.rule("F33")
@pytest.mark.parametrize("key", ["", "0" * 40, "#" * 40, "short"])
def test_node_without_a_key_is_refused(key: str) -> None:
    """No key, a key of zeros, or what is none at all is refused before anything is dialled."""
    with pytest.raises(ConfigError, match="key"):
        sky.Static([("tcp://127.0.0.1:1", key)])


@pytest.mark.rule("F33")
@pytest.mark.parametrize("mechanism", [ADMITTED, *WRONG])
def test_raw_client_is_refused(
    start_node: Start, connect: Connect, context: Context, keys: KeyPair, mechanism: str
) -> None:
    """Whatever the mechanism, the handshake fails within a second, and no message gets in; with both keys one does."""
    node = start_node(keys)
    began = time.monotonic()
    event = dial(context, node.address, mechanism, keys, b"let me in")  # what is admitted is refused by the core
    assert time.monotonic() - began < SOON
    assert (event == WELCOME) == (mechanism == ADMITTED)
    assert (event == FAILED_HANDSHAKE) == (mechanism == "unlisted key")
    connect(node, keys).hello()
    node.wait_logged("session opened")
    assert ("client refused" in node.log()) == (mechanism == ADMITTED)


# --- F35, F36 ---------------------------------------------------------------------------------

DIES: Final = """
import os
from skyward_node.zap import Zap
answer = Zap._answer
def die(zap, frames):
    if os.path.exists({path!r}):
        raise RuntimeError("the handler has died")
    answer(zap, frames)
Zap._answer = die
"""
CLOSES: Final = """
import os, zmq
from skyward_node.zap import Zap
answer = Zap._answer
def close(zap, frames):
    if not os.path.exists({path!r}):
        return answer(zap, frames)
    zap.close()
    raise zmq.Again
Zap._answer = close
"""


@pytest.mark.rule("F35")
@pytest.mark.parametrize("prelude", [DIES, CLOSES], ids=["raises", "closes"])
def test_daemon_ends_with_its_handler(
    start_node: Start, connect: Connect, context: Context, keys: KeyPair, short_path: Path, prelude: str
) -> None:
    """When the handler of keys fails, the daemon is gone within two seconds, and nobody has entered."""
    mark = short_path / "now"
    node = start_node(keys, prelude=prelude.format(path=str(mark)))
    connect(node, keys).hello()
    mark.touch()
    late = connect(node, keys)
    with events_of(late.socket, WELCOME) as events:
        began = time.monotonic()
        assert node.process.wait(PATIENCE) != 0
        assert time.monotonic() - began < DEATH
        assert not events.poll(0)


@pytest.mark.rule("F35")
@pytest.mark.rule("R42")
def test_nobody_enters_without_a_handler(context: Context, keys: KeyPair) -> None:
    """A socket whose handler is gone takes neither strangers nor those whom it admitted."""
    node = make_pair()
    router = make_router(context, max_frame=1_000)
    zap = Zap(context, [keys.public])
    secure_router(router, node)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    zap.close()
    for kind in (ADMITTED, "unlisted key"):
        assert dial(context, (f"tcp://127.0.0.1:{port}", node.public), kind, keys, b"let me in") != WELCOME
    assert not router.poll(0)
    router.close(0)


ABSENT: Final = """
import zmq
from skyward_node.zap import Zap
def absent(zap, context, admitted=()):
    zap.admitted = frozenset(admitted)
    zap.socket = context.socket(zmq.ROUTER)
Zap.__init__ = absent
"""
OPEN: Final = """
import skyward_node.zap
skyward_node.zap.who = lambda question, admitted: "anybody"
"""


@pytest.mark.rule("F36")
@pytest.mark.parametrize("prelude", [ABSENT, OPEN], ids=["absent", "open"])
def test_node_that_would_not_keep_strangers_out_does_not_start(start_node: Start, keys: KeyPair, prelude: str) -> None:
    """Without its handler, or with one that lets everybody in, the daemon refuses to serve and says why."""
    node = start_node(keys, prelude=prelude, ready=False)
    assert "unknown key was not refused" in node.said()["error"]
    assert node.process.wait(PATIENCE) == 2


def test_keys_are_told_from_what_is_none() -> None:
    """A good key passes unchanged."""
    key = make_pair().public
    assert check_public(key) == key
