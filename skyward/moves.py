"""Moves from state to state: a table says which there are, and what it does not know cannot happen.

A table has, for each event, the states in which that can happen and what comes after each of them. PURE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Movable(Protocol):
    """Anything that has a state."""

    state: Any


class IllegalMove(RuntimeError):
    """Our bug: something was moved in a way its table does not know."""

    def __init__(self, what: object, event: str) -> None:
        super().__init__(f"{what} cannot {event!r}")


def mover(table: Mapping[str, Mapping[Any, Any]]) -> Callable[[Iterable[Movable], str], None]:
    """Return what moves things as a table says; it raises `IllegalMove` at one of which the table says nothing."""

    def move(things: Iterable[Movable], event: str) -> None:
        row = table[event]
        for thing in things:
            try:
                thing.state = row[thing.state]
            except KeyError:
                raise IllegalMove(repr(thing), event) from None

    return move
