"""Where a daemon may listen."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from skyward.errors import ConfigError
from skyward.machine.passing import LONGEST_PATH
from skyward_node import endpoint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.rule("R42")
@pytest.mark.parametrize("mask", [0o000, 0o077, 0o277])
def test_missing_directory_is_made_private(directory: Path, mask: int) -> None:
    """The directory of a socket is its owner's alone, whatever the umask."""
    old = os.umask(mask)
    try:
        path = endpoint.socket_path(f"ipc://{directory}/new/s")
    finally:
        os.umask(old)
    assert path == f"{directory}/new/s"
    assert (directory / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.rule("R42")
def test_open_directory_is_refused(directory: Path) -> None:
    """Where others may enter, others may connect."""
    directory.chmod(0o755)
    with pytest.raises(ConfigError, match="must be ours alone"):
        endpoint.socket_path(f"ipc://{directory}/s")


def test_endpoint_is_a_path_or_a_port(directory: Path) -> None:
    """A socket has a path; a port has none, whatever the address."""
    assert endpoint.check(f"ipc://{directory}/s") == f"{directory}/s"
    for bind in ("tcp://127.0.0.1:7700", "tcp://0.0.0.0:1", "tcp://*:65535", "tcp://eth0:0", "tcp://[::1]:*"):
        assert endpoint.check(bind) == ""


@pytest.mark.parametrize(
    "bind",
    [
        *("tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:", "tcp://127.0.0.1:x", "tcp://:7700", "tcp://a b:7700"),
        *("tcp://127.0.0.1:65536", "tcp://127.0.0.1:-1", "tcp://127.0.0.1:7700/x", "tcp://::1:7700", "tcp://[::1:7700"),
    ],
)
def test_port_that_is_none_is_refused(bind: str) -> None:
    """The error shows what one looks like."""
    with pytest.raises(ConfigError, match=r"a TCP endpoint looks like tcp://127\.0\.0\.1:7700"):
        endpoint.check(bind)


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:*"),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*"),
        ("tcp://127.0.0.1:7700", "tcp://127.0.0.1:7700"),
        ("tcp://[::]:0", "tcp://[::]:*"),
    ],
)
def test_port_zero_is_any(bind: str, expected: str) -> None:
    """As everywhere but in ZeroMQ."""
    assert endpoint.wildcard(bind) == expected


@pytest.mark.parametrize(
    ("bind", "complaint"),
    [
        ("ipc://relative/s", "must be absolute"),
        ("ipc://@abstract", "must be absolute"),
        ("ipc:///no/such/directory/s", "cannot make the directory"),
        ("", "looks like"),
        ("udp://x", "looks like ipc:///directory/name.sock or tcp://127"),
    ],
)
def test_impossible_endpoint_is_refused(bind: str, complaint: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(ConfigError, match=complaint):
        endpoint.check(bind)


def test_longest_path_is_taken(directory: Path) -> None:
    """107 bytes fit, 108 do not."""
    name = "x" * (LONGEST_PATH - len(str(directory)) - 1)
    assert endpoint.socket_path(f"ipc://{directory}/{name}")
    with pytest.raises(ConfigError, match="has 108 bytes"):
        endpoint.socket_path(f"ipc://{directory}/{name}x")


def test_stale_socket_is_taken_over_and_a_live_one_is_not(directory: Path) -> None:
    """What a killed daemon left behind is no obstacle; a daemon that serves is."""
    path = str(directory / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with pytest.raises(ConfigError, match="another daemon serves there"):
            endpoint.socket_path(f"ipc://{path}")
    assert endpoint.socket_path(f"ipc://{path}") == path


def test_other_file_is_never_replaced(directory: Path) -> None:
    """A file that is no socket is somebody's."""
    (directory / "s").write_text("precious")
    with pytest.raises(ConfigError, match="is no socket"):
        endpoint.socket_path(f"ipc://{directory}/s")
