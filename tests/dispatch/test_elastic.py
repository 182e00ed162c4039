"""Pools that grow while calls wait and let idle nodes go: what the membership decides at each look."""

from __future__ import annotations

from typing import Any

import pytest

from skyward.dispatch.load import Load
from skyward.dispatch.membership import AT_ONCE, FIRST_PAUSE, Launch, Membership, Retire
from skyward.model import Nodes, NodeState

IDLE = 60.0  # seconds after which an idle node is let go
START_UP = 2.0  # seconds that a node takes

pytestmark = pytest.mark.rule("R33")


class Pool(Membership):
    """A membership whose first nodes are ready after a start-up time, at that moment."""

    def __init__(self, least: int, most: int, *, desired: int | None = None, slots: int = 1) -> None:
        super().__init__(Nodes(least if desired is None else desired, least, most), idle_timeout=IDLE, slots=slots)
        self.served: dict[int, int] = {}
        self.done = 0
        self.arrive(self.on_open(0.0), START_UP)

    def arrive(self, changes: list[Any], now: float) -> None:
        """Let all that were launched be ready."""
        for change in changes:
            assert isinstance(change, Launch)
            self.on_ready(change.rank, now)
            self.served[change.rank] = 0

    def leave(self, changes: list[Any], now: float) -> list[int]:
        """Let all go that shall; return their ranks."""
        ranks: list[int] = []
        for change in changes:
            assert isinstance(change, Retire)
            assert self.on_lost(change.rank, "it was let go", now) == []
            del self.served[change.rank]
            ranks.append(change.rank)
        return ranks

    def see(self, now: float, waiting: int = 0, *busy: int, cost: float = 10.0, done: int = 0) -> list[Any]:
        """Look at the pool; with calls that wait all nodes are busy."""
        self.done += done
        working = set(self.served) if waiting else set(busy)
        for rank in working:
            self.served[rank] += 1
        return self.on_look(
            Load(waiting, cost, 1.0, waiting, self.done, len(self.served), dict(self.served), working), now
        )


# --- growing -------------------------------------------------------------------------------


def test_pool_grows_while_calls_wait() -> None:
    """By as many nodes as there is work for, under the next ranks, and not again while these start."""
    pool = Pool(1, 8)
    assert pool.see(3.0) == []
    assert pool.see(3.25, 3) == [Launch(1), Launch(2), Launch(3)]
    assert pool.see(3.5, 3) == []
    assert pool.see(5.0, 3) == []
    assert pool.states == {0: NodeState.READY, **dict.fromkeys((1, 2, 3), NodeState.STARTING)}


def test_pool_never_grows_beyond_max() -> None:
    """Whatever waits."""
    pool = Pool(1, 3)
    assert pool.see(3.0, 1_000) == [Launch(1), Launch(2)]
    pool.arrive([Launch(1), Launch(2)], 5.0)
    for step in range(40):
        assert pool.see(5.0 + step, 1_000) == []


def test_no_node_is_started_for_work_that_will_be_gone() -> None:
    """What the ready node does in the time that another takes to start."""
    pool = Pool(1, 4)
    assert pool.see(3.0, 4, cost=0.5) == []
    assert pool.see(3.25, 5, cost=0.5, done=1) == [Launch(1)]


def test_start_up_time_is_measured() -> None:
    """Of each node that comes, the newest counting half."""
    pool = Pool(1, 4)
    assert pool.start_up == START_UP
    assert pool.see(3.0, 1) == [Launch(1)]
    pool.on_ready(1, 9.0)
    assert pool.start_up == 4.0


def test_few_nodes_are_launched_at_once() -> None:
    """As many as are ready, or eight: a provider refuses a rush."""
    pool = Pool(1, 100)
    first = pool.see(3.0, 1_000)
    assert len(first) == AT_ONCE
    assert pool.see(3.25, 1_000) == []
    pool.arrive(first, 5.0)
    assert len(pool.see(5.25, 1_000, done=9)) == AT_ONCE + 1


def test_failed_launches_make_a_pause() -> None:
    """The pool does not ask for more before it is over, and then for what failed."""
    pool = Pool(1, 3)
    assert pool.see(3.0, 9) == [Launch(1), Launch(2)]
    assert pool.on_launch_failed(2, "no capacity", 3.5) == []
    assert pool.on_launch_failed(1, "no capacity", 3.5) == []
    assert pool.see(3.5 + FIRST_PAUSE / 2, 9) == []
    assert pool.see(3.5 + FIRST_PAUSE, 9) == [Launch(1), Launch(2)]
    assert list(pool.causes) == ["no capacity"] * 2


def test_failed_launch_is_not_repeated_when_nothing_waits() -> None:
    """The work has found another slot."""
    pool = Pool(1, 3)
    assert pool.see(3.0, 9) == [Launch(1), Launch(2)]
    pool.on_launch_failed(1, "no capacity", 3.5)
    pool.on_launch_failed(2, "no capacity", 3.5)
    for now in (3.6, 4.0, 5.0, 60.0):
        assert pool.see(now) == []
    assert pool.target == 1
    assert pool.next_launch() is None


def test_lost_node_is_replaced_also_where_nothing_waits() -> None:
    """At once, under its rank."""
    pool = Pool(1, 3, desired=2)
    assert pool.on_lost(1, "its process died", 5.0) == [Launch(1)]


def test_nothing_grows_before_any_node_was_ready() -> None:
    """A pool that wakes starts one node: how long these take, and calls, is not known yet."""
    pool = Pool(0, 8)
    assert (pool.on_wake(1.0), pool.waking) == ([Launch(0)], True)
    assert pool.see(1.25, 100) == []
    pool.arrive([Launch(0)], 2.0)
    assert (pool.ready(), pool.waking) == (1, False)
    assert len(pool.see(2.25, 100)) == 7


def test_pool_that_wakes_again_knows_what_it_needs() -> None:
    """The times were measured before it slept."""
    pool = Pool(0, 4)
    pool.arrive(pool.on_wake(1.0), 2.0)
    pool.see(2.25)
    assert pool.leave(pool.see(2.25 + IDLE), 63.0) == [0]
    assert pool.on_wake(100.0) == [Launch(0)]
    assert pool.see(100.25, 3) == [Launch(1), Launch(2)]


def test_failed_launch_ends_the_waking() -> None:
    """Calls are not made to wait for ever for nodes that do not come."""
    pool = Pool(0, 4)
    pool.on_wake(1.0)
    pool.on_launch_failed(0, "no capacity", 2.0)
    assert not pool.waking
    pool.see(2.1, 1)
    assert pool.see(2.0 + FIRST_PAUSE, 1) == [Launch(0)]
    assert not pool.waking


def test_wide_nodes_are_fewer() -> None:
    """Four slots on a node take four calls."""
    pool = Pool(0, 8, slots=4)
    pool.arrive(pool.on_wake(0.0), START_UP)
    load = Load(8, 10.0, 1.0, 12, 0, 4, {0: 0}, {0})
    assert pool.on_look(load, 3.0) == [Launch(1), Launch(2)]


# --- shrinking -----------------------------------------------------------------------------


@pytest.mark.rule("R51")
def test_idle_nodes_go_down_to_min() -> None:
    """The highest ranks first, after `idle_timeout`, not a look sooner."""
    pool = Pool(2, 8, desired=5)
    assert pool.see(10.0) == []
    assert pool.see(10.0 + IDLE - 0.25) == []
    assert pool.see(10.0 + IDLE) == [Retire(4), Retire(3), Retire(2)]
    assert pool.target == 2
    assert pool.see(1_000.0) == []


@pytest.mark.rule("R51")
def test_busy_nodes_stay() -> None:
    """Only who was idle goes, whatever its rank."""
    pool = Pool(1, 8, desired=4)
    pool.see(10.0, 0, 1, 3)
    assert pool.see(10.0 + IDLE, 0, 3) == [Retire(2)]
    assert pool.see(10.5 + IDLE, 0, 3) == []
    assert pool.see(11.0 + 2 * IDLE, 0, 3) == [Retire(1)]


@pytest.mark.rule("R51")
def test_head_goes_last() -> None:
    """An idle rank 0 stays while another node works, and goes when it is alone."""
    pool = Pool(0, 8, desired=2)
    pool.see(10.0, 0, 1)
    assert pool.see(10.0 + IDLE, 0, 1) == []
    assert pool.see(10.0 + 2 * IDLE) == []
    assert pool.see(10.0 + 3 * IDLE) == [Retire(1), Retire(0)]


def test_head_stays_where_min_says_so() -> None:
    """Down to one node, and that is the head."""
    pool = Pool(1, 8, desired=3)
    pool.see(10.0)
    assert pool.see(10.0 + IDLE) == [Retire(2), Retire(1)]


def test_nobody_goes_while_calls_wait() -> None:
    """An idle node has a free slot for them."""
    pool = Pool(1, 4, desired=3)
    pool.see(10.0)
    load = Load(2, 0.1, 1.0, 2, 0, 3, {0: 0, 1: 0, 2: 0}, {0})
    assert pool.on_look(load, 10.0 + IDLE) == []


def test_nodes_that_start_are_not_let_go() -> None:
    """They have been wanted, and have had no chance."""
    pool = Pool(0, 4, desired=1)
    pool.see(3.0)
    pool.see(4.0, 1)
    assert pool.states[1] is NodeState.STARTING
    pool.see(5.0)
    assert pool.see(5.0 + IDLE) == []  # the head is not alone
    pool.arrive([Launch(1)], 66.0)
    pool.see(66.0)
    assert pool.see(66.0 + IDLE) == [Retire(1), Retire(0)]


def test_fixed_pool_does_neither() -> None:
    """Without a max above the desired number."""
    pool = Pool(1, 2, desired=2)
    assert not pool.is_elastic
    assert pool.see(10.0, 1_000) == []
    assert pool.see(11.0) == []
    assert pool.see(1_000.0) == []


# --- resizing ------------------------------------------------------------------------------


def test_resize_of_an_elastic_pool_keeps_those_that_work() -> None:
    """Idle ones go to the new desired number at once, busy ones when they are idle, or above the new max."""
    pool = Pool(1, 8, desired=5)
    assert pool.on_resize(Nodes(1, 1, 4), {4, 2}, 10.0) == [Retire(4), Retire(2)]
    assert pool.target == 3
    assert pool.on_resize(Nodes(1, 1, 2), (), 11.0) == [Retire(3)]
    assert pool.on_resize(Nodes(1), (), 12.0) == [Retire(1)]


def test_resize_makes_a_pool_elastic_and_fixed() -> None:
    """What holds is the newest."""
    pool = Pool(2, 2)
    assert pool.on_resize(Nodes(2, 1, 4), {0, 1}, 3.0) == []
    assert pool.see(4.0, 9) == [Launch(2), Launch(3)]
    assert pool.on_resize(Nodes(3), (), 5.0) == [Retire(3)]
    assert pool.see(1_000.0) == []
