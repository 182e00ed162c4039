"""What remote generators yield: small values, and arrays. All that comes is added up, and the sum is checked."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

from skyward_scripts.bench.measures.setting import LEAST, ran_on

if TYPE_CHECKING:
    from skyward_scripts.bench.measures.setting import Setting

ITEM = 8  # bytes of a float64
MEGA = 1e6
BRIEF = 0.5  # seconds
FEW = 10  # arrays that show the pace, after as many that do not count


def warm_values(setting: Setting) -> None:
    """Note how many values come in a second: who is slow is timed with fewer."""
    count = LEAST
    for _ in range(3):
        setting.pace = count / _time_values(setting, count)[0]
        count = setting.affordable(setting.sizes["items"], BRIEF)  # a stream that is soon over shows no pace


def warm_blocks(setting: Setting) -> None:
    """Let workers import numpy, and do the same."""
    count = FEW
    for _ in range(3):
        setting.pace = count / _time_blocks(setting, count)[0]
        count = setting.affordable(setting.sizes["items"], BRIEF, FEW)


def values(setting: Setting, seed: int) -> dict[str, float]:
    """Time a generator of small values."""
    count = setting.affordable(setting.sizes["items"])
    elapsed, pid = _time_values(setting, count)
    return {"": count / elapsed, "tasks": count, "workers": ran_on([pid])}


def blocks(setting: Setting, seed: int) -> dict[str, float]:
    """Time a generator of arrays."""
    count = setting.affordable(setting.sizes["items"], least=FEW)
    elapsed, pid = _time_blocks(setting, count)
    return {"": count * setting.sizes["bytes"] / elapsed / MEGA, "tasks": count, "workers": ran_on([pid])}


def _time_values(setting: Setting, count: int) -> tuple[float, int]:
    gc.collect()
    started = time.perf_counter()
    numbers = iter(setting.contestant.iterate(setting.tasks.numbers, count))
    pid: int = next(numbers)
    total = 0
    for number in numbers:
        total += number
    elapsed = time.perf_counter() - started
    _check(total, count * (count - 1) // 2)
    return elapsed, pid


def _time_blocks(setting: Setting, count: int) -> tuple[float, int]:
    length = setting.sizes["bytes"] // ITEM
    gc.collect()
    total, pid = 0.0, 0
    started = time.perf_counter()
    for array in setting.contestant.iterate(setting.tasks.blocks, (count, length)):
        total += float(array.sum())
        pid = int(array[0])
    elapsed = time.perf_counter() - started
    _check(total, float(count * (length - 2 + pid) + count * (count - 1) // 2))
    return elapsed, pid


def _check(found: float, expected: float) -> None:
    if found != expected:
        raise RuntimeError(f"the sum of what was yielded is {found:,.0f}, not {expected:,.0f}")
