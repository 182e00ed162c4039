"""Pools that grow while calls wait and let idle nodes go, on real nodes (R33, R51)."""

from __future__ import annotations

import gc
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

import skyward as sky
from skyward.model import NodeState
from tests.rules.processes import daemons, family, pid_of
from tests.rules.providers import Leisurely
from tests.rules.test_resize import ranks, settled
from tests.rules.work import add, hold, let_go, note, place, runs, until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

SOON: Final[dict[str, Any]] = {"heartbeat": 0.1, "idle_timeout": 0.4}  # seconds: a node is let go half a second later
LARGE: Final = 512 * 1024  # bytes that travel in shared memory


@sky.function
def count() -> Generator[int]:
    """Yield numbers, as many as are wanted."""
    number = 0
    while True:
        yield number
        number += 1


@sky.function
def nap(seconds: float) -> float:
    """Take time."""
    time.sleep(seconds)
    return seconds


@sky.function
def large() -> Any:
    """Return an array, which stays in the worker's memory."""
    return np.zeros(LARGE, np.uint8)


@sky.function
def hold_inside(directory: str, name: str) -> str:
    """Wait for a call that is held."""
    return hold(directory, name) >> sky


@pytest.mark.rule("R33")
def test_pool_wakes_grows_shrinks_and_sleeps(tmp_path: Path) -> None:
    """From no node to `max`, because calls wait, and back, because none do; nothing is left, lost or run again."""
    with sky.Compute(nodes=(0, 4), **SOON) as pool:
        assert ranks(pool) == []
        for times in range(2):
            names = [f"{times}-{number}" for number in range(6)]
            held = [hold(str(tmp_path), name) > pool for name in names]
            until(lambda: pool.current_nodes() == 4)
            assert ranks(pool) == [0, 1, 2, 3]
            assert len(daemons(pool)) == 4
            for name in names:
                let_go(tmp_path, name)
            assert [future.result() for future in held] == names
            until(lambda: not ranks(pool) and not family(pool))
        stands = pool.snapshot()
        assert (stands.done, stands.failed, stands.rerun) == (12, 0, 0)


@pytest.mark.rule("R33")
def test_elastic_pool_does_not_grow_for_work_that_will_be_gone() -> None:
    """Calls that wait for less time than a node takes to start are worth none."""
    with sky.Compute(Leisurely(), nodes=(1, 4), heartbeat=0.05, idle_timeout=600.0) as pool:
        for _ in range(16):  # so that the first, which is slow, counts no more
            assert nap(0.02) >> pool == 0.02
        assert len(sky.gather(*[nap(0.02) for _ in range(8)]) >> pool) == 8
        assert ranks(pool) == [0]


@pytest.mark.rule("R51")
@pytest.mark.rule("R33")
def test_busy_nodes_stay_and_the_head_is_last(tmp_path: Path) -> None:
    """Idle nodes go, the highest ranks first, down to `min`; one that works stays, whatever its rank."""
    with sky.Compute(nodes=4, **SOON) as pool:
        held = hold(str(tmp_path), "a").on(2) > pool
        runs(tmp_path, "a")
        before = {node.rank: node.pid for node in pool.snapshot().nodes}
        pool.resize(sky.Nodes(4, 0, 5))
        settled(pool, [0, 2])
        let_go(tmp_path, "a")
        assert held.result() == "a"
        assert {node.rank: node.pid for node in pool.snapshot().nodes}.items() <= before.items()
        until(lambda: ranks(pool) == [])


def _stream(pool: sky.Compute, _: Path) -> Callable[[], object]:
    """Read a stream of node 2; return what ends it."""
    stream = count().on(2) >> pool
    assert next(stream) == 0
    return stream.close


def _parent(pool: sky.Compute, directory: Path) -> Callable[[], object]:
    """Have a task on node 2 wait for a call; return what ends that."""
    parent = hold_inside(str(directory), "b").on(2) > pool
    runs(directory, "b")

    def end() -> None:
        let_go(directory, "b")
        assert parent.result() == "b"

    return end


def _result(pool: sky.Compute, _: Path) -> Callable[[], object]:
    """Have a result in the memory of node 2; return what drops it."""
    kept = [large().on(2) >> pool]
    assert len(kept[0]) == LARGE

    def drop() -> None:
        kept.clear()
        gc.collect()

    return drop


@pytest.mark.rule("R33")
@pytest.mark.parametrize(
    "begin", [_stream, _parent, pytest.param(_result, marks=pytest.mark.ipc_only("memory is shared there alone"))]
)
def test_node_that_is_needed_is_not_idle(begin: Callable[..., Callable[[], object]], tmp_path: Path) -> None:
    """A stream, a task that waits for its calls, a result that lies in its memory: it goes when these are over."""
    with sky.Compute(nodes=3, **SOON) as pool:
        end = begin(pool, tmp_path)
        pool.resize(sky.Nodes(3, 1, 4))  # from now on nodes are idle
        until(lambda: ranks(pool) == [0, 2])
        assert pool.snapshot().nodes[-1].state is NodeState.READY
        end()
        settled(pool, [0])


@pytest.mark.rule("R51")
def test_lost_node_of_an_elastic_pool_is_replaced(pool: sky.Compute) -> None:
    """At once, under the lowest rank that is free, though nothing waits."""
    pool.resize(sky.Nodes(2, 1, 3))
    settled(pool, [0, 1])
    lost = pid_of(pool.snapshot().nodes[0])
    os.kill(lost, signal.SIGKILL)
    until(lambda: lost not in {node.pid for node in pool.snapshot().nodes})
    settled(pool, [0, 1])


@pytest.mark.rule("R33")
def test_shrinking_loses_no_call_that_is_bound_to_the_node(pool: sky.Compute, tmp_path: Path) -> None:
    """Those that wait for it when it is told to go run there first, each once."""
    held = hold(str(tmp_path), "a").on(1) > pool
    runs(tmp_path, "a")
    bound = [note(str(tmp_path), f"n{number}").with_retries(0).on(1) > pool for number in range(3)]
    pool.resize(1)
    until(lambda: pool.current_nodes() == 1)
    let_go(tmp_path, "a")
    assert [future.result() for future in [held, *bound]] == ["a", "n0", "n1", "n2"]
    assert [(tmp_path / f"n{number}").read_text() for number in range(3)] == ["x"] * 3
    settled(pool, [0])


class Slow:
    """Takes longer to pickle than a node may be idle."""

    def __reduce__(self) -> tuple[type[Slow], tuple[()]]:
        time.sleep(2 * SOON["idle_timeout"])
        return Slow, ()


@pytest.mark.rule("R8")
@pytest.mark.rule("R33")
def test_broadcast_keeps_the_nodes_that_it_counts_on() -> None:
    """From the moment when it looks who is ready, also while its arguments are being pickled."""
    with sky.Compute(nodes=3, **SOON) as pool:
        pool.resize(sky.Nodes(3, 1, 4))
        assert [rank for _, _, rank in place(Slow()) @ pool] == [0, 1, 2]
        settled(pool, [0])


@pytest.mark.rule("R33")
def test_resize_of_a_busy_elastic_pool_keeps_what_works(tmp_path: Path) -> None:
    """Bounds are new at once; nodes between them that work stay until they are idle, those above max drain."""
    with sky.Compute(nodes=3, **SOON) as pool:
        held = [hold(str(tmp_path), str(number)) > pool for number in range(3)]
        for number in range(3):
            runs(tmp_path, str(number))
        pool.resize((1, 2))
        until(lambda: pool.current_nodes() == 2)
        assert ranks(pool) == [0, 1, 2]
        for number in range(3):
            let_go(tmp_path, str(number))
        assert [future.result() for future in held] == ["0", "1", "2"]
        settled(pool, [0])
        assert pool.snapshot().rerun == 0


@pytest.mark.rule("R3")
@pytest.mark.rule("R33")
def test_call_bound_to_the_head_wakes_a_pool_and_waits() -> None:
    """A pool that sleeps wakes with its head: the call runs there, as does every one that was made meanwhile."""
    with sky.Compute(nodes=(0, 2)) as pool:
        futures = [add(0).on("head") > pool, add(1).on(0) > pool]
        assert add(2).on("head") >> pool == 2
        assert [future.result() for future in futures] == [0, 1]


@pytest.mark.rule("R3")
@pytest.mark.rule("R33")
def test_call_bound_to_another_rank_of_a_sleeping_pool_fails_and_wakes_it() -> None:
    """An absent rank is no reason to wait, whatever is coming; the call has woken the pool, and may be made again."""
    with sky.Compute(nodes=(0, 1)) as pool:
        bound = add(1).on(1)
        with pytest.raises(sky.AbsentRankError, match=r"ready ranks: none\); call again when one is ready"):
            bound >> pool
        until(lambda: pool.current_nodes() == 1)
        with pytest.raises(sky.AbsentRankError, match=r"rank 1 .*ready ranks: 0\)"):
            bound >> pool
