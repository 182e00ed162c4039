"""How many nodes a pool has, and which ranks they hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.dispatch.membership import CAUSES, FIRST_PAUSE, LONGEST_PAUSE, Keep, Launch, Membership, Retire
from skyward.model import Nodes, NodeState

DRAINING, READY, STARTING = NodeState.DRAINING, NodeState.READY, NodeState.STARTING


def pool(count: int) -> Membership:
    """Return a membership whose nodes are all ready, at time 0."""
    membership = Membership(Nodes(count))
    assert membership.on_open(0.0) == [Launch(rank) for rank in range(count)]
    for rank in range(count):
        membership.on_ready(rank, 0.0)
    return membership


@pytest.mark.rule("R33")
def test_pool_aims_at_desired() -> None:
    """Opening launches the desired number, neither min nor max."""
    membership = Membership(Nodes(3, 1, 5))
    assert membership.on_open(0.0) == [Launch(0), Launch(1), Launch(2)]
    assert membership.states == {0: STARTING, 1: STARTING, 2: STARTING}
    assert membership.ready() == 0
    membership.on_ready(1, 0.5)
    assert membership.ready() == 1
    assert membership.on_tick(1.0) == []


@pytest.mark.rule("R33")
def test_node_can_be_spared_if_enough_others_are_there_or_come() -> None:
    """As many as min, of which those that leave are none."""
    membership = Membership(Nodes(3, 2, 3))
    membership.on_open(0.0)
    membership.on_ready(0, 0.5)
    assert membership.can_spare(1)
    membership.on_launch_failed(1, "no", 1.0)
    assert not membership.can_spare(2)
    assert membership.can_spare(1)


@pytest.mark.rule("R51")
def test_lost_node_is_replaced_at_once() -> None:
    """A replacement is launched the moment a node is lost, and takes its rank."""
    membership = pool(3)
    assert membership.on_lost(1, "node 1: its process died", 10.0) == [Launch(1)]
    assert list(membership.causes) == ["node 1: its process died"]
    assert membership.ready() == 2


@pytest.mark.rule("R51")
def test_replacements_take_the_lowest_free_ranks() -> None:
    """Ranks stay without gaps."""
    membership = pool(4)
    membership.on_resize(Nodes(2), {0, 1, 2, 3}, 1.0)
    membership.on_lost(2, "", 1.0)
    membership.on_lost(3, "", 1.0)
    assert membership.on_lost(0, "", 1.0) == [Launch(0)]
    membership.on_ready(0, 1.0)
    assert membership.on_resize(Nodes(4), (), 2.0) == [Launch(2), Launch(3)]


@pytest.mark.rule("R51")
def test_node_that_is_leaving_is_taken_back() -> None:
    """Two nodes never have the same rank, and a pool that grows again leaves no gap for the one that goes."""
    membership = pool(2)
    assert membership.on_resize(Nodes(1), (), 1.0) == [Retire(1)]
    assert membership.on_resize(Nodes(3), (), 1.0) == [Keep(1), Launch(2)]
    assert membership.states == {0: READY, 1: READY, 2: STARTING}
    assert membership.on_lost(1, "node 1: its process died", 2.0) == [Launch(1)]


@pytest.mark.rule("R51")
def test_start_that_was_called_off_is_expected_again() -> None:
    """It is still under way; if it fails it is missed, and tried again as any other."""
    membership = pool(1)
    membership.on_resize(Nodes(2), (), 1.0)
    assert membership.on_resize(Nodes(1), {0}, 1.0) == [Retire(1)]
    assert membership.on_resize(Nodes(2), {0}, 1.0) == [Keep(1)]
    assert membership.states == {0: READY, 1: STARTING}
    assert membership.on_launch_failed(1, "no", 2.0) == []
    assert (membership.next_launch(), list(membership.causes)) == (2.0 + FIRST_PAUSE, ["no"])
    assert membership.on_tick(2.0 + FIRST_PAUSE) == [Launch(1)]


@pytest.mark.rule("R51")
def test_free_rank_comes_before_one_that_is_leaving() -> None:
    """The lowest that is not there, whatever it takes: who leaves above it goes on leaving."""
    membership = pool(4)
    assert membership.on_resize(Nodes(1), {1, 3}, 1.0) == [Retire(3), Retire(1), Retire(2)]
    membership.on_lost(1, "it was let go", 1.0)
    membership.on_lost(3, "it was let go", 1.0)
    assert membership.on_resize(Nodes(2), (), 2.0) == [Launch(1)]
    assert membership.states == {0: READY, 1: STARTING, 2: DRAINING}
    assert membership.on_resize(Nodes(4), (), 2.0) == [Keep(2), Launch(3)]


def test_node_is_taken_back_also_while_no_launch_may_be() -> None:
    """That takes no provider; what is missing below comes after the pause."""
    membership = pool(3)
    membership.on_resize(Nodes(1), (), 1.0)
    membership.on_lost(1, "it was let go", 1.0)
    membership.on_lost(0, "node 0: its process died", 1.0)
    membership.on_launch_failed(0, "no", 1.0)
    assert membership.on_resize(Nodes(3), (), 1.0) == [Keep(2)]
    assert membership.on_tick(1.0 + FIRST_PAUSE) == [Launch(0), Launch(1)]


def test_node_that_is_lost_while_it_leaves_is_not_taken_back() -> None:
    """Its rank is free then."""
    membership = pool(2)
    membership.on_resize(Nodes(1), (), 1.0)
    assert membership.on_lost(1, "node 1: its process died", 2.0) == []
    assert membership.on_resize(Nodes(2), (), 3.0) == [Launch(1)]


def test_pool_that_wakes_takes_its_head_back() -> None:
    """A call that comes while the only node starts, and is not wanted any more, has it come after all."""
    membership = Membership(Nodes(0, 0, 2))
    assert (membership.on_wake(1.0), membership.waking) == ([Launch(0)], True)
    assert membership.on_resize(Nodes(0, 0, 2), (), 2.0) == [Retire(0)]
    assert membership.on_wake(3.0) == [Keep(0)]
    membership.on_ready(0, 4.0)
    assert membership.on_resize(Nodes(0, 0, 2), {0}, 5.0) == [Retire(0)]
    assert (membership.on_wake(6.0), membership.waking) == ([Keep(0)], False)


@pytest.mark.rule("R26")
@pytest.mark.rule("R51")
@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from(["resize", "come", "leave", "lose"]), st.integers(0, 5))))
def test_ranks_have_no_gap_whatever_the_order(count: int, events: list[tuple[str, int]]) -> None:
    """Sizes change while nodes come, go and are lost: once none is on its way the ranks are 0 to n-1."""
    membership = pool(count)

    def some(number: int, *states: NodeState) -> list[int]:
        ranks = sorted(rank for rank, state in membership.states.items() if state in states)
        return ranks[number % len(ranks) :][:1] if ranks else []

    for event, number in events:
        if event == "resize":
            count = number + 1
            membership.on_resize(Nodes(count), set(membership.states), 0.0)
        elif event == "come":
            for rank in some(number, STARTING):
                membership.on_ready(rank, 0.0)
        else:
            for rank in some(number, DRAINING if event == "leave" else READY):
                membership.on_lost(rank, "gone", 0.0)
    for rank, state in list(membership.states.items()):
        if state is DRAINING:
            assert membership.on_lost(rank, "it was let go", 0.0) == []
    assert sorted(membership.states) == list(range(count))


@pytest.mark.rule("R51")
def test_shrinking_takes_the_highest_idle_ranks() -> None:
    """Idle nodes go first, from the highest rank down, then busy ones."""
    membership = pool(5)
    assert membership.on_resize(Nodes(2), {1, 3}, 1.0) == [Retire(3), Retire(1), Retire(4)]


@pytest.mark.rule("R51")
def test_shrinking_takes_rank_zero_last() -> None:
    """The head stays though it is the only idle one."""
    membership = pool(3)
    assert membership.on_resize(Nodes(1), {0}, 1.0) == [Retire(2), Retire(1)]
    assert membership.on_resize(Nodes(0, 0, 1), {0}, 1.0) == [Retire(0)]


def test_shrinking_takes_what_only_starts_before_what_works() -> None:
    """A node that is still starting has nothing to do."""
    membership = pool(2)
    membership.on_resize(Nodes(3), (), 1.0)
    membership.on_lost(0, "", 1.0)
    assert membership.states == {0: STARTING, 1: READY, 2: STARTING}
    assert membership.on_resize(Nodes(2), (), 1.0) == [Retire(2)]
    membership.on_ready(2, 1.0)
    assert membership.states[2] is DRAINING


def test_node_that_was_let_go_is_not_replaced() -> None:
    """The end of a retirement is no loss, and no cause of anything."""
    membership = pool(2)
    membership.on_resize(Nodes(1), {1}, 1.0)
    assert membership.on_lost(1, "it was let go", 2.0) == []
    assert list(membership.causes) == []
    assert membership.states == {0: READY}


def test_loss_reported_twice_counts_once() -> None:
    """Of two reports of the same death the second changes nothing (F67)."""
    membership = pool(2)
    membership.on_resize(Nodes(1), {1}, 1.0)
    membership.on_lost(1, "", 2.0)
    assert membership.on_lost(1, "again", 2.0) == []
    assert membership.on_launch_failed(1, "again", 2.0) == []
    assert list(membership.causes) == []
    assert membership.failures == 0


def test_failed_launch_is_tried_again_after_a_pause_that_doubles() -> None:
    """A broken provider is not hammered."""
    membership = Membership(Nodes(1))
    now = 0.0
    assert membership.on_open(now) == [Launch(0)]
    for attempt in range(10):
        assert membership.on_launch_failed(0, "no", now) == []
        pause = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
        assert membership.next_launch() == now + pause
        assert membership.on_tick(now + pause - 0.001) == []
        now += pause
        assert membership.on_tick(now) == [Launch(0)]
        assert membership.next_launch() is None
    assert len(membership.causes) == CAUSES


def test_launches_that_fail_together_make_one_pause() -> None:
    """Ten nodes that fail side by side fail for one reason."""
    membership = Membership(Nodes(10))
    membership.on_open(0.0)
    for rank in range(10):
        assert membership.on_launch_failed(rank, f"no {rank}", 0.01) == []
    assert membership.next_launch() == 0.01 + FIRST_PAUSE
    assert membership.on_tick(1.0) == [Launch(rank) for rank in range(10)]


def test_success_ends_the_pauses() -> None:
    """A node that joins shows that the provider works."""
    membership = Membership(Nodes(2))
    membership.on_open(0.0)
    membership.on_launch_failed(0, "no", 0.0)
    assert membership.on_tick(FIRST_PAUSE) == [Launch(0)]
    membership.on_launch_failed(0, "no", 1.0)
    assert membership.next_launch() == 1.0 + 2 * FIRST_PAUSE
    membership.on_ready(1, 2.0)
    membership.on_tick(2.0)
    membership.on_launch_failed(0, "no", 3.0)
    assert membership.next_launch() == 3.0 + FIRST_PAUSE


def test_node_lost_before_it_was_ready_counts_as_a_failed_launch() -> None:
    """A node that comes up and goes at once is not launched again at once, for ever."""
    membership = Membership(Nodes(1))
    membership.on_open(0.0)
    assert membership.on_lost(0, "node 0: versions differ", 1.0) == []
    assert membership.next_launch() == 1.0 + FIRST_PAUSE
    assert list(membership.causes) == ["node 0: versions differ"]
    assert membership.on_tick(1.0 + FIRST_PAUSE) == [Launch(0)]


def test_launch_that_fails_after_it_was_given_up_is_no_failure() -> None:
    """Nobody misses a node that was let go while it started."""
    membership = Membership(Nodes(2))
    membership.on_open(0.0)
    assert membership.on_resize(Nodes(1), (), 0.0) == [Retire(1)]
    assert membership.on_launch_failed(1, "no", 1.0) == []
    assert membership.failures == 0
    assert list(membership.causes) == []


def test_sleeping_pool_wakes_for_a_call() -> None:
    """A pool that aims at no node starts one when a call waits; one that has nodes changes nothing."""
    membership = Membership(Nodes(0, 0, 4))
    assert membership.on_open(0.0) == []
    assert membership.next_launch() is None
    assert membership.on_wake(1.0) == [Launch(0)]
    assert membership.on_wake(1.0) == []
