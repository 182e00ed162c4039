"""How points of curves are measured, with a contestant that does what it is told to, in this process."""

from __future__ import annotations

import os
import types
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from skyward_scripts.bench import processes
from skyward_scripts.bench.contestant import Library
from skyward_scripts.bench.measures import costs
from skyward_scripts.bench.measures.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Sequence

SOMEBODY = 2**22 + 1  # no process has this id
TASKS: Any = types.SimpleNamespace(noop="noop", nap="nap", spin="spin")


class Clock:
    """Stands where a measure has its clocks."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        """Return the time that has passed."""
        return self.now

    def process_time(self) -> float:
        """Return what it has cost: a tenth of that."""
        return self.now / 10

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Steady(Library):
    """Takes a moment for anything, and as long again for each of so many calls."""

    def __init__(self, clock: Clock, pace: float) -> None:
        self.clock = clock
        self.pace = pace
        self.gathers: list[Sequence[tuple[Any, Any]]] = []
        self.log: list[str] = []

    def open(self, workers: int) -> None:
        """Take a second for each worker."""
        self.clock.now += workers
        self.log.append(f"open {workers}")

    def close(self) -> None:
        """Take two seconds."""
        self.clock.now += 2
        self.log.append("close")

    def call(self, task: Any, item: Any) -> Any:
        """Return what a worker would."""
        return SOMEBODY

    def gather(self, calls: Sequence[tuple[Any, Any]]) -> Sequence[Any]:
        """Let the time pass."""
        self.gathers.append(calls)
        self.clock.now += 0.05 + len(calls) / self.pace
        return [SOMEBODY] * len(calls)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock by which is measured; nobody carries the mark of this process."""
    clock = Clock()
    monkeypatch.setattr(costs, "time", clock)
    monkeypatch.setenv(processes.TOKEN, uuid.uuid4().hex)
    return clock


def setting(contestant: Library, **sizes: int) -> Setting:
    """Return work for a contestant."""
    return Setting(contestant, TASKS, "some", {"millis": 1_000, "most": 100_000, **sizes}, 2, "")


@pytest.mark.parametrize("pace", [100.0, 1_000.0, 30_000.0])
def test_gather_is_about_as_long_as_wanted(clock: Clock, pace: float) -> None:
    """Whatever the pace, the last gather has from half to one and a half of the time, and those before little more."""
    steady = Steady(clock, pace)
    figures = costs.by_size(setting(steady, bytes=0), 0)
    seconds = figures["tasks"] / figures[""]
    assert 0.5 <= seconds <= 1.5
    assert seconds == pytest.approx(0.05 + len(steady.gathers[-1]) / pace)
    assert clock.now <= 2 * seconds + 0.5


def test_few_calls_do_not_promise_too_much(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few that fit into what lies ready anyway are done at once, and more of them take their time."""
    steady = Steady(clock, 1_000.0)
    gather = steady.gather
    monkeypatch.setattr(steady, "gather", lambda calls: [SOMEBODY] * 16 if len(calls) == 16 else gather(calls))
    ticks = iter(range(1_000))
    monkeypatch.setattr(clock, "perf_counter", lambda: clock.now + 1e-6 * next(ticks))
    assert 0.5 <= costs.by_size(setting(steady, bytes=0), 0)["tasks"] / 1_000 <= 1.5
    assert clock.now <= 3


def test_gather_has_no_more_calls_than_there_may_be(clock: Clock) -> None:
    """Neither by their number, nor by the bytes of all their arguments."""
    fast = Steady(clock, 1e9)
    assert costs.by_size(setting(fast, bytes=0), 0)["tasks"] == 100_000
    assert costs.by_size(setting(fast, bytes=10, most=50), 0)["tasks"] == 50


def test_arguments_have_their_size_and_differ(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them together are no more than what may be at hand, and the rate of data is that of all bytes."""
    monkeypatch.setattr(costs, "BULK", 4_000)
    fast = Steady(clock, 1e9)
    figures = costs.by_size(setting(fast, bytes=100), 0)
    items = [item for _, item in fast.gathers[-1]]
    assert [len(item) for item in items] == [100] * 40
    assert len(set(items)) == 40
    assert figures["data"] == pytest.approx(figures[""] / 10_000)


def test_time_of_tasks_has_an_ideal(clock: Clock) -> None:
    """Both workers all of the time; tasks that take no time have none."""
    slow = Steady(clock, 100.0)
    figures = costs.by_time(setting(slow, micros=10_000, sleeps=1), 0)
    assert figures["ideal"] == pytest.approx(200)
    assert figures["÷ ideal"] == pytest.approx(figures[""] / 200)
    assert set(slow.gathers[-1]) == {("nap", 0.01)}
    assert "ideal" not in costs.by_time(setting(slow, micros=0, sleeps=0), 0)
    assert set(slow.gathers[-1]) == {("spin", 0.0)}


def test_costs_are_those_of_a_task(clock: Clock) -> None:
    """CPU time of the client, divided by the calls, in microseconds."""
    figures = costs.by_time(setting(Steady(clock, 1_000.0), micros=0, sleeps=0), 0)
    assert figures["client"] == pytest.approx(1e5 / figures[""])
    assert figures["nodes"] == 0


def test_number_of_nodes_has_a_pool_of_its_own(clock: Clock) -> None:
    """It is opened when the one before is closed, and closed in the end; both are timed."""
    steady = Steady(clock, 1e6)
    figures = costs.by_nodes(setting(steady, nodes=4, calls=3, idle=1_000), 0)
    assert steady.log == ["close", "open 4", "close"]
    assert figures["open"] == pytest.approx(4)
    assert figures["close"] == pytest.approx(2)
    assert figures["idle client"] == pytest.approx(100)
    assert (figures["idle node"], figures["node"]) == (0, 0)
    assert figures["p50"] > 0


def test_lost_value_is_a_failure(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is cheap by leaving something out."""
    loser = Steady(clock, 1e6)
    monkeypatch.setattr(loser, "gather", lambda calls: [SOMEBODY] * (len(calls) - 1))
    with pytest.raises(RuntimeError, match="16 tasks gave 15 values"):
        costs.by_size(setting(loser, bytes=0), 0)


def test_work_is_cpu_time() -> None:
    """A task that works takes the CPU for as long as it says."""
    from time import thread_time

    from skyward_scripts.bench import tasks

    begun = thread_time()
    assert tasks.spin(0.01) == os.getpid()
    assert thread_time() - begun >= 0.01
