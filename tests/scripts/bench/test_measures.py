"""How workloads are measured, with a contestant that does what it is told to, in this process."""

from __future__ import annotations

import os
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from skyward_scripts.bench.contestant import Contestant, Library
from skyward_scripts.bench.measures import arrays, calls, memory, values
from skyward_scripts.bench.measures.setting import LEAST, RanInCallerError, Setting, ran_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

SOMEBODY = 2**22 + 1  # no process has this id
BIG = 4_000  # bytes that each pending call of `Hoarder` costs


class Pretender(Library):
    """Says that somebody else has done everything, at once."""

    def call(self, task: Callable[[Any], Any], item: Any) -> Any:
        """Return what a worker would."""
        if task is TASKS.filled:
            array = np.ones(item)
            array[0] = SOMEBODY
            return array
        return (SOMEBODY, float(item.sum())) if task is TASKS.total else SOMEBODY

    def gather(self, calls: Sequence[tuple[Any, Any]]) -> Sequence[Any]:
        """Return it for each."""
        return [self.call(task, item) for task, item in calls]

    def map(self, task: Any, items: Sequence[Any]) -> Sequence[Any]:
        """Do the same."""
        return [self.call(task, item) for item in items]

    def stream(self, task: Any, items: Sequence[Any]) -> Iterable[Any]:
        """And again."""
        return iter(self.map(task, items))

    def to_each(self, task: Any, array: Any, workers: int) -> Sequence[Any]:
        """For each worker."""
        return [(SOMEBODY + number, float(array.sum())) for number in range(workers)]

    def iterate(self, task: Any, item: Any) -> Iterator[Any]:
        """Yield what a worker would."""
        if task is TASKS.numbers:
            yield SOMEBODY
            yield from range(item)
            return
        count, length = item
        for number in range(count):
            yield np.concatenate([[SOMEBODY, number], np.ones(length - 2)])


class Caller(Contestant):
    """Makes lone calls only."""

    def call(self, task: Callable[[Any], Any], item: Any) -> Any:
        """Return what a worker would."""
        return SOMEBODY


class Loser(Pretender):
    """Loses a value."""

    def gather(self, calls: Sequence[tuple[Any, Any]]) -> Sequence[Any]:
        """Return all but one."""
        return super().gather(calls)[1:]

    def call(self, task: Callable[[Any], Any], item: Any) -> Any:
        """Return a wrong sum."""
        return (SOMEBODY, 0.0) if task is TASKS.total else super().call(task, item)

    def iterate(self, task: Any, item: Any) -> Iterator[Any]:
        """Leave the last one out."""
        found = list(super().iterate(task, item))
        return iter(found[:-1])


class Hoarder(Pretender):
    """Keeps a good deal for each call that waits."""

    def hold_futures(self, described: Any) -> Any:
        """Take memory, and touch it."""
        return [bytearray(os.urandom(8) * (BIG // 8)) for _ in described]


TASKS: Any = types.SimpleNamespace(noop=object(), nap=object(), hold=object(), total=object(), filled=object())
TASKS.numbers, TASKS.blocks = object(), object()
TASKS.noop_two, TASKS.noop_three = object(), object()


def setting(contestant: Contestant, **sizes: int) -> Setting:
    """Return work for a contestant."""
    return Setting(contestant, TASKS, "some", sizes, 2, "")


def test_every_task_tells_where_it_ran() -> None:
    """One that ran here disqualifies, as does one that says nothing."""
    assert ran_on([SOMEBODY, SOMEBODY + 1, SOMEBODY]) == 2
    with pytest.raises(RanInCallerError):
        ran_on([SOMEBODY, os.getpid()])
    with pytest.raises(RanInCallerError):
        ran_on([None])


def test_slow_contestant_gets_fewer_tasks() -> None:
    """As many as ten seconds allow, but never less than a thousand, or all."""
    slow = setting(Pretender())
    for pace, count in ((9_999.0, 20_000), (500.0, 5_000), (1.0, LEAST)):
        slow.pace = pace
        assert slow.affordable(20_000) == count
    assert slow.affordable(400) == 400


def test_warming_up_notes_the_pace() -> None:
    """It comes from a gather of no-ops."""
    warm = setting(Pretender(), calls=20_000)
    warm.workers = 1
    warm.warm_up(0.0)
    assert warm.pace > 0


def test_contestant_without_a_gather_warms_up_by_calls() -> None:
    """It has no pace, and does all of its lone calls."""
    lone = setting(Caller(), calls=20_000)
    lone.workers = 1
    lone.warm_up(0.0)
    assert (lone.pace, calls.lone(lone, 0)["tasks"]) == (0.0, 20_000)


def test_measures_of_calls_yield_their_figures() -> None:
    """With how many tasks there were, and on how many workers."""
    some = setting(Pretender(), calls=10, functions=3, items=20, short=4, long=1)
    assert calls.lone(some, 0).keys() == {"p50", "p99", "tasks", "workers"}
    assert (calls.gather(some, 0)["tasks"], calls.map_items(some, 0)["tasks"]) == (10, 20)
    assert calls.stream(some, 0)["workers"] == 1
    assert calls.stragglers(some, 0)["÷ ideal"] < 1  # nobody took a nap


def test_mixed_calls_take_functions_in_turn() -> None:
    """And arguments of a size are all different."""
    mixed = calls.no_ops(setting(Pretender(), calls=4, functions=3, bytes=100))
    assert [task for task, _ in mixed] == [TASKS.noop, TASKS.noop_two, TASKS.noop_three, TASKS.noop]
    assert {len(item) for _, item in mixed} == {100}
    assert len({item for _, item in mixed}) == 4


def test_lost_value_is_a_failure() -> None:
    """Nobody is fast by leaving something out."""
    some = setting(Loser(), calls=10, short=4, long=1)
    with pytest.raises(RuntimeError, match="10 tasks gave 9 values"):
        calls.gather(some, 0)
    with pytest.raises(RuntimeError, match="5 tasks gave 4 values"):
        calls.stragglers(some, 0)


def test_measures_of_arrays_check_their_sums() -> None:
    """In both directions, and for each worker."""
    some = setting(Pretender(), bytes=8_000, times=2)
    figures = arrays.data(some, 0)
    assert {f"{way} {pages}" for way in ("argument", "result") for pages in ("cold", "warm")} < figures.keys()
    assert arrays.fan_out(some, 0)["workers"] == 2
    with pytest.raises(RuntimeError, match=r"sum is 0\.0, not 1000\.0"):
        arrays.data(setting(Loser(), bytes=8_000, times=2), 1)


def test_measures_of_generators_check_what_was_yielded() -> None:
    """Who leaves something out does not count, and who is slow is timed with fewer."""
    some = setting(Pretender(), items=20_000, bytes=8_000)
    values.warm_values(some)
    some.pace = 500.0
    assert values.values(some, 0)["tasks"] == 5_000
    values.warm_blocks(some)
    some.pace = 3.0
    assert (values.blocks(some, 0)["tasks"], values.blocks(some, 0)["workers"]) == (30, 1)
    bad = setting(Loser(), items=20, bytes=8_000)
    bad.pace = 1e6
    with pytest.raises(RuntimeError, match="sum of what was yielded is 171, not 190"):
        values.values(bad, 0)
    with pytest.raises(RuntimeError, match="sum of what was yielded"):
        values.blocks(bad, 0)


@pytest.mark.slow  # the heap must be new: what earlier tests have freed is used first, and nothing grows
def test_memory_is_what_the_client_has_grown_by(tmp_path: Path) -> None:
    """Divided by the calls that wait."""
    some = setting(Hoarder(), calls=5_000, quiet=20)
    some.scratch = str(tmp_path)
    assert memory.futures(some, 0)[""] == pytest.approx(BIG, rel=0.2)
    assert (tmp_path / "gate").exists()
