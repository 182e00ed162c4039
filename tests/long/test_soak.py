"""No process of a pool grows, however many tasks there are (T14)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import psutil
import pytest

import skyward as sky
from tests.rules.processes import family
from tests.rules.work import add, echo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skyward.calls import PendingFunction

STEP: Final = 100_000  # tasks between two looks
STEPS: Final = 10
WARM: Final = 100_000  # tasks in which allocators get what they keep
BAR: Final = 2**20  # bytes per 100,000 tasks


def some(count: int) -> Iterator[PendingFunction[object]]:
    """Yield small calls, and now and then one with a few kilobytes."""
    for i in range(count):
        yield echo(bytes(4_096)) if i % 100 == 0 else add(i, 1)


def work(pool: sky.Compute, count: int) -> None:
    """Run so many tasks, by every way."""
    for _ in range(count // 10_000):
        results = sky.gather(*some(4_000)) >> pool
        assert results[1] == 2
        assert sum(1 for _ in sky.gather(some(4_000), stream=True, ordered=False) >> pool) == 4_000
        futures = [call > pool for call in some(2_000)]
        assert futures[-1].result() == 2_000


def sizes(pool: sky.Compute) -> dict[tuple[str, int], int]:
    """Return the memory that is each process's own, by what and who it is."""
    processes = [psutil.Process(), *family(pool)]
    return {
        ("client" if p.pid == os.getpid() else p.name() + " ".join(p.cmdline())[:12], p.pid): p.memory_full_info().uss
        for p in processes
    }


@pytest.mark.slow
@pytest.mark.rule("T14")
@pytest.mark.timeout(7_200)
def test_no_process_grows(share: Callable[[int], int]) -> None:
    """A line through the sizes of each, after the first tasks, rises by less than a mebibyte per 100,000 tasks."""
    with sky.Compute(nodes=2, console=False) as pool:
        work(pool, WARM)
        looks = [sizes(pool)]
        for _ in range(max(2, share(STEPS))):
            work(pool, STEP)
            looks.append(sizes(pool))
        assert all(look.keys() == looks[0].keys() for look in looks)
    slopes = {who: slope([look[who] for look in looks]) for who in looks[0]}
    for who, rise in slopes.items():
        print(f"T14, {who}: {looks[0][who] / 2**20:.1f} MiB at first, {rise / 1024:+.0f} KiB per {STEP} tasks")
    print(f"T14: {(len(looks) - 1) * STEP} tasks after {WARM}")
    assert max(slopes.values()) < BAR


def slope(values: list[int]) -> float:
    """Return by how much the values rise from one to the next, by the line of least squares."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    spread = sum((i - middle) ** 2 for i in range(len(values)))
    return sum((i - middle) * (value - mean) for i, value in enumerate(values)) / spread
