"""CURVE keys: made, checked, kept in files that only their owner can read.

A key is 32 bytes, written as 40 characters of Z85 (ZeroMQ RFC 32), as everywhere in ZeroMQ. Secrets never leave
this module but for a socket: `KeyPair` does not show its own. A key file holds a secret and has mode 0600, in a
directory of mode 0700; one that others could read or change is refused, because it tells them who we are.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import zmq
from zmq.utils import z85

from skyward.errors import ConfigError
from skyward.machine.private import config_home, read_text, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable

LENGTH: Final = 40  # characters of a key
WHAT: Final = "keys"  # in what is said of a file that others could read
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
    return config_home()


def read_pair(path: str) -> KeyPair:
    """Return the pair in a key file; raises `ConfigError`, also when others can read the file."""
    words = [line.split() for line in read_text(path, WHAT).splitlines()]
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
            write_text(path, f"{_HEADING}public {pair.public}\nsecret {pair.secret}\n", WHAT, replace=False)
    return read_pair(path)


def read_clients(path: str) -> tuple[Client, ...]:
    """Return who is admitted by a file of keys; raises `ConfigError`. No file admits nobody."""
    if not os.path.lexists(path):
        return ()
    clients: list[Client] = []
    for number, line in enumerate(read_text(path, WHAT).splitlines(), 1):
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
    write_text(path, _CLIENTS_HEADING + "".join(f"{line}\n" for line in lines), WHAT, replace=True)
