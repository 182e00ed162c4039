"""CURVE keys: made, checked, kept in files that only their owner can read.

A key is 32 bytes, written as 40 characters of Z85 (ZeroMQ RFC 32), as everywhere in ZeroMQ. Secrets never leave
this module but for a socket: `KeyPair` does not show its own. A key file holds a secret and has mode 0600, in a
directory of mode 0700; one that others could read or change is refused, because it tells them who we are.
"""

from __future__ import annotations

import os
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import zmq
from zmq.utils import z85

from skyward.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LENGTH: Final = 40  # characters of a key
_HEADING: Final = "# A secret key of skyward. Whoever has it can run code on the nodes that admit it.\n"
_CLIENTS_HEADING: Final = "# Keys of the clients that this node admits, one a line, each with a label.\n"


class KeyPair(NamedTuple):
    """A public key and the secret that belongs to it."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"<KeyPair {self.public}>"


class Client(NamedTuple):
    """A client that a node admits."""

    key: str
    label: str


def make_pair() -> KeyPair:
    """Return a new random pair, whose public key no command takes for an option."""
    while True:
        public, secret = zmq.curve_keypair()
        if public[:1].isalnum():
            return KeyPair(public.decode("ascii"), secret.decode("ascii"))


def check_public(text: str) -> str:
    """Return the key that the text is; raises `ConfigError` if it is none."""
    if len(text) == LENGTH and text.isascii():
        with suppress(ValueError, KeyError, struct.error):  # the last for five characters that are over 32 bits
            if any(z85.decode(text)):  # a key of zeros stands for none
                return text
    raise ConfigError(f"{text!r} is no key: a key has {LENGTH} characters, as `skyward-node keys show` prints them")


# --- files ---------------------------------------------------------------------------------


def home() -> str:
    """Return the directory where keys are kept unless somebody says otherwise; it need not exist."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "skyward")


def read_pair(path: str) -> KeyPair:
    """Return the pair in a key file; raises `ConfigError`, also when others can read the file."""
    words = [line.split() for line in _read_private(path)]
    found = {word[0]: word[1] for word in words if len(word) == 2}
    try:
        public, secret = found["public"], found["secret"]
        if zmq.curve_public(secret.encode("ascii")).decode("ascii") == public:
            return KeyPair(public, secret)
    except (KeyError, ValueError, zmq.ZMQError):  # never shown: the text may hold the secret
        pass
    raise ConfigError(f"{path} holds no pair of keys: remove it, and a new pair will be made")


def read_or_make_pair(path: str) -> KeyPair:
    """Return the pair in a key file, made if there is none; raises `ConfigError`."""
    if not os.path.lexists(path):
        pair = make_pair()
        with suppress(FileExistsError):  # somebody else was faster: theirs counts
            _write_private(path, f"{_HEADING}public {pair.public}\nsecret {pair.secret}\n", replace=False)
    return read_pair(path)


def read_clients(path: str) -> tuple[Client, ...]:
    """Return who is admitted by a file of keys; raises `ConfigError`. No file admits nobody."""
    if not os.path.lexists(path):
        return ()
    clients: list[Client] = []
    for number, line in enumerate(_read_private(path), 1):
        key, label = [*line.split(maxsplit=1), "", ""][:2]
        if key and key[0] != "#":  # no key begins with it: its first five characters would be over 32 bits
            try:
                clients.append(Client(check_public(key), label.strip()))
            except ConfigError as error:
                raise ConfigError(f"{path}, line {number}: {error}") from error
    return tuple(clients)


def write_clients(path: str, clients: Iterable[Client]) -> None:
    """Replace a file of keys, in one step: a node that reads it sees the old one or the new one."""
    lines = [" ".join([client.key, *client.label.split()]) for client in clients]  # whatever a label holds
    _write_private(path, _CLIENTS_HEADING + "".join(f"{line}\n" for line in lines), replace=True)


def _write_private(path: str, text: str, *, replace: bool) -> None:
    directory = os.path.dirname(os.path.abspath(path))
    temporary = f"{path}.{os.urandom(4).hex()}.new"
    try:
        os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        _check_mode(directory, stat.S_ISDIR, "directory")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
            if replace:
                os.replace(temporary, path)
            else:
                os.link(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
    except FileExistsError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def _read_private(path: str) -> list[str]:
    try:
        _check_mode(os.path.dirname(os.path.abspath(path)), stat.S_ISDIR, "directory")
        _check_mode(path, stat.S_ISREG, "file")
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _check_mode(path: str, is_kind: Callable[[int], bool], kind: str) -> None:
    status = os.stat(path)
    if not is_kind(status.st_mode):
        raise ConfigError(f"{path} is no {kind}")
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() or mode & 0o077:
        wanted = "0700" if kind == "directory" else "0600"
        raise ConfigError(
            f"the {kind} {path} has mode {mode:04o} and owner {status.st_uid}: keys must be their owner's alone; "
            f"run: chmod {wanted} {path}"
        )
