"""Keys: made, checked, and kept in files that are their owner's alone."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
import zmq
from zmq.utils import z85

from skyward.errors import ConfigError
from skyward.transport import keys
from skyward.transport.keys import Client, KeyPair

if TYPE_CHECKING:
    from pathlib import Path

DASH = "-" + "a" * 39  # as ZeroMQ makes them too: an option parser takes it for its own
HASH = "#" + "b" * 39  # as it never does


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a directory that is ours alone."""
    place = tmp_path / "keys"
    place.mkdir(mode=0o700)
    return place


# --- pairs ---------------------------------------------------------------------------------


def test_pair_is_one_of_curve() -> None:
    """The public key is the secret's, and no two pairs are the same."""
    pair, other = keys.make_pair(), keys.make_pair()
    assert zmq.curve_public(pair.secret.encode()).decode() == pair.public
    assert pair != other


def test_public_key_begins_with_a_letter_or_a_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command takes it for an option: others are drawn again."""
    drawn = [(public.encode(), b"s" * 40) for public in (DASH, "." + "a" * 39, "a" * 40)]
    monkeypatch.setattr("skyward.transport.keys.zmq.curve_keypair", lambda: drawn.pop(0))
    assert keys.make_pair() == KeyPair("a" * 40, "s" * 40)


@pytest.mark.rule("T19")
def test_pair_does_not_show_its_secret() -> None:
    """Neither repr nor str of it has more than the public half."""
    pair = keys.make_pair()
    for text in (repr(pair), str(pair), f"{pair}", f"{[pair]}"):
        assert pair.public in text
        assert pair.secret not in text


@pytest.mark.parametrize("key", ["a" * 40, DASH, "%" + "0" * 39])
def test_public_key_is_taken_as_it_is(key: str) -> None:
    """Every key that ZeroMQ could make is one, whatever it begins with."""
    assert keys.check_public(key) == key


@pytest.mark.parametrize(
    "text", ["", "a" * 39, "a" * 41, "a" * 39 + " ", "a" * 39 + "\n", "ä" * 40, '"' * 40, HASH, "a" * 35 + "#####"]
)
def test_text_that_is_no_key_is_refused(text: str) -> None:
    """The error says what a key looks like, and where to get one."""
    with pytest.raises(ConfigError, match="is no key: a key has 40 characters, as `skyward-node keys show` prints"):
        keys.check_public(text)


# --- files of pairs ------------------------------------------------------------------------


def test_pair_is_made_once_and_then_read(home: Path) -> None:
    """The first look makes it, and every other one finds it."""
    path = str(home / "node.key")
    pair = keys.read_or_make_pair(path)
    assert keys.read_or_make_pair(path) == keys.read_pair(path) == pair


@pytest.mark.rule("R42")
def test_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Mode 0600 in a directory of mode 0700, made with what lacks above it; nothing else is left there."""
    old = os.umask(0)
    try:
        keys.read_or_make_pair(str(tmp_path / "config" / "skyward" / "node.key"))
    finally:
        os.umask(old)
    place = tmp_path / "config" / "skyward"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert [file.name for file in place.iterdir()] == ["node.key"]
    assert stat.S_IMODE((place / "node.key").stat().st_mode) == 0o600


def test_pair_that_somebody_else_has_just_made_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that start at once one writes the file, and both have the same pair."""
    path = str(home / "node.key")
    theirs = keys.read_or_make_pair(path)
    monkeypatch.setattr("skyward.transport.keys.os.path.lexists", lambda _: False)
    assert keys.read_or_make_pair(path) == theirs
    assert os.listdir(home) == ["node.key"]


@pytest.mark.rule("R42")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o601])
def test_key_file_that_others_may_use_is_refused(home: Path, mode: int) -> None:
    """The error names the file, its mode, and the command that mends it, which does."""
    path = home / "node.key"
    pair = keys.read_or_make_pair(str(path))
    path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"the file {path} has mode {mode:04o} .*run: chmod 0600 {path}") as caught:
        keys.read_pair(str(path))
    assert pair.secret not in str(caught.value)
    path.chmod(0o600)
    assert keys.read_pair(str(path)) == pair


@pytest.mark.rule("R42")
@pytest.mark.parametrize("mode", [0o750, 0o705, 0o770, 0o777])
def test_directory_that_others_may_enter_is_refused(home: Path, mode: int) -> None:
    """Who may enter it may put another file in its place; this holds for reading and for writing."""
    path = str(home / "node.key")
    home.chmod(mode)
    with pytest.raises(ConfigError, match=rf"the directory {home} has mode {mode:04o} .*run: chmod 0700 {home}"):
        keys.read_or_make_pair(path)
    home.chmod(0o700)
    keys.read_or_make_pair(path)
    home.chmod(mode)
    with pytest.raises(ConfigError, match="the directory"):
        keys.read_pair(path)


@pytest.mark.rule("R42")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_key_file_of_somebody_else_is_refused(home: Path) -> None:
    """Its owner could change it."""
    path = home / "node.key"
    keys.read_or_make_pair(str(path))
    os.chown(path, 12_345, -1)
    with pytest.raises(ConfigError, match="owner 12345: keys must be their owner's alone"):
        keys.read_pair(str(path))


def test_file_without_a_pair_is_refused_and_kept(home: Path) -> None:
    """What was in it is neither shown nor overwritten."""
    pair, other = keys.make_pair(), keys.make_pair()
    path = home / "node.key"
    for text in (
        "",
        "nonsense",
        f"public {pair.public}\n",
        f"public {other.public}\nsecret {pair.secret}\n",
        "secret ä",
    ):
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match="holds no pair of keys: remove it, and a new pair") as caught:
            keys.read_or_make_pair(str(path))
        assert pair.secret not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
        assert path.read_text() == text


@pytest.mark.parametrize("kind", ["directory", "missing", "dangling"])
def test_path_that_holds_no_file_is_told(home: Path, kind: str) -> None:
    """Something else at its place is an error of the configuration, not a new key."""
    path = home / "node.key"
    if kind == "directory":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to(home / "nowhere")
    with pytest.raises(ConfigError, match=f"{path}"):
        keys.read_pair(str(path)) if kind == "missing" else keys.read_or_make_pair(str(path))


def test_directory_that_cannot_be_made_is_told() -> None:
    """So is a place where nothing can be written."""
    with pytest.raises(ConfigError, match=r"cannot (read|write) /proc/1/skyward/node.key"):
        keys.read_or_make_pair("/proc/1/skyward/node.key")


def test_home_is_where_configuration_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    """``XDG_CONFIG_HOME`` if it is set, else ``~/.config``."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere")
    assert keys.home() == "/somewhere/skyward"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert keys.home() == "/home/me/.config/skyward"


# --- files of clients ----------------------------------------------------------------------


def test_clients_are_read_as_they_were_written(home: Path) -> None:
    """Also those whose keys look like an option; labels may have spaces, or be missing."""
    path = str(home / "clients")
    clients = (Client("a" * 40, "alice at home"), Client(DASH, ""), Client("z" * 40, "# jürgen"))
    keys.write_clients(path, clients)
    assert keys.read_clients(path) == clients
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_label_is_one_line(home: Path) -> None:
    """A label that holds a line admits nobody."""
    path = str(home / "clients")
    keys.write_clients(path, [Client("a" * 40, f"alice\n{'b' * 40} \tbob")])
    assert keys.read_clients(path) == (Client("a" * 40, f"alice {'b' * 40} bob"),)


def test_comments_and_empty_lines_admit_nobody(home: Path) -> None:
    """A comment begins with a hash, as no key does."""
    path = home / "clients"
    path.write_text(f"# {'c' * 40}\n\n  \n#\n#{'c' * 40}\n {HASH}\n  {'a' * 40}   alice  \n{DASH}\t# dash\n")
    path.chmod(0o600)
    assert keys.read_clients(str(path)) == (Client("a" * 40, "alice"), Client(DASH, "# dash"))


def test_no_key_begins_like_a_comment() -> None:
    """The largest that there is begins with a percent sign."""
    assert z85.encode(b"\xff" * 32)[:1] == b"%"


def test_no_file_admits_nobody(home: Path) -> None:
    """So does an empty one."""
    path = home / "clients"
    assert keys.read_clients(str(path)) == ()
    path.touch(0o600)
    assert keys.read_clients(str(path)) == ()


def test_line_that_is_no_key_is_named(home: Path) -> None:
    """A file that was not understood admits nobody, rather than some."""
    path = home / "clients"
    path.write_text(f"{'a' * 40} alice\n{'$' * 40} bob\n")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=rf"{path}, line 2: '\${{40}}' is no key"):
        keys.read_clients(str(path))


@pytest.mark.rule("R42")
def test_file_of_clients_that_others_may_write_is_refused(home: Path) -> None:
    """They could admit themselves."""
    path = home / "clients"
    keys.write_clients(str(path), [])
    path.chmod(0o622)
    with pytest.raises(ConfigError, match=f"run: chmod 0600 {path}"):
        keys.read_clients(str(path))


def test_file_of_clients_is_replaced_in_one_step(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads meanwhile has the old file or the new one; what fails half-way leaves the old one alone."""
    path = home / "clients"
    keys.write_clients(str(path), [Client("a" * 40, "old")])
    with open(path, encoding="ascii") as reader:
        keys.write_clients(str(path), [Client("b" * 40, "new")])
        assert "old" in reader.read()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("skyward.transport.keys.os.replace", fail)
    with pytest.raises(ConfigError, match=f"cannot write {path}: No space left on device"):
        keys.write_clients(str(path), [])
    assert keys.read_clients(str(path)) == (Client("b" * 40, "new"),)
    assert os.listdir(home) == ["clients"]
