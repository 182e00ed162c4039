"""Counting how far a group is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from skyward.answers.tallying import TalliedBuffer, TalliedCollection
from skyward.mesh.view import Tally

GOOD: Any = (0, b"\x80\x05N.", (), 0, 1, "f")
BAD: Any = ValueError("bad")


def task(index: int) -> Any:
    """Return what a sink needs of a task."""
    return SimpleNamespace(index=index)


def collection(count: int, *, return_exceptions: bool = False) -> tuple[TalliedCollection, Tally]:
    """Return a group's sink and its tally."""
    tally = Tally("label", count, 0.0)
    sink = TalliedCollection(count, tally=tally, return_exceptions=return_exceptions, cancel=lambda _: None)
    return sink, tally


def buffer(total: int | None, *, return_exceptions: bool = False) -> tuple[TalliedBuffer, Tally]:
    """Return a stream's sink and its tally."""
    tally = Tally("label", total, 0.0)
    options: Any = {"ordered": False, "return_exceptions": return_exceptions}
    return TalliedBuffer(total, tally=tally, cancel=lambda _: None, soon=lambda run: run(), **options), tally


@pytest.mark.parametrize("make", [collection, buffer])
def test_group_is_over_with_its_last_member(make: Any) -> None:
    """Failed ones count, too."""
    sink, tally = make(2, return_exceptions=True)
    assert not tally.over
    sink.deliver(task(0), GOOD)
    assert (tally.ended, tally.failed, tally.over) == (1, 0, False)
    sink.deliver(task(1), BAD)
    assert (tally.ended, tally.failed, tally.over) == (2, 1, True)


@pytest.mark.parametrize("make", [collection, buffer])
def test_group_is_over_with_the_first_failure(make: Any) -> None:
    """If failures are raised."""
    sink, tally = make(3)
    sink.deliver(task(1), BAD)
    assert (tally.ended, tally.failed, tally.over) == (1, 1, True)


@pytest.mark.parametrize("make", [collection, buffer])
def test_empty_group_is_over(make: Any) -> None:
    """At once."""
    _, tally = make(0)
    assert tally.over


def test_lazy_stream_learns_its_total() -> None:
    """At the end of its calls."""
    sink, tally = buffer(None)
    sink.deliver(task(0), GOOD)
    assert (tally.total, tally.over) == (None, False)
    sink.finish(1)
    assert (tally.total, tally.over) == (1, True)


def test_closed_stream_is_over() -> None:
    """What comes after that does not count."""
    sink, tally = buffer(3)
    sink.abandon()
    assert tally.over
    sink.add(0, GOOD)
    assert tally.ended == 0
