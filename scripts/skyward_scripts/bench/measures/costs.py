"""What a call costs the larger, the longer it is, and the more nodes there are.

Gathers are as large as about the wanted time allows, so that a point of a curve is neither over before it has
begun nor the whole run; making arguments is not timed.
"""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from skyward_scripts.bench import processes
from skyward_scripts.bench.measures import calls
from skyward_scripts.bench.measures.setting import Setting, ran_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward_scripts.bench.contestant import Call

BULK: Final = 500 * 10**6  # bytes: all arguments of a gather are at hand at once
FIRST: Final = 16  # calls of the first gather, which tells how many to try next
GROWTH: Final = 8  # how many times as many the next one has at most
ENOUGH: Final = 0.5  # of the wanted time: a gather that takes so long counts
REST: Final = 0.3  # seconds after which a pool has done all that is left of its last calls


@dataclass(frozen=True, slots=True)
class Effort:
    """What a gather has taken."""

    tasks: int
    seconds: float
    client: float  # seconds of CPU time of this process, the making of calls included
    nodes: float  # seconds of CPU time of daemons and workers
    workers: int

    def figures(self) -> dict[str, float]:
        """Return rate and costs by name."""
        return {
            "": self.tasks / self.seconds,
            "client": self.client / self.tasks * 1e6,
            "nodes": self.nodes / self.tasks * 1e6,
            "tasks": self.tasks,
            "workers": self.workers,
        }


def by_size(setting: Setting, seed: int) -> dict[str, float]:
    """Time no-op calls with an argument of some bytes, or with a number."""
    size, noop = setting.sizes["bytes"], setting.tasks.noop

    def make(count: int) -> list[Call]:
        return [(noop, os.urandom(size) if size else number) for number in range(count)]

    most = min(setting.sizes["most"], BULK // max(size, 1))
    figures = _gather_for_a_while(setting, make, most).figures()
    if size:
        figures["data"] = figures[""] * size / 1e6
    return figures


def by_time(setting: Setting, seed: int) -> dict[str, float]:
    """Time calls that keep a CPU busy for some time, or sleep that long."""
    seconds = setting.sizes["micros"] / 1e6
    task = setting.tasks.nap if setting.sizes["sleeps"] else setting.tasks.spin
    figures = _gather_for_a_while(setting, lambda count: [(task, seconds)] * count, setting.sizes["most"]).figures()
    if seconds:
        figures["ideal"] = setting.workers / seconds
        figures["÷ ideal"] = figures[""] / figures["ideal"]
    return figures


def by_nodes(setting: Setting, seed: int) -> dict[str, float]:
    """Open a pool of some nodes, time no-op calls on it, look what it costs while it idles, and close it.

    The pool that the process was opened with is closed before: it has warmed up what all pools share.
    """
    contestant, count = setting.contestant, setting.sizes["nodes"]
    contestant.close()
    opening = _seconds(lambda: contestant.open(count))
    crowd = Setting(contestant, setting.tasks, setting.workload, setting.sizes, count, setting.scratch)
    crowd.warm_up(0.0)
    noop = setting.tasks.noop
    made = _gather_for_a_while(
        crowd, lambda many: [(noop, number) for number in range(many)], setting.sizes["most"]
    ).figures()
    lone = calls.lone(crowd, seed)
    time.sleep(REST)
    client, nodes = _idle(setting.sizes["idle"] / 1e3)
    size = processes.memory(_token()) / count
    return {
        **made, "open": opening, "p50": lone["p50"], "idle client": client * 1e3, "idle node": nodes / count * 1e3,
        "node": size / 1e6, "close": _seconds(contestant.close),
    }  # fmt: skip


def _gather_for_a_while(setting: Setting, make: Callable[[int], list[Call]], most: int) -> Effort:
    """Return the effort of a gather that is long enough, or has as many calls as there may be.

    Few calls tell too little about many, so what they promise is only believed up to a factor.
    """
    wanted = setting.sizes["millis"] / 1e3
    count = min(FIRST, most)
    while True:
        effort = _gather(setting, make(count))
        if count == most or effort.seconds >= wanted * ENOUGH:
            return effort
        promised = round(count * wanted / effort.seconds)
        count = min(max(promised, 2 * count), GROWTH * count, most)


def _gather(setting: Setting, wanted: list[Call]) -> Effort:
    token = _token()
    gc.collect()
    nodes, client, started = processes.busy_seconds(token), time.process_time(), time.perf_counter()
    pids = setting.contestant.gather(wanted)
    seconds, client = time.perf_counter() - started, time.process_time() - client
    if len(pids) != len(wanted):
        raise RuntimeError(f"{len(wanted)} tasks gave {len(pids)} values")
    return Effort(len(wanted), seconds, client, processes.busy_seconds(token) - nodes, ran_on(pids))


def _idle(seconds: float) -> tuple[float, float]:
    """Return the CPU seconds that the client and its nodes use in a second in which nothing is asked of them."""
    token = _token()
    nodes, client, started = processes.busy_seconds(token), time.process_time(), time.perf_counter()
    time.sleep(seconds)
    client, elapsed = time.process_time() - client, time.perf_counter() - started
    return client / elapsed, (processes.busy_seconds(token) - nodes) / elapsed


def _token() -> str:
    """Return the mark that this process and all that it has started carry."""
    return os.environ[processes.TOKEN]


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
