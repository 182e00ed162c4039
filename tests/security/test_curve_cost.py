"""What CURVE costs: tasks a second over TCP with keys against socket files (T20).

``python -m tests.security.test_curve_cost`` prints the figures of this machine.
"""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import Final, Literal

import pytest

import skyward as sky
from tests.rules.work import add

TASKS: Final = 20_000  # of one measurement
RUNS: Final = 5  # measurements of each kind, in turn: a machine's other work meets both
MOST: Final = 0.30  # of the tasks a second
Transport = Literal["ipc", "tcp"]


def rate(pool: sky.Compute, tasks: int) -> float:
    """Return how many tasks a second a pool takes, runs and returns."""
    calls = [add(number, 1) for number in range(tasks)]
    began = time.perf_counter()
    results = sky.gather(*calls) >> pool
    seconds = time.perf_counter() - began
    assert results[-1] == tasks
    return tasks / seconds


def measure(tasks: int = TASKS, runs: int = RUNS) -> dict[Transport, float]:
    """Return the median of each transport."""
    rates: dict[Transport, list[float]] = {"ipc": [], "tcp": []}
    with sky.Compute(sky.Local("ipc"), nodes=1) as ipc, sky.Compute(sky.Local("tcp"), nodes=1) as tcp:
        for pool in (ipc, tcp):
            rate(pool, tasks // 10)
        for _ in range(runs):
            rates["ipc"].append(rate(ipc, tasks))
            rates["tcp"].append(rate(tcp, tasks))
    return {transport: median(found) for transport, found in rates.items()}


def cost(medians: dict[Transport, float]) -> float:
    """Return the share of the tasks a second that CURVE over TCP costs."""
    return 1 - medians["tcp"] / medians["ipc"]


def line(medians: dict[Transport, float]) -> str:
    """Return the figures for people."""
    ipc, tcp = medians["ipc"], medians["tcp"]
    return f"median of {RUNS}: ipc {ipc:,.0f} tasks/s, tcp with CURVE {tcp:,.0f} tasks/s: it costs {cost(medians):.1%}"


@pytest.mark.slow
@pytest.mark.rule("T20")
def test_curve_costs_less_than_a_third() -> None:
    """Over TCP with keys at least 70 % of the tasks a second are left."""
    medians = measure()
    print(line(medians))
    assert cost(medians) < MOST


if __name__ == "__main__":
    found = measure()
    print(line(found))
    sys.exit(cost(found) >= MOST)
