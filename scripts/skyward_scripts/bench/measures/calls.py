"""Small tasks: one after the other, all at once, mapped, streamed, and with stragglers among them."""

from __future__ import annotations

import gc
import itertools
import os
import time
from typing import TYPE_CHECKING

from skyward_scripts.bench.durations import short_naps, with_stragglers
from skyward_scripts.bench.measures.setting import ran_on
from skyward_scripts.bench.summary import percentile
from skyward_scripts.ideal import list_schedule

if TYPE_CHECKING:
    from skyward_scripts.bench.contestant import Call
    from skyward_scripts.bench.measures.setting import Setting


def lone(setting: Setting, seed: int) -> dict[str, float]:
    """Time each of many calls that are made one after the other."""
    call, task = setting.contestant.call, setting.tasks.noop
    times: list[float] = []
    pids: set[int] = set()
    gc.collect()
    started = time.perf_counter()
    for number in range(setting.sizes["calls"]):
        begun = time.perf_counter()
        pid = call(task, number)
        times.append(time.perf_counter() - begun)
        pids.add(pid)
        if not setting.spend(started):
            break
    return {
        "p50": percentile(times, 50) * 1e6,
        "p99": percentile(times, 99) * 1e6,
        "tasks": len(times),
        "workers": ran_on(pids),
    }


def no_ops(setting: Setting) -> list[Call]:
    """Return calls of no-ops, as many as the workload wants and the contestant's pace allows."""
    count = setting.affordable(setting.sizes["calls"])
    tasks = (setting.tasks.noop, setting.tasks.noop_two, setting.tasks.noop_three)[: setting.sizes.get("functions", 1)]
    size = setting.sizes.get("bytes")
    items = range(count) if size is None else [os.urandom(size) for _ in range(count)]
    return list(zip(itertools.cycle(tasks), items, strict=False))


def gather(setting: Setting, seed: int) -> dict[str, float]:
    """Time many no-op calls that are made at once."""
    calls = no_ops(setting)
    gc.collect()
    started = time.perf_counter()
    pids = setting.contestant.gather(calls)
    return _rate(len(calls), started, len(pids), ran_on(pids))


def futures(setting: Setting, seed: int) -> dict[str, float]:
    """Time many no-op calls with a future each."""
    calls = no_ops(setting)
    gc.collect()
    started = time.perf_counter()
    pids = setting.contestant.futures(calls)
    return _rate(len(calls), started, len(pids), ran_on(pids))


def tune_map(setting: Setting) -> None:
    """Let a contestant find the best settings for its map."""
    setting.contestant.tune_map(setting.tasks.noop, range(setting.sizes["items"]))


def map_items(setting: Setting, seed: int) -> dict[str, float]:
    """Time a map of a no-op over many items."""
    count = setting.sizes["items"]
    if not setting.contestant.maps_in_chunks:
        count = setting.affordable(count)
    gc.collect()
    started = time.perf_counter()
    pids = setting.contestant.map(setting.tasks.noop, range(count))
    return _rate(count, started, len(pids), ran_on(pids))


def _rate(wanted: int, started: float, done: int, workers: int) -> dict[str, float]:
    elapsed = time.perf_counter() - started
    if done != wanted:
        raise RuntimeError(f"{wanted} tasks gave {done} values")
    return {"": wanted / elapsed, "tasks": wanted, "workers": workers}


def stream(setting: Setting, seed: int) -> dict[str, float]:
    """Time tasks of random length whose values are taken as they come, and how soon the first one does."""
    durations = short_naps(setting.sizes["calls"], seed)
    pids: list[int] = []
    first = 0.0
    gc.collect()
    started = time.perf_counter()
    for pid in setting.contestant.stream(setting.tasks.nap, durations):
        if not pids:
            first = time.perf_counter() - started
        pids.append(pid)
    elapsed = time.perf_counter() - started
    if len(pids) != len(durations):
        raise RuntimeError(f"{len(durations)} tasks gave {len(pids)} values")
    ideal = list_schedule(durations, setting.workers)
    return {"÷ ideal": elapsed / ideal, "first": first * 1e3, "tasks": len(pids), "workers": ran_on(pids)}


def stragglers(setting: Setting, seed: int) -> dict[str, float]:
    """Time short tasks with some long ones among them."""
    durations = with_stragglers(setting.sizes["short"], setting.sizes["long"], seed)
    gc.collect()
    started = time.perf_counter()
    pids = setting.contestant.uneven(setting.tasks.nap, durations)
    elapsed = time.perf_counter() - started
    if len(pids) != len(durations):
        raise RuntimeError(f"{len(durations)} tasks gave {len(pids)} values")
    ideal = list_schedule(durations, setting.workers)
    return {"÷ ideal": elapsed / ideal, "tasks": len(pids), "workers": ran_on(pids)}
