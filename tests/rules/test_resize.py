"""How many nodes a pool has: at its opening, on request, and which ranks they hold (R33, R51)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import skyward as sky
from skyward.model import NodeState
from tests.rules.processes import daemons, family
from tests.rules.providers import Gate
from tests.rules.work import LONG, add, hold, let_go, meet, place, runs, until, where

if TYPE_CHECKING:
    from pathlib import Path


def ranks(pool: sky.Compute) -> list[int]:
    """Return the ranks of all nodes that are there or on their way."""
    return [node.rank for node in pool.snapshot().nodes]


def settled(pool: sky.Compute, wanted: list[int]) -> None:
    """Wait until just these ranks are there, and ready."""
    until(lambda: ranks(pool) == wanted and pool.current_nodes() == len(wanted))


@pytest.mark.rule("R33")
@pytest.mark.parametrize("nodes", [(1, 2), sky.Nodes(desired=2, min=1, max=2)], ids=["pair", "object"])
def test_pool_opens_with_its_least_nodes(nodes: Any) -> None:
    """It works as soon as `min` nodes are ready; the rest join as they come up."""
    gate = Gate(free=1)
    with sky.Compute(gate, nodes=nodes) as pool:
        assert pool.current_nodes() == 1
        assert [value for value, _, _ in place(1) @ pool] == [1]
        if isinstance(nodes, tuple):
            assert ranks(pool) == [0]  # (min, max) aims at min
            pool.resize(2)
        assert gate.waiting.acquire(timeout=LONG)
        assert pool.current_nodes() == 1
        assert [node.state for node in pool.snapshot().nodes] == [NodeState.READY, NodeState.STARTING]
        gate.opened.set()
        settled(pool, [0, 1])
        assert [(value, rank) for value, _, rank in place(2) @ pool] == [(2, 0), (2, 1)]


@pytest.mark.rule("R33")
def test_node_that_is_starting_has_no_pid() -> None:
    """Any number would be that of another process, and 0 the group of whoever sends the signal."""
    gate = Gate(free=1)
    with sky.Compute(gate, nodes=sky.Nodes(2, min=1)) as pool:
        assert gate.waiting.acquire(timeout=LONG)
        ready, starting = pool.snapshot().nodes
        assert (ready.state, starting.state) == (NodeState.READY, NodeState.STARTING)
        assert ready.pid in {process.pid for process in psutil.Process().children()}
        assert starting.pid is None
        gate.opened.set()


@pytest.mark.rule("R33")
def test_resize_returns_at_once() -> None:
    """Before any node has come or gone; closing does not wait for nodes that were on their way."""
    gate = Gate(free=1)
    with sky.Compute(gate, nodes=1) as slow:
        slow.resize(3)
        assert slow.current_nodes() == 1
        for _ in range(2):
            assert gate.waiting.acquire(timeout=LONG)
        assert add(1, 2) >> slow == 3
    assert not gate.opened.is_set()


@pytest.mark.rule("R33")
def test_resize_sets_min_desired_and_max_anew(pool: sky.Compute) -> None:
    """By a number, a pair or `Nodes`, also beyond the old max; a bad one changes nothing."""
    for nodes, wanted in ((3, [0, 1, 2]), ((1, 4), [0]), (sky.Nodes(2, 0, 5), [0, 1])):
        pool.resize(nodes)
        settled(pool, wanted)
        assert [rank for _, _, rank in place(1) @ pool] == wanted
    mistakes: list[tuple[Any, type[Exception]]] = [
        (0, ValueError),
        (-1, ValueError),
        ((2, 1), ValueError),
        ("2", TypeError),
        (1.5, TypeError),
        (True, TypeError),
    ]
    for bad, kind in mistakes:
        with pytest.raises(kind, match="node"):
            pool.resize(bad)
    settled(pool, [0, 1])


@pytest.mark.rule("R33")
def test_fixed_pool_does_not_grow(pool: sky.Compute, tmp_path: Path) -> None:
    """However many calls wait: total parallelism stays nodes times concurrency."""
    held = {str(i): hold(str(tmp_path), str(i)) > pool for i in range(40)}

    def running() -> list[str]:
        return [name for name in held if (tmp_path / f"{name}-runs").exists()]

    until(lambda: len(running()) == 2)
    while held:  # short calls may begin out of order: what waits where it need not is taken back
        until(running)
        assert len(running()) <= 2
        assert ranks(pool) == [0, 1]
        name = running()[0]
        let_go(tmp_path, name)
        assert held.pop(name).result() == name
    assert ranks(pool) == [0, 1]


@pytest.mark.rule("R33")
def test_pool_without_nodes_wakes_with_the_first_call() -> None:
    """With `min` 0 it opens at once; the call waits for the node that it has started."""
    with sky.Compute(nodes=(0, 2)) as pool:
        assert (pool.current_nodes(), ranks(pool), pool.is_active) == (0, [], True)
        assert add(1, 2) >> pool == 3
        assert ranks(pool) == [0]
        pool.resize((0, 2))
        until(lambda: ranks(pool) == [])
        assert [value for value, _, _ in place(4) @ pool] == [4]


@pytest.mark.rule("R33")
def test_snapshot_tells_how_things_stand(pool: sky.Compute, tmp_path: Path) -> None:
    """Nodes by rank with their processes, and tasks by what has become of them."""
    held = [hold(str(tmp_path), str(i)) > pool for i in range(3)]
    runs(tmp_path, "0")
    runs(tmp_path, "1")
    stands = pool.snapshot()
    assert [(node.rank, node.state, node.slots, node.in_flight) for node in stands.nodes] == [
        (0, NodeState.READY, 1, 1),
        (1, NodeState.READY, 1, 1),
    ]
    assert len({node.pid for node in stands.nodes} & {process.pid for process in daemons(pool)}) == 2
    assert all(node.endpoint.startswith(("ipc://", "tcp://")) and node.known_for > 0 for node in stands.nodes)
    assert (stands.queued, stands.in_flight, stands.done, stands.failed, stands.rerun) == (1, 2, 0, 0, 0)
    for i in range(3):
        let_go(tmp_path, str(i))
    assert [future.result() for future in held] == ["0", "1", "2"]
    after = pool.snapshot()
    assert (after.queued, after.in_flight, after.done, after.active) == (0, 0, 3, True)


@pytest.mark.rule("R33")
def test_concurrency_is_per_node(tmp_path: Path) -> None:
    """So many tasks run at once on each node; `is_active` follows the life of the pool."""
    pool = sky.Compute(nodes=2, concurrency=2)
    assert (pool.concurrency, pool.is_active, pool.current_nodes()) == (2, False, 0)
    with pool:
        assert (pool.concurrency, pool.is_active, pool.current_nodes()) == (2, True, 2)
        met = sky.gather(*[meet(str(tmp_path), str(i), 4) for i in range(4)]) >> pool
        assert len({pid for _, pid in met}) == 4
    assert (pool.is_active, pool.current_nodes()) == (False, 0)


@pytest.mark.rule("R51")
@pytest.mark.rule("R33")
def test_shrinking_spares_busy_nodes_and_the_head(tmp_path: Path) -> None:
    """The highest idle ranks go first, rank 0 last; a new node takes the lowest rank that is free."""
    with sky.Compute(nodes=4) as pool:
        held = hold(str(tmp_path), "a").on(3) > pool
        runs(tmp_path, "a")
        before = {node.rank: node.pid for node in pool.snapshot().nodes}
        pool.resize(3)
        settled(pool, [0, 1, 3])
        pool.resize(2)
        settled(pool, [0, 3])
        pool.resize(3)
        settled(pool, [0, 1, 3])
        after = {node.rank: node.pid for node in pool.snapshot().nodes}
        assert (after[0], after[3]) == (before[0], before[3])
        assert after[1] != before[1]
        assert [rank for _, _, rank in sky.gather(place(1).on(0), place(2).on(1)) >> pool] == [0, 1]
        pool.resize(1)  # the head is idle, and stays all the same
        until(lambda: pool.current_nodes() == 1)
        let_go(tmp_path, "a")
        assert held.result() == "a"
        settled(pool, [0])
        assert pool.snapshot().nodes[0].pid == before[0]


@pytest.mark.rule("R51")
@pytest.mark.rule("R26")
def test_growing_again_leaves_no_gap(pool: sky.Compute, tmp_path: Path) -> None:
    """A node that still works is taken back, one that only starts comes after all: the ranks are 0 to n-1."""
    held = hold(str(tmp_path), "a").on(1) > pool
    runs(tmp_path, "a")
    before = {node.rank: node.pid for node in pool.snapshot().nodes}
    pool.resize(1)
    until(lambda: pool.current_nodes() == 1)
    assert [rank for _, _, rank in place(1) @ pool] == [0]
    pool.resize(2)
    until(lambda: pool.current_nodes() == 2)
    late = place(2).on(1) > pool
    let_go(tmp_path, "a")
    assert held.result() == "a"
    assert late.result()[2] == 1
    assert {node.rank: node.pid for node in pool.snapshot().nodes} == before
    for size in (3, 2, 3):
        pool.resize(size)
    settled(pool, [0, 1, 2])
    assert [(info.node, info.total_nodes) for _, info in where() @ pool if info] == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.rule("R33")
def test_node_that_leaves_finishes_and_takes_nothing_more(pool: sky.Compute, tmp_path: Path) -> None:
    """Its processes are gone when it has finished; calls bound to it say which ranks there are."""
    held = hold(str(tmp_path), "a").on(1) > pool
    runs(tmp_path, "a")
    _, leaving = daemons(pool)
    processes = [leaving, *leaving.children(recursive=True)]
    pool.resize(1)
    until(lambda: pool.current_nodes() == 1)
    with pytest.raises(sky.AbsentRankError, match=r"rank 1 .*ready ranks: 0"):
        place(1).on(1) >> pool
    assert {rank for _, _, rank in sky.gather(*[place(i) for i in range(20)]) >> pool} == {0}
    assert leaving.is_running()
    let_go(tmp_path, "a")
    assert held.result() == "a"
    until(lambda: not any(process.is_running() for process in processes))
    assert len(family(pool)) >= 3


@pytest.mark.rule("R33")
def test_resizing_under_load_loses_nothing(pool: sky.Compute) -> None:
    """Up and down while calls run, from another thread."""
    stop = threading.Event()

    def resize() -> None:
        while not stop.is_set():
            for size in (3, 1, 2):
                pool.resize(size)
                until(lambda wanted=size: pool.current_nodes() == wanted or stop.is_set())

    thread = threading.Thread(target=resize)
    thread.start()
    try:
        for _ in range(5):
            results = sky.gather(*[place(i) for i in range(200)]) >> pool
            assert [value for value, _, _ in results] == list(range(200))
    finally:
        stop.set()
        thread.join()
    assert pool.snapshot().rerun == 0


@pytest.mark.rule("R33")
@pytest.mark.parametrize(
    ("nodes", "kind"),
    [
        (0, ValueError),
        ((3, 2), ValueError),
        ("4", TypeError),
        (2.5, TypeError),
        (True, TypeError),
        ((1, 2, 3), TypeError),
    ],
)
def test_bad_numbers_of_nodes_are_told(nodes: Any, kind: type[Exception]) -> None:
    """Bounds are checked before anything starts."""
    with pytest.raises(kind, match=r"nodes|node"):
        sky.Compute(nodes=nodes)
