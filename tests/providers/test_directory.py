"""The private directory of local sockets."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from skyward.errors import ProvisionError
from skyward.machine.passing import LONGEST_PATH
from skyward.providers import directory

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.rule("R30")
def test_place_is_found_and_left_as_it_was(short_path: Path) -> None:
    """Who is killed before there is a daemon leaves nothing."""
    path = directory.find_private([str(short_path)])
    assert os.path.dirname(path) == str(short_path)
    assert os.path.basename(path).startswith("skyward-")
    assert os.listdir(short_path) == []


@pytest.mark.rule("F57")
def test_unusable_parent_is_passed_over(short_path: Path) -> None:
    """A parent that does not exist or cannot hold a socket is passed over for the next."""
    absent, long = str(short_path / "absent"), str(short_path / ("x" * 100))
    os.mkdir(long)
    assert directory.find_private([absent, long, str(short_path)]).startswith(f"{short_path}/skyward-")
    assert os.listdir(long) == []


@pytest.mark.rule("F57")
def test_error_says_what_to_do(short_path: Path) -> None:
    """Without any place the error has each reason, and names TMPDIR."""
    long = str(short_path / ("x" * 100))
    with pytest.raises(ProvisionError) as caught:
        directory.find_private([str(short_path / "absent"), "/proc/1", long])
    text = str(caught.value)
    assert "absent: No such file or directory" in text
    assert "; /proc/1: " in text
    assert f"{long}: too long for the path of a socket" in text
    assert "set TMPDIR to a writable directory with a short path" in text


def test_longest_parent_leaves_room_for_a_socket(short_path: Path) -> None:
    """A parent that is just short enough makes paths that a socket can be bound to."""
    room = LONGEST_PATH - directory.ROOM - len(str(short_path)) - 1
    parent = short_path / ("x" * room)
    parent.mkdir()
    path = directory.find_private([str(parent)])
    os.mkdir(path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{path}/n99999.sock")
    with pytest.raises(ProvisionError):
        directory.find_private([f"{parent}x"])


def test_user_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """TMPDIR comes first, made absolute; directories of the system follow."""
    monkeypatch.setenv("TMPDIR", "some/where")
    places = directory.temporary_directories()
    assert places[0] == os.path.abspath("some/where")
    assert "/tmp" in places


def test_remove_takes_sockets_along(short_path: Path) -> None:
    """What daemons that were killed have left goes with the directory; removing it again does nothing."""
    path = directory.find_private([str(short_path)])
    os.mkdir(path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{path}/n0.sock")
    directory.remove(path)
    directory.remove(path)
    assert os.listdir(short_path) == []
