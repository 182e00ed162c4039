"""Where a daemon may listen."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from skyward.errors import ConfigError
from skyward_node import endpoint

if TYPE_CHECKING:
    from pathlib import Path


def test_missing_directory_is_made_private(directory: Path) -> None:
    """The directory of a socket is its owner's alone."""
    path = endpoint.socket_path(f"ipc://{directory}/new/s")
    assert path == f"{directory}/new/s"
    assert (directory / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.rule("R42")
def test_open_directory_is_refused(directory: Path) -> None:
    """Where others may enter, others may connect."""
    directory.chmod(0o755)
    with pytest.raises(ConfigError, match="must be ours alone"):
        endpoint.socket_path(f"ipc://{directory}/s")


@pytest.mark.rule("R42")
def test_tcp_is_refused_without_keys() -> None:
    """A TCP link without CURVE is open to everyone."""
    with pytest.raises(ConfigError, match="TCP links need CURVE"):
        endpoint.socket_path("tcp://127.0.0.1:5555")


@pytest.mark.parametrize(
    ("bind", "complaint"),
    [
        ("ipc://relative/s", "must be absolute"),
        ("ipc://@abstract", "must be absolute"),
        ("ipc:///no/such/directory/s", "cannot make the directory"),
        ("", "looks like"),
    ],
)
def test_impossible_endpoint_is_refused(bind: str, complaint: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(ConfigError, match=complaint):
        endpoint.socket_path(bind)


def test_longest_path_is_taken(directory: Path) -> None:
    """107 bytes fit, 108 do not."""
    name = "x" * (endpoint.LONGEST - len(str(directory)) - 1)
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
