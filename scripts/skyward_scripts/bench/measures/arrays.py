"""Large arrays: as argument, as result, and one to each worker.

Arrays are made anew for each call, outside the time, so that nobody wins by knowing one already. What they hold
is checked by their sum.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from skyward_scripts.bench.measures.setting import ran_on

if TYPE_CHECKING:
    from skyward_scripts.bench.measures.setting import Setting

ITEM = 8  # bytes of a float64
MEGA = 1e6
TINY = 64  # items of an array whose way costs nothing
FIRST = 4  # such arrays for each worker: with luck all of them get one


def warm_data(setting: Setting) -> None:
    """Let every worker import numpy."""
    for number in range(FIRST * setting.workers):
        _argument(setting, TINY, number)
        _result(setting, TINY, number)


def warm_fan_out(setting: Setting) -> None:
    """Do the same."""
    for _ in range(FIRST):
        setting.contestant.to_each(setting.tasks.total, _array(TINY, 1), setting.workers)


def data(setting: Setting, seed: int) -> dict[str, float]:
    """Time an array as argument and as result: the first time, and the median of later ones."""
    length, times = setting.sizes["bytes"] // ITEM, setting.sizes["times"]
    figures: dict[str, float] = {}
    pids: set[int] = set()
    for way, one in (("argument", _argument), ("result", _result)):
        spent: list[float] = []
        # Each worker meets such an array for the first time: these calls are in neither figure.
        for number in range(1 + setting.workers + times):
            seconds, pid = one(setting, length, number)
            spent.append(seconds)
            pids.add(pid)
        figures[f"{way} cold"] = ITEM * length / spent[0] / MEGA
        figures[f"{way} warm"] = ITEM * length / statistics.median(spent[-times:]) / MEGA
    return {**figures, "tasks": 2 * times, "workers": ran_on(pids)}


def _argument(setting: Setting, length: int, number: int) -> tuple[float, int]:
    value = number + 1
    array = _array(length, value)
    started = time.perf_counter()
    pid, total = setting.contestant.send(setting.tasks.total, array)
    elapsed = time.perf_counter() - started
    _check(total, float(length * value))
    return elapsed, pid


def _result(setting: Setting, length: int, number: int) -> tuple[float, int]:
    started = time.perf_counter()
    array = setting.contestant.fetch(setting.tasks.filled, length)
    total = float(array.sum())
    elapsed = time.perf_counter() - started
    pid = int(array[0])
    _check(total, float(length - 1 + pid))
    return elapsed, pid


def fan_out(setting: Setting, seed: int) -> dict[str, float]:
    """Time one array to a function on each worker."""
    length = setting.sizes["bytes"] // ITEM
    array = _array(length, seed + 1)
    started = time.perf_counter()
    values = setting.contestant.to_each(setting.tasks.total, array, setting.workers)
    elapsed = time.perf_counter() - started
    if len(values) != setting.workers:
        raise RuntimeError(f"{setting.workers} workers gave {len(values)} values")
    for _, total in values:
        _check(total, float(length * (seed + 1)))
    return {"": elapsed, "tasks": len(values), "workers": ran_on(pid for pid, _ in values)}


def _array(length: int, value: int) -> Any:
    import numpy as np

    return np.full(length, float(value))


def _check(found: float, expected: float) -> None:
    if found != expected:
        raise RuntimeError(f"the array's sum is {found}, not {expected}")
