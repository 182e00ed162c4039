"""In which order a stream hands out its results."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.dispatch.ordering import Ordering


def taken(ordering: Ordering[str]) -> list[tuple[int, str]]:
    """Return all that can be taken now."""
    found: list[tuple[int, str]] = []
    while (pair := ordering.take()) is not None:
        found.append(pair)
    return found


@pytest.mark.rule("R12")
def test_ordered_results_wait_for_their_turn() -> None:
    """In submission order a result is held until all before it are there."""
    ordering: Ordering[str] = Ordering(ordered=True)
    assert not ordering.add(2, "c")
    assert not ordering.add(1, "b")
    assert ordering.take() is None
    assert ordering.add(0, "a")
    assert taken(ordering) == [(0, "a"), (1, "b"), (2, "c")]
    assert ordering.add(3, "d")
    assert taken(ordering) == [(3, "d")]


@pytest.mark.rule("R12")
def test_unordered_results_come_as_they_are_done() -> None:
    """In completion order every result can be taken at once, with its index."""
    ordering: Ordering[str] = Ordering(ordered=False)
    assert ordering.add(2, "c")
    assert ordering.add(0, "a")
    assert taken(ordering) == [(2, "c"), (0, "a")]


def test_adding_says_whether_anything_can_be_taken() -> None:
    """A result whose turn has not come is news if an earlier one still waits to be taken."""
    ordering: Ordering[str] = Ordering(ordered=True)
    assert ordering.add(0, "a")
    assert ordering.add(5, "f")
    assert taken(ordering) == [(0, "a")]
    assert not ordering.add(4, "e")


def test_cleared_ordering_holds_nothing() -> None:
    """What is left of a closed stream takes no memory."""
    ordering: Ordering[str] = Ordering(ordered=True)
    ordering.add(0, "a")
    ordering.add(2, "c")
    ordering.clear()
    assert ordering.take() is None
    assert not ordering.add(2, "c")


@given(st.permutations(range(20)))
def test_any_order_in_is_the_right_order_out(order: list[int]) -> None:
    """However results arrive they leave in submission order, each once."""
    ordering: Ordering[str] = Ordering(ordered=True)
    out: list[tuple[int, str]] = []
    for index in order:
        assert ordering.add(index, str(index)) == (index == len(out))
        out += taken(ordering)
    assert out == [(index, str(index)) for index in range(20)]
