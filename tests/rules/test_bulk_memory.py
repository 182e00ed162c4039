"""Large values on nodes of this machine: where they lie, and when that memory is used again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skyward as sky
from tests.rules.work import echo

MIB = 2**20


@sky.function
def ones(count: int, value: float) -> np.ndarray[Any, Any]:
    """Make an array."""
    return np.full(count, value)


@sky.function
def place_of(value: np.ndarray[Any, Any]) -> str:
    """Return what the memory of the argument is a mapping of."""
    address = value.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split(maxsplit=1)[0].split("-"))
        if first <= address < last:
            return line
    return ""


@sky.function
def call_with_large(count: int) -> float:
    """Send a large argument to another task, and take its large result."""
    value = echo(np.ones(count)) >> sky
    return float(value.sum())


@pytest.mark.rule("R20")
def test_task_reads_a_large_argument_where_it_was_put(one: sky.Compute) -> None:
    """By the client, or by the daemon that has put its pieces together: no pipe brings it."""
    assert "skyward-arena" in (place_of(np.ones(MIB)) >> one)


@pytest.mark.rule("R20")
def test_large_results_that_are_kept_stay_as_they_were(one: sky.Compute) -> None:
    """Their memory is used again when nobody refers to it: neither to an array, nor to a part of one."""
    results = [ones(MIB, float(i)) >> one for i in range(8)]
    views = [result[10:20] for result in results]
    del results[1::2]
    for _ in range(8):
        again = ones(MIB, -1.0) >> one
        assert (again == -1).all()
    assert all((result == 2.0 * index).all() for index, result in enumerate(results))
    assert all((view == index).all() for index, view in enumerate(views))


@pytest.mark.rule("R20")
def test_large_pickles_and_nested_calls_arrive_over_tcp() -> None:
    """What is no buffer of a task's arguments finds another way out of where its pieces were put together."""
    with sky.Compute(sky.Local(transport="tcp"), nodes=2) as pool:
        text = ["x" * 1_000 + str(i) for i in range(5_000)]
        assert (echo(text) >> pool) == text
        assert call_with_large(3 * MIB) >> pool == 3.0 * MIB
