"""Whose keys a node admits: those its launcher named, and those in a file that people change while it serves.

A file that others could have written is not believed: at start the node refuses to serve, later it goes on
with what it knew.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from skyward.errors import ConfigError
from skyward.transport.keys import (
    Client,
    KeyPair,
    check_public,
    make_pair,
    read_clients,
    read_or_make_pair,
    write_clients,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

NODE_KEY: Final = "node.key"  # names of files in a node's directory of keys
CLIENTS: Final = "clients"


def own_pair(directory: str) -> KeyPair:
    """Return the node's pair: the one in its directory of keys, or without one a pair for this life."""
    return read_or_make_pair(os.path.join(directory, NODE_KEY)) if directory else make_pair()


def begin_list(directory: str, clients: Iterable[tuple[str, str]]) -> None:
    """Write the list of a directory of keys, unless there is one: what people have changed counts."""
    path = os.path.join(directory, CLIENTS)
    if directory and not os.path.lexists(path) and (first := [Client(*client) for client in clients]):
        write_clients(path, first)


def change_list(directory: str, add: str = "", label: str = "", remove: str = "") -> tuple[Client, ...]:
    """Admit one more, or give it another label, and one, of this key or label, no more; return the list.

    Raises `ConfigError` if that cannot be done; then nothing has changed.
    """
    path = os.path.join(directory, CLIENTS)
    before = read_clients(path)
    after = [client for client in before if client.key != add and not (remove and remove in client)]
    if add:
        after.append(Client(check_public(add), label))
    if tuple(after) != before:
        write_clients(path, after)
    return tuple(after)


class Access:
    """The keys that are admitted now."""

    def __init__(self, named: Iterable[str], directory: str = "") -> None:
        """Read the file, if there is one; raises `ConfigError`."""
        self._named = frozenset(named)
        self._directory = directory
        self._path = os.path.join(directory, CLIENTS) if directory else ""
        self._seen = self._stamp()
        self.keys = self._read()
        self.problem = ""  # why the file as it is now does not count

    @property
    def listed(self) -> bool:
        """Return whether there is a list that can change."""
        return bool(self._directory)

    def change(self, add: str, label: str, remove: str) -> tuple[Client, ...]:
        """Change the list, see `change_list`; it counts from the next look on."""
        return change_list(self._directory, add, label, remove)

    def look(self) -> bool:
        """Read the file again if it has changed, or did not count; return whether `keys` or `problem` changed."""
        stamp = self._stamp()
        if stamp == self._seen and not self.problem:
            return False
        self._seen = stamp
        before = self.keys, self.problem
        try:
            self.keys, self.problem = self._read(), ""
        except ConfigError as error:
            self.problem = str(error)
        return (self.keys, self.problem) != before

    def _read(self) -> frozenset[str]:
        clients = read_clients(self._path) if self._path else ()
        return self._named.union(client.key for client in clients)

    def _stamp(self) -> tuple[int, ...]:
        try:
            status = os.stat(self._path) if self._path else None
        except OSError:
            status = None
        # The mode too: a file that others can write from now on is not to be believed.
        return () if status is None else (status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode)
