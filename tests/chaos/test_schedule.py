"""Schedules are pure, and have what was asked for."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.schedule import schedule

KINDS = ("worker", "worker", "daemon")


@given(st.integers(), st.integers(1, 8), st.floats(0.5, 5.0), st.floats(10.0, 200.0))
def test_schedule_is_what_was_asked_for(seed: int, hosts: int, every: float, length: float) -> None:
    """The same for the same seed; in order, about as many as fit, each kind as often as it was named."""
    faults = schedule(seed, KINDS, hosts, every=every, length=length, lasts=(0.5, 2.0))
    assert faults == schedule(seed, KINDS, hosts, every=every, length=length, lasts=(0.5, 2.0))
    times = [fault.at for fault in faults]
    assert times == sorted(times)
    assert all(0 < at < length for at in times)
    assert length / every / 1.2 - 1 <= len(faults) <= length / every / 0.8 + 1
    assert {fault.host for fault in faults} <= set(range(hosts))
    assert all(0.5 <= fault.lasts <= 2.0 for fault in faults)
    kinds = Counter(fault.kind for fault in faults)
    assert abs(kinds["daemon"] - len(faults) / 3) <= 1
    assert kinds.keys() <= set(KINDS)


def test_seeds_differ() -> None:
    """Each has a history of its own."""
    assert len({schedule(seed, KINDS, 4, every=1.0, length=60.0) for seed in range(100)}) == 100
