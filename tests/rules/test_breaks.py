"""Leaving off at any item, and losing a node at any item: within a second nothing is left of it.

One pool bears all of it, again and again, so that a slot, a thread or a descriptor too many adds up.
"""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

import skyward as sky
from tests import leaks
from tests.rules.processes import daemons, ended, family, replaced
from tests.rules.work import BUSY, add, meet, until
from tests.rules.yielding import count, double, is_idle, linger, take, total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SOON: Final = 1.0 * BUSY  # seconds
CALLS: Final = 80  # in a group: more than are taken

EVERY: Final = range(51)
EXECUTORS: Final = pytest.mark.parametrize("executor", ["process", "thread"])


def has_all_links(pool: sky.Compute) -> bool:
    """Return whether each node has its second link, too, which is made when a heartbeat has passed."""
    assert pool._engine is not None
    return all(mate.control is not None and mate.control.ready for mate in pool._engine.crew.mates.values())


def numbers(lost: Callable[[], object] | None = None, at: int = 0) -> Iterator[int]:
    """Feed numbers; lose the node before one of them."""
    for number in range(10**9):
        if lost is not None and number == at:
            lost()
        yield number


def forms(ways: dict[str, Any], items: tuple[int, ...], shortly: list[str]) -> list[Any]:
    """Return some ways in one short test, and each in a long one of its own."""
    short = pytest.param(shortly, items, id="some items")
    return [short, *[pytest.param([way], EVERY, marks=pytest.mark.slow, id=way) for way in ways]]


# --- leaving off ------------------------------------------------------------------------------


def leave_group(pool: sky.Compute, item: int, *, ordered: bool) -> None:
    """Break out of a stream of calls when this item comes."""
    calls = [linger(i) for i in range(CALLS)]
    for place, _ in enumerate(sky.gather(*calls, stream=True, ordered=ordered) >> pool):
        if place == item:
            break


def leave_generator(pool: sky.Compute, item: int) -> None:
    """Break out of what a remote generator yields."""
    for value in count(10**9) >> pool:
        assert value <= item
        if value == item:
            break


def leave_input(pool: sky.Compute, item: int) -> None:
    """Have a function leave off what it is fed."""
    assert take(numbers(), item) >> pool == list(range(item))


def leave_both(pool: sky.Compute, item: int) -> None:
    """Break out of a generator that is fed."""
    for value in double(numbers()) >> pool:
        if value == 2 * item:
            break


LEAVING: Final[dict[str, Callable[[sky.Compute, int], None]]] = {
    "ordered": partial(leave_group, ordered=True),
    "unordered": partial(leave_group, ordered=False),
    "generator": leave_generator,
    "input": leave_input,
    "both": leave_both,
}


@pytest.mark.rule("R12")
@pytest.mark.rule("R25")
@pytest.mark.rule("F64")
@pytest.mark.timeout(600)
@EXECUTORS
@pytest.mark.parametrize(("ways", "items"), forms(LEAVING, (0, 7, 50), list(LEAVING)))
def test_break_leaves_nothing(executor: Any, ways: list[str], items: Any, tmp_path: Path) -> None:
    """No slot is held, and there is no thread, descriptor or process more than before."""
    with sky.Compute(nodes=1, executor=executor, concurrency=2) as pool:
        for way in ways:
            LEAVING[way](pool, 3)
        until(lambda: is_idle(pool) and has_all_links(pool))
        before, processes = leaks.take(), len(family(pool))
        for way, item in [(way, item) for way in ways for item in items]:
            LEAVING[way](pool, item)
            until(lambda: is_idle(pool) and not left(pool, before) and len(family(pool)) <= processes, timeout=SOON)
        assert len((meet(str(tmp_path), "a", 2) & meet(str(tmp_path), "b", 2)) >> pool) == 2


def left(pool: sky.Compute, before: leaks.Census) -> list[str]:
    """Return what there is beyond the pool's processes."""
    ours = {f"process {process.pid} " for process in family(pool)}
    return [line for line in leaks.left_since(before) if not line.startswith(tuple(ours))]


# --- losing the node --------------------------------------------------------------------------


def lose_group(pool: sky.Compute, item: int, kill: Callable[[], object], *, ordered: bool) -> None:
    """Lose a node in the middle of a stream of calls: they move."""
    values: list[int] = []
    calls = [linger(i) for i in range(CALLS)]
    for place, value in enumerate(sky.gather(*calls, stream=True, ordered=ordered) >> pool):
        if place == item:
            kill()
        values += [value]
    assert (values if ordered else sorted(values)) == list(range(CALLS))


def lose_generator(pool: sky.Compute, item: int, kill: Callable[[], object]) -> None:
    """Lose the node of a generator: what came before is there, and then the error."""
    seen: list[int] = []
    with pytest.raises(sky.NodeLostError):
        for value in count(10**9).on(1) >> pool:
            if value == item:
                kill()
            seen += [value]
    assert seen == list(range(len(seen)))
    assert len(seen) > item


def lose_input(pool: sky.Compute, item: int, kill: Callable[[], object]) -> None:
    """Lose the node of a call that is fed."""
    with pytest.raises(sky.NodeLostError):
        total(numbers(kill, item)).on(1) >> pool


def lose_both(pool: sky.Compute, item: int, kill: Callable[[], object]) -> None:
    """Lose the node of a generator that is fed."""
    seen: list[int] = []
    with pytest.raises(sky.NodeLostError):
        for value in double(numbers()).on(1) >> pool:
            if value == 2 * item:
                kill()
            seen += [value]
    assert seen == [2 * number for number in range(len(seen))]


LOSING: Final[dict[str, Callable[[sky.Compute, int, Callable[[], object]], None]]] = {
    "ordered": partial(lose_group, ordered=True),
    "unordered": partial(lose_group, ordered=False),
    "generator": lose_generator,
    "input": lose_input,
    "both": lose_both,
}


@pytest.mark.rule("R36")
@pytest.mark.rule("R25")
@pytest.mark.rule("R12")
@pytest.mark.timeout(1_200)
@EXECUTORS
@pytest.mark.parametrize(("ways", "items"), forms(LOSING, (3,), ["unordered", "both"]))
def test_lost_node_leaves_nothing(executor: Any, ways: list[str], items: Any) -> None:
    """Its processes end, and no slot, thread or descriptor of it is kept."""
    with sky.Compute(nodes=2, executor=executor) as pool:
        assert [list(values) for values in count(3) @ pool] == [[0, 1, 2]] * 2
        add(1, 1) >> pool
        until(lambda: has_all_links(pool))
        threads, descriptors = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
        for way, item in [(way, item) for way in ways for item in items]:
            lost = daemons(pool)[1]
            gone = [lost.pid, *(child.pid for child in lost.children(recursive=True))]
            LOSING[way](pool, item, partial(os.kill, lost.pid, signal.SIGKILL))
            assert ended(gone, SOON)
            until(lambda: is_idle(pool), timeout=SOON)
            replaced(pool, gone)  # a thread sees to that, and the new node has descriptors as the old one had
            until(lambda: set(threading.enumerate()) <= threads, timeout=SOON)
            until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors, timeout=SOON)
        assert add(1, 1) @ pool == [2, 2]
