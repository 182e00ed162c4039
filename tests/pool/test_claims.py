"""How long it is known that an iterator belongs to a call."""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from skyward.pool import claims
from skyward.pool.claims import claim, let_go

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANY = 1_000


class Thing:
    """Something that an iterator holds."""

    def __call__(self, value: int) -> int:
        """Return the value."""
        return value


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without what other tests hold still."""
    monkeypatch.setattr(claims, "_kept", {})
    monkeypatch.setattr(claims, "_watched", {})


def others() -> None:
    """Make claims to iterators that nobody holds for long."""
    for _ in range(MANY):
        claim([iter([1])], "f")


@pytest.mark.rule("R24")
@pytest.mark.parametrize(
    "make",
    [
        lambda: iter([1]),
        lambda: map(int, [1]),
        lambda: zip([1], [2], strict=True),
        lambda: enumerate([1]),
        itertools.count,
        lambda: (i for i in [1]),
    ],
    ids=["list", "map", "zip", "enumerate", "count", "generator"],
)
def test_claim_holds_while_somebody_has_the_iterator(make: Callable[[], Iterator[Any]]) -> None:
    """However many come after it."""
    mine = [make() for _ in range(MANY)]
    for iterator in mine:
        claim([iterator], "f")
    others()
    for iterator in mine:
        with pytest.raises(ValueError, match="belongs to another call"):
            claim([iterator], "f")


@pytest.mark.rule("R24")
def test_iterators_of_one_call_are_claimed_together_or_not_at_all() -> None:
    """One that stands there twice is refused, and the other is free."""
    first, second = iter([1]), iter([2])
    with pytest.raises(ValueError, match="an argument of f"):
        claim([first, second, second], "f")
    assert len(claim([first, second], "f")) == 2


@pytest.mark.rule("R21")
def test_iterators_that_nobody_has_are_let_go_of() -> None:
    """With all that they hold, when others are claimed; all of them when a pool ends."""
    thing = Thing()
    gone = weakref.ref(thing)
    claim([map(thing, [1])], "f")
    del thing
    assert gone() is not None
    others()
    assert gone() is None
    assert len(claims._kept) <= 2
    claim([iter([1])], "f")
    let_go()
    assert claims._kept == {}


@pytest.mark.rule("R21")
def test_iterators_that_are_let_go_of_are_found_among_those_that_are_not() -> None:
    """Each claim looks at more than it adds."""
    mine = [iter([i]) for i in range(MANY)]
    for index in range(MANY):
        claim([mine[index]], "f")
        claim([iter([1])], "f")
    others()
    assert MANY <= len(claims._kept) < MANY + MANY // 4
    del mine
    let_go()
    assert claims._kept == {}


def test_generators_are_watched_until_they_are_gone() -> None:
    """Nothing is kept of them."""
    mine = (i for i in [1])
    claim([mine], "f")
    assert (len(claims._watched), len(claims._kept)) == (1, 0)
    del mine
    gc.collect()
    assert claims._watched == {}


@pytest.mark.rule("R24")
@pytest.mark.parametrize("make", [lambda: iter([1]), lambda: (i for i in [1])], ids=["kept", "watched"])
def test_claim_that_has_lapsed_is_none(make: Callable[[], Iterator[int]]) -> None:
    """The iterator can be claimed anew, and belongs to that call then."""
    mine = make()
    (first,) = claim([mine], "f")
    first.lapse()
    (second,) = claim([mine], "f")
    first.lapse()
    with pytest.raises(ValueError, match="another call"):
        claim([mine], "f")
    second.lapse()
    others()
    assert len(claims._kept) <= 2
