"""Which iterators belong to a call: one that can be iterated only once feeds one call, and no other after it.

A claim holds for as long as somebody could pass the iterator to another call. One that can be weakly referenced, as a
generator can, is watched until it is gone. The others, those of lists, `map`, `zip` and most of the standard library,
are kept, so that nothing else gets their address, until nobody but the claim holds them, which their reference count
tells: each claim that is made looks at some of those from before, and the end of a pool at all. So there is no limit to
how many are known, and of what a program lets go of little is kept, and not for long.

A claim lapses when its call has ended and nothing was pulled: the iterator is what it was.
"""

from __future__ import annotations

import sys
import threading
import weakref
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from skyward.work.abbreviation import abbreviate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OURS: Final = 2  # references to an iterator that nobody else holds: the claim's, and that of `getrefcount`
LOOKED_AT: Final = 8  # kept iterators that a claim looks at: more than it adds, so that they do not gather


class Claim:
    """Says that an iterator belongs to a call."""

    __slots__ = ("kept", "lapsed", "watched")

    def __init__(self, value: Any) -> None:
        self.lapsed = False
        self.kept: Any = None
        self.watched: weakref.ref[Any] | None = None
        try:
            self.watched = weakref.ref(value, _forgetter(id(value)))
        except TypeError:
            self.kept = value

    def is_of(self, value: Any) -> bool:
        """Return whether the value is the iterator, and belongs to the call still."""
        return not self.lapsed and value is (self.kept if self.watched is None else self.watched())

    def is_over(self) -> bool:
        """Return whether nobody can pass what is kept to a call any more, or anybody may."""
        return self.lapsed or sys.getrefcount(self.kept) <= OURS

    def lapse(self) -> None:
        """Let the iterator be used again; takes no lock, because finalizers come here."""
        self.lapsed = True
        self.kept = None


_claiming: Final = threading.Lock()
_watched: Final[dict[int, Claim]] = {}  # by address, as those that are kept
_kept: Final[dict[int, Claim]] = {}  # those that were looked at last stand last


def is_one_shot(value: Any) -> bool:
    """Return whether the value is its own iterator."""
    try:
        return iter(value) is value
    except TypeError:
        return False


def claim(values: Sequence[Any], name: str) -> list[Claim]:
    """Note that these iterators belong to a call of a function, and return the claims.

    Raises `ValueError`, and notes none, if one belongs to a call already.
    """
    with _claiming:
        gone = _let_go(LOOKED_AT)
        for index, value in enumerate(values):
            if _is_claimed(value) or any(value is other for other in values[:index]):
                raise ValueError(
                    f"{abbreviate(value)}, an argument of {name}, is used up by iterating over it, "
                    "and belongs to another call already: pass each call an iterator of its own, or a list"
                )
        claims = [Claim(value) for value in values]
        for value, made in zip(values, claims, strict=True):
            (_kept if made.watched is None else _watched)[id(value)] = made
    del gone  # with no lock held: what an iterator holds may run code of the user's when it goes
    return claims


def let_go() -> None:
    """Keep no iterator that nobody else holds."""
    with _claiming:
        gone = _let_go(len(_kept))
    del gone


def _let_go(most: int) -> list[Claim]:
    """Forget those of the kept ones looked at longest ago that nobody else holds; return them, to be dropped."""
    gone: list[Claim] = []
    for address in list(islice(_kept, most)):
        looked_at = _kept.pop(address)
        if looked_at.is_over():
            gone.append(looked_at)
        else:
            _kept[address] = looked_at
    return gone


def _is_claimed(value: Any) -> bool:
    return any(found is not None and found.is_of(value) for found in (_kept.get(id(value)), _watched.get(id(value))))


def _forgetter(address: int) -> Callable[[weakref.ref[Any]], object]:
    def forget(gone: weakref.ref[Any]) -> None:
        found = _watched.get(address)
        if found is not None and found.watched is gone:
            del _watched[address]

    return forget
