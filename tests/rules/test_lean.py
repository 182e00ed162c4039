"""Nodes that start sooner because their first workers have not imported what only some calls need."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from tests.rules.leaning import exhaust, is_there, make_path, make_slow, raise_lookup

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.rule("R31")
def test_few_workers_begin_without_what_only_some_calls_need() -> None:
    """Plain values and Python's own exceptions never need it; what does brings it."""
    with sky.Compute(nodes=1) as pool:
        assert not is_there(1, "two", 3.0) >> pool
        with pytest.raises(LookupError) as caught:
            raise_lookup() >> pool
        assert caught.value.args == ("not here", 7)
        assert "raise_lookup" in str(caught.value.__cause__)
        assert not is_there() >> pool
        assert make_path() >> pool == Path("here")
        assert is_there() >> pool


@pytest.mark.rule("R31")
@pytest.mark.parametrize(
    "open_pool",
    [
        lambda: sky.Compute(nodes=1, concurrency=9),
        lambda: sky.Compute(nodes=1, worker=sky.Worker(reuse_processes=False)),
        lambda: sky.Compute(nodes=1, worker=sky.Worker(executor="thread")),
    ],
    ids=["many", "fresh", "threads"],
)
def test_workers_share_it_where_each_would_need_a_copy(open_pool: Callable[[], sky.Compute]) -> None:
    """Or where it would be imported beside tasks that run."""
    with open_pool() as pool:
        assert is_there() >> pool


@pytest.mark.rule("R29")
def test_first_failure_is_told_though_nothing_can_be_opened() -> None:
    """Python's own exceptions arrive as themselves: telling them takes no module that has to be found first."""
    with sky.Compute(nodes=1) as pool, pytest.raises(OSError, match="Too many open files") as caught:
        exhaust() >> pool
    assert caught.value.errno == errno.EMFILE


@pytest.mark.rule("R31")
def test_what_the_import_takes_is_no_part_of_the_call() -> None:
    """It would be taken for a long one, and those of its kind for a while as well."""
    with sky.Compute(nodes=1) as pool:
        taken: list[float] = []
        for _ in range(2):
            assert str(make_slow() >> pool) == "slow"
            engine, blob = pool._engine, pool._functions.known(make_slow)
            assert engine is not None
            assert blob is not None
            taken.append(engine.scheduler.assignment.durations.cost(blob.key, 1) or 0.0)
        first, second = taken  # µs
        assert first < 0.1e6
        assert second > first  # to pickle a value is part of a call otherwise
