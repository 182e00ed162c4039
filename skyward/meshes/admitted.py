"""Whose keys a mesh's nodes admit beside that of its owner: noted in the mesh's file, for the nodes that come later.

Each node has a list of its own, which may change by a copy of the file elsewhere, or while the node gives no answer.
So what is noted and what nodes say can differ; where they do, a key that was taken away stays away. PURE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Clients = tuple[tuple[str, str], ...]  # keys and labels


class Change(NamedTuple):
    """What a list is asked to become; empty: what it is."""

    add: str = ""  # a key
    label: str = ""  # of the one that is added
    remove: str = ""  # a key or a label


def with_client(clients: Clients, key: str, label: str) -> Clients:
    """Return a list with one more, or with another label."""
    return (*without_client(clients, key), (key, label))


def without_client(clients: Clients, which: str) -> Clients:
    """Return a list without the client of this key or label."""
    return tuple(client for client in clients if which not in client)


def for_new_nodes(noted: Clients, lists: Sequence[Iterable[tuple[str, str]]]) -> Clients:
    """Return whom new nodes admit, by what was noted and the lists of the nodes that answer; these may be none.

    That is whom all of these admit, and who was noted and is admitted by one of them.
    """
    if not lists:
        return noted
    there = [dict(each) for each in lists]
    labels = dict(noted)
    for each in there:
        labels |= each
    return tuple(
        (key, label)
        for key, label in labels.items()
        if all(key in each for each in there) or (key in dict(noted) and any(key in each for each in there))
    )
