"""Iterators of calls that were made ready to be sent, and never were, can be passed to other calls."""

from __future__ import annotations

import threading

import pytest

import skyward as sky
from tests.rules.yielding import add_up

FIRST = 256  # calls of a group that are made ready in one go
PAD = b"x" * 20_000  # beside each iterator, so that a group is larger than the window
WINDOW = 2**21  # bytes


@pytest.mark.rule("R24")
@pytest.mark.parametrize("stream", [False, True])
def test_group_that_cannot_be_serialized_leaves_all_iterators_alone(pool: sky.Compute, *, stream: bool) -> None:
    """Also those of calls that were serialized long before the one that cannot be."""
    numbers = [iter([1, 2]) for _ in range(FIRST + 44)]
    last = add_up(numbers[-1], threading.Lock())
    with pytest.raises(sky.SerializationError):
        sky.gather(*[add_up(each) for each in numbers[:-1]], last, stream=stream) >> pool
    assert sky.gather(*[add_up(each) for each in numbers]) >> pool == (3,) * len(numbers)


@pytest.mark.rule("R13")
@pytest.mark.rule("R24")
def test_group_that_fails_leaves_iterators_alone_that_it_had_no_room_for() -> None:
    """What was not sent when a member failed has pulled nothing."""
    numbers = [iter([1, 2]) for _ in range(FIRST + 144)]
    calls = [add_up(each, PAD) for each in numbers]
    calls[0] = add_up(numbers[0], "fail")
    with sky.Compute(nodes=1, window=WINDOW) as pool:
        with pytest.raises(LookupError):
            sky.gather(*calls) >> pool
        assert sky.gather(*[add_up(each) for each in numbers[FIRST:]]) >> pool == (3,) * 144


@pytest.mark.rule("R12")
@pytest.mark.rule("R24")
def test_stream_of_calls_that_are_fed_may_be_larger_than_the_window() -> None:
    """What is made ready too early is made ready again."""
    calls = [add_up(iter([1, 2]), PAD) for _ in range(FIRST + 144)]
    with sky.Compute(nodes=1, window=WINDOW) as pool:
        assert list(sky.gather(*calls, stream=True) >> pool) == [3] * len(calls)
