"""``skyward-node keys``: the node's own key, and whom it admits."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from skyward.transport.keys import make_pair, read_clients, read_pair
from skyward_node import cli

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

ALICE, BOB = make_pair().public, make_pair().public
# As ZeroMQ may make them: a dash, the letters of options, two dashes.
AWKWARD = ("-h" + "a" * 38, "-" + "a" * 37 + "hj", "--" + "b" * 38, "--dir" + "c" * 35, "%" + "0" * 39)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the node's keys are, unless a test says otherwise."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "skyward" / "node"


def keys(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli.command, ["keys", *arguments])


def done(*arguments: str) -> str:
    """Run the command, which succeeds, and return what it prints."""
    result = keys(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.rule("R42")
def test_show_prints_the_public_key_and_nothing_else(home: Path) -> None:
    """The pair is made once, where the daemon looks for it, and its secret is not shown."""
    shown = done("show")
    pair = read_pair(str(home / "node.key"))
    assert shown == f"{pair.public}\n"
    assert stat.S_IMODE((home / "node.key").stat().st_mode) == 0o600
    assert done("show") == shown


def test_keys_are_added_listed_and_removed(home: Path) -> None:
    """A label says whose a key is, and may be left out; adding a key again changes its label."""
    assert done("list") == ""
    assert done("add", ALICE, "alice at home") == ""
    done("add", BOB)
    assert done("list") == f"{ALICE} alice at home\n{BOB}\n"
    done("add", ALICE, "alice")
    assert read_clients(str(home / "clients")) == ((BOB, ""), (ALICE, "alice"))
    done("remove", BOB)
    assert done("list") == f"{ALICE} alice\n"
    done("remove", "alice")
    assert done("list") == ""


def test_list_is_for_programs_too() -> None:
    """One array of objects."""
    assert json.loads(done("list", "--json")) == []
    done("add", ALICE, "alice")
    assert json.loads(done("list", "--json")) == [{"key": ALICE, "label": "alice"}]


@pytest.mark.parametrize("key", AWKWARD)
def test_key_may_look_like_an_option(key: str) -> None:
    """It is taken as it is, with and without the two dashes that end the options."""
    done("add", key, "odd")
    assert done("list") == f"{key} odd\n"
    done("remove", key)
    assert done("list") == ""
    done("add", "--", key, "odd")
    done("remove", "--", key)
    assert done("list") == ""


def test_options_stand_anywhere(tmp_path: Path) -> None:
    """Before and behind a key."""
    done("add", "--dir", str(tmp_path / "x"), ALICE, "alice")
    done("add", BOB, "bob", "--dir", str(tmp_path / "x"))
    assert [client.label for client in read_clients(str(tmp_path / "x" / "clients"))] == ["alice", "bob"]
    assert done("list") == ""


def test_directory_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made, for its owner alone."""
    monkeypatch.chdir(tmp_path)
    done("add", "--dir", "mine", ALICE)
    assert stat.S_IMODE((tmp_path / "mine").stat().st_mode) == 0o700
    assert done("list", "--dir", "mine") == f"{ALICE}\n"


@pytest.mark.parametrize("key", ["", "alice", ALICE[:39], f"{ALICE}x", "#" + "a" * 39, "$" * 40])
def test_what_is_no_key_is_not_added(home: Path, key: str) -> None:
    """The error says so, and nothing has changed."""
    done("add", BOB)
    result = keys("add", key, "label")
    assert result.exit_code == 1
    assert "is no key: a key has 40 characters" in result.output
    assert done("list") == f"{BOB}\n"


@pytest.mark.parametrize("name", [ALICE, "alice", ""])
def test_removing_whom_it_does_not_admit_is_an_error(name: str) -> None:
    """Whoever removes a key has to know that it is out; one without a label is not removed by no label."""
    done("add", BOB)
    result = keys("remove", name)
    assert result.exit_code == 1
    assert f"no client {name!r} is admitted; see `skyward-node keys list`" in result.output
    assert done("list") == f"{BOB}\n"


@pytest.mark.rule("R42")
@pytest.mark.parametrize("arguments", [("show",), ("list",), ("add", ALICE), ("remove", ALICE)])
def test_loose_directory_is_refused(home: Path, arguments: tuple[str, ...]) -> None:
    """Every command says what is wrong, and how to mend it."""
    done("show")
    done("add", ALICE)
    home.chmod(0o755)
    result = keys(*arguments)
    assert result.exit_code == 1
    assert f"run: chmod 0700 {home}" in result.output


@pytest.mark.parametrize("arguments", [("add",), ("remove",), ("frob",), ("add", ALICE, "a", "b")])
def test_wrong_usage_is_explained(arguments: tuple[str, ...]) -> None:
    """It ends with 2."""
    result = keys(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.output


def test_every_command_is_explained() -> None:
    """Help is there for the group and for each of its commands."""
    assert "keys" in cli.command.commands
    for name in ("show", "list", "add", "remove"):
        assert name in done("--help")
        assert "--dir" in done(name, "--help")
