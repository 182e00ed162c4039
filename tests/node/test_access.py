"""Whose keys a node admits, while the file of keys changes under it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from skyward.errors import ConfigError
from skyward.transport.keys import Client, read_clients, read_pair, write_clients
from skyward_node.access import CLIENTS, NODE_KEY, Access, begin_list, change_list, own_pair

if TYPE_CHECKING:
    from pathlib import Path

ALICE, BOB, LAUNCHER = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Return a directory of keys that admits Alice."""
    place = tmp_path / "keys"
    write(place, ALICE)
    return place


def write(place: Path, *keys: str) -> None:
    """Admit the owners of these keys, as ``skyward-node keys`` does."""
    write_clients(str(place / CLIENTS), [Client(key, "") for key in keys])


def test_pair_lasts_where_there_is_a_directory(tmp_path: Path) -> None:
    """Else every life of the node has its own."""
    place = str(tmp_path / "keys")
    assert own_pair(place) == own_pair(place) == read_pair(os.path.join(place, NODE_KEY))
    assert own_pair("") != own_pair("")


@pytest.mark.rule("R42")
def test_launcher_and_file_are_admitted(keys: Path) -> None:
    """Both lists count; without either nobody is admitted."""
    assert Access([LAUNCHER], str(keys)).keys == {LAUNCHER, ALICE}
    assert Access([LAUNCHER]).keys == {LAUNCHER}
    assert Access([]).keys == frozenset()
    assert not Access([LAUNCHER]).look()


@pytest.mark.rule("R42")
def test_changes_are_seen(keys: Path) -> None:
    """Keys that are added and removed, and a file that is removed or comes anew; nothing is told twice."""
    access = Access([LAUNCHER], str(keys))
    assert not access.look()
    write(keys, ALICE, BOB)
    assert access.look()
    assert access.keys == {LAUNCHER, ALICE, BOB}
    assert not access.look()
    write(keys, BOB)
    assert access.look()
    assert access.keys == {LAUNCHER, BOB}
    (keys / CLIENTS).unlink()
    assert access.look()
    assert access.keys == {LAUNCHER}
    write(keys, ALICE)
    assert access.look()
    assert access.keys == {LAUNCHER, ALICE}


@pytest.mark.rule("R42")
@pytest.mark.parametrize("place", ["file", "directory"])
def test_file_that_others_may_change_is_not_believed(keys: Path, place: str) -> None:
    """The node goes on with what it knew, says why once, and believes the file again when it is mended."""
    access = Access([], str(keys))
    write(keys, BOB)
    target = keys / CLIENTS if place == "file" else keys
    mode = target.stat().st_mode
    target.chmod(0o777)
    assert access.look()
    assert access.keys == {ALICE}
    assert f"the {place} {target} has mode 0777" in access.problem
    assert not access.look()
    target.chmod(mode)
    assert access.look()
    assert access.keys == {BOB}
    assert not access.problem
    assert not access.look()


def test_file_that_is_not_understood_is_not_believed(keys: Path) -> None:
    """A slip of the hand neither admits nor ends anyone."""
    access = Access([], str(keys))
    good = (keys / CLIENTS).read_text()
    (keys / CLIENTS).write_text(f"{good}{'$' * 40}\n")
    assert access.look()
    assert access.keys == {ALICE}
    assert "line 3: " in access.problem
    (keys / CLIENTS).write_text(good)
    assert access.look()
    assert access.keys == {ALICE}
    assert not access.problem


@pytest.mark.rule("R42")
def test_node_does_not_start_with_a_loose_file(keys: Path) -> None:
    """There is nothing it knew before."""
    (keys / CLIENTS).chmod(0o644)
    with pytest.raises(ConfigError, match="has mode 0644"):
        Access([], str(keys))


@pytest.mark.rule("R42")
def test_list_begins_with_those_the_launcher_names(tmp_path: Path) -> None:
    """With their labels, in a file that people change from then on: it is not written again."""
    place = str(tmp_path / "keys")
    begin_list("", [(ALICE, "alice")])
    begin_list(place, [])
    assert not os.path.exists(place)
    begin_list(place, [(ALICE, "alice")])
    begin_list(place, [(BOB, "bob")])
    assert read_clients(os.path.join(place, CLIENTS)) == (Client(ALICE, "alice"),)
    assert Access([LAUNCHER], place).keys == {LAUNCHER, ALICE}


@pytest.mark.rule("R42")
def test_list_is_changed_by_key_and_by_label(keys: Path) -> None:
    """One is added, gets another label, and goes by it; what says nothing changes nothing, not even the file."""
    place = str(keys)
    before = (keys / CLIENTS).stat().st_ino
    assert change_list(place) == change_list(place, remove="nobody") == (Client(ALICE, ""),)
    assert (keys / CLIENTS).stat().st_ino == before
    assert change_list(place, BOB, "bob") == (Client(ALICE, ""), Client(BOB, "bob"))
    assert change_list(place, BOB, "robert") == (Client(ALICE, ""), Client(BOB, "robert"))
    assert change_list(place, remove="robert") == (Client(ALICE, ""),)
    assert change_list(place, remove=ALICE) == read_clients(str(keys / CLIENTS)) == ()


@pytest.mark.rule("R42")
def test_list_is_not_changed_by_what_is_no_key(keys: Path) -> None:
    """It is refused as a whole."""
    with pytest.raises(ConfigError, match="'bob' is no key"):
        change_list(str(keys), "bob", remove=ALICE)
    assert read_clients(str(keys / CLIENTS)) == (Client(ALICE, ""),)
