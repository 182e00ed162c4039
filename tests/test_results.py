"""How outcomes reach whoever waits for them; the test is the owner of the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward.answers.limits import Limit
from skyward.errors import AbsentRankError, BroadcastError, NodeLostError, PoolClosedError, TaskTimeoutError
from skyward.results import (
    DISCARD,
    CancelledError,
    Collection,
    Single,
    Sink,
    broadcast_values,
    failed,
    unwrap,
    unwrap_in_place,
)
from tests.outcomes import CANCELLED_THERE, Interrupting, raised, tasks, value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.dispatch.tasks import Task
    from skyward.results import Outcome


class Group:
    """A collection, its tasks, and what it has cancelled."""

    def __init__(self, count: int, *, return_exceptions: bool = False) -> None:
        self.cancelled: list[Sequence[Task]] = []
        self.tasks = tasks(count)
        self.all = Collection(count, return_exceptions=return_exceptions, cancel=self.cancelled.append)
        self.all.tasks = self.tasks

    def deliver(self, index: int, outcome: Outcome) -> None:
        """End a member."""
        self.all.deliver(self.tasks[index], outcome)


# --- outcomes ------------------------------------------------------------------------------


def test_value_is_unpickled() -> None:
    """An outcome that is no failure gives its value."""
    assert not failed(value([1, 2]))
    assert unwrap(value([1, 2])) == [1, 2]
    assert unwrap_in_place(value(None)) is None


def test_failure_is_raised_with_its_place() -> None:
    """What the task raised is raised here, with function, node and task."""
    outcome = raised(KeyError("k"))
    assert failed(outcome)
    with pytest.raises(KeyError) as caught:
        unwrap(outcome)
    assert caught.value.__notes__ == ["raised by f on node 1, task 17"]
    assert isinstance(unwrap_in_place(outcome), KeyError)


def test_verdict_of_the_client_is_raised_as_it_is() -> None:
    """An exception made here needs no unpickling."""
    error = NodeLostError(1, "gone")
    assert failed(error)
    with pytest.raises(NodeLostError) as caught:
        unwrap(error)
    assert caught.value is error
    assert unwrap_in_place(error) is error
    assert isinstance(unwrap_in_place(CancelledError()), CancelledError)
    assert isinstance(unwrap_in_place(CANCELLED_THERE), CancelledError)


@pytest.mark.rule("R13")
def test_interrupt_is_never_a_value() -> None:
    """The client's own Ctrl-C stands in no place, nor does its exit."""
    for error in (KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)):
            unwrap_in_place(error)


def test_single_waits_for_one_outcome() -> None:
    """It is done when the outcome is there."""
    single = Single()
    assert (single.done, single.outcome) == (False, None)
    (task,) = tasks(1)
    single.on_started(unstoppable=True)
    assert (single.done, single.outcome) == (False, None)
    outcome = value(3)
    single.deliver(task, outcome)
    assert (single.done, single.outcome) == (True, outcome)


def test_sinks_take_outcomes() -> None:
    """Every sink has to; one drops them."""
    (task,) = tasks(1)
    DISCARD.deliver(task, value(1))
    DISCARD.on_started(unstoppable=False)
    with pytest.raises(NotImplementedError):
        Sink().deliver(task, value(1))


# --- groups --------------------------------------------------------------------------------


@pytest.mark.rule("R11")
def test_collection_keeps_submission_order() -> None:
    """Whatever the order of the ends."""
    group = Group(3)
    for index in (2, 0, 1):
        assert not group.all.done
        group.deliver(index, value(f"value {index}"))
    assert group.all.done
    assert group.all.values() == ("value 0", "value 1", "value 2")
    assert group.cancelled == []
    assert group.all.tasks == []


def test_empty_collection_is_done() -> None:
    """There is nothing to wait for."""
    group = Group(0)
    assert group.all.done
    assert group.all.values() == ()


@pytest.mark.rule("R13")
def test_first_failure_ends_the_collection() -> None:
    """The rest is cancelled, and what still comes of it is ignored."""
    group = Group(3)
    group.deliver(2, raised(KeyError("first")))
    assert group.all.done
    assert group.cancelled == [group.tasks]
    group.deliver(0, raised(ValueError("second")))
    group.deliver(1, value(1))
    with pytest.raises(KeyError, match="first"):
        group.all.values()


def test_failure_of_the_last_cancels_nothing() -> None:
    """There is nothing left."""
    group = Group(2)
    group.deliver(0, value(0))
    group.deliver(1, NodeLostError(0, "gone"))
    assert group.cancelled == []
    with pytest.raises(NodeLostError):
        group.all.values()


@pytest.mark.rule("R13")
def test_failures_stand_in_place_when_asked_for() -> None:
    """All members end, and nothing is raised."""
    group = Group(3, return_exceptions=True)
    group.deliver(1, raised(KeyError("k")))
    group.deliver(0, NodeLostError(0, "gone"))
    assert not group.all.done
    group.deliver(2, value("fine"))
    lost, error, fine = group.all.values()
    assert (type(lost), type(error), fine) == (NodeLostError, KeyError, "fine")
    assert group.cancelled == []


@pytest.mark.rule("R3")
@pytest.mark.parametrize("return_exceptions", [False, True])
def test_collection_expires(return_exceptions: bool) -> None:
    """When its time is over what is missing has failed for that reason, and is cancelled."""
    group = Group(2, return_exceptions=return_exceptions)
    group.deliver(0, value("in time"))
    group.all.expire(2.5)
    assert group.all.done
    assert group.cancelled == [group.tasks]
    if return_exceptions:
        fine, late = group.all.values()
        assert fine == "in time"
        assert isinstance(late, TaskTimeoutError)
        assert late.timeout == 2.5
    else:
        with pytest.raises(TaskTimeoutError, match=r"2\.5 s"):
            group.all.values()
    group.all.expire(2.5)
    assert len(group.cancelled) == 1


@pytest.mark.rule("R3")
def test_members_are_off_when_the_time_is_over() -> None:
    """Also if all that is missing yields, and failures stand in place: what was not dispatched is not wanted."""
    group = Group(1, return_exceptions=True)
    group.all.left = 0  # it yields
    group.all.limit = Limit(2.5, group.all)
    before = group.all.is_off
    group.all.limit.expire()
    assert (before, group.all.is_off) == (False, True)
    assert isinstance(group.all.values()[0], TaskTimeoutError)


def test_collection_lets_go_of_what_was_taken() -> None:
    """Serialized outcomes are not kept beside their values."""
    group = Group(1)
    group.deliver(0, value("large"))
    group.all.values()
    assert group.all.outcomes == []


def test_interrupted_unpickling_loses_nothing() -> None:
    """Whoever was interrupted while values were unpickled can ask again."""
    group = Group(2)
    Interrupting.times = 1
    group.deliver(0, value("zero"))
    group.deliver(1, value(Interrupting()))
    with pytest.raises(KeyboardInterrupt):
        group.all.values()
    assert group.all.values() == ("zero", "unpickled")


def test_start_of_a_member_is_nothing_without_a_future() -> None:
    """Only futures can tell that they run."""
    group = Group(1)
    group.all.on_started(unstoppable=True)
    assert not group.all.done


# --- broadcasts ----------------------------------------------------------------------------


def broadcast(*outcomes: Outcome) -> Collection:
    """Return the collection of a broadcast that has ended."""
    group = Group(len(outcomes), return_exceptions=True)
    for index, outcome in enumerate(outcomes):
        group.deliver(index, outcome)
    return group.all


@pytest.mark.rule("R8")
def test_broadcast_gives_values_by_rank() -> None:
    """A list."""
    assert broadcast_values((0, 2), broadcast(value("a"), value("b"))) == ["a", "b"]


@pytest.mark.rule("R8")
def test_broadcast_keeps_what_succeeded() -> None:
    """The error has every node's value or exception, and names those that failed."""
    outcomes = broadcast(value("a"), raised(KeyError("k")), CancelledError(), NodeLostError(5, "gone"))
    with pytest.raises(BroadcastError) as caught:
        broadcast_values((0, 2, 3, 5), outcomes)
    error = caught.value
    assert error.ranks == (0, 2, 3, 5)
    assert error.failed == (2, 3, 5)
    assert error.results[0] == "a"
    assert [type(result) for result in error.results[1:]] == [KeyError, CancelledError, NodeLostError]


@pytest.mark.rule("R8")
def test_node_that_goes_before_a_broadcast_is_sent_was_lost() -> None:
    """It was there when the call was made: nobody has asked for a rank that is absent. A task may have."""
    asked = AbsentRankError(9, (0, 1))
    with pytest.raises(BroadcastError) as caught:
        broadcast_values((0, 1), broadcast(AbsentRankError(0, (1,)), raised(asked)))
    lost, other = caught.value.results
    assert isinstance(lost, NodeLostError)
    assert (lost.node, type(other)) == (0, AbsentRankError)


def test_broadcast_of_a_closed_pool_is_that() -> None:
    """A closed pool is no failure of a node."""
    with pytest.raises(PoolClosedError):
        broadcast_values((0, 1), broadcast(value("a"), PoolClosedError("closed")))
