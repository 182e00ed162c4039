"""Bundles on a node: tasks of several calls, which it never looks into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.bundles import Interim
from skyward.wire.messages import Tasks
from skyward.wire.statuses import CRASHED, OK, Failure
from skyward_node.core.actions import Give, Gone, Send
from skyward_node.core.assign import CHUNK
from skyward_node.executors.events import Exited
from tests.node.core.conftest import EPOCH, KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.node.core.conftest import Rig


def given(actions: list[Any]) -> list[Tasks]:
    """Return the batches that go to workers."""
    return [action.message for action in actions if isinstance(action, Give) and isinstance(action.message, Tasks)]


def failures(actions: list[Any]) -> list[Any]:
    """Return the messages to the client."""
    return [action.message for action in actions if isinstance(action, Send)]


def test_bundle_goes_to_a_worker_as_one(make_rig: Callable[..., Rig]) -> None:
    """Also if it is alone, and small."""
    rig = make_rig(1)
    rig.open()
    (batch,) = given(rig.submit(1, counts=[5]))
    assert (batch.ids, batch.counts) == ([1], [5])


def test_worker_is_given_as_much_as_all_calls_take(make_rig: Callable[..., Rig]) -> None:
    """The time of a bundle is that of all its calls."""
    rig = make_rig(2)
    rig.open()
    rig.teach(10)
    most = int(CHUNK / 10 / 20)
    batches = given(rig.submit(*range(1, 4 * most), counts=[20] * (4 * most - 1)))
    assert len(batches[0].ids) == most
    assert max(len(batch.ids) for batch in batches) == most


@pytest.mark.parametrize("alone", [True, False])
def test_time_of_a_call_is_learned(make_rig: Callable[..., Rig], alone: bool) -> None:
    """What a bundle took is divided among its calls."""
    rig = make_rig(1)
    rig.open(replies=alone)
    rig.submit(1, 2, counts=[10, 1])
    code = rig.core.node.sessions[rig.session].library.code(KEY)
    rig.spawned(1)
    rig.finish(1, 1, elapsed=500)
    assert code.cost == 50.0


def test_what_became_of_a_bundle_so_far_is_passed_on(make_rig: Callable[..., Rig]) -> None:
    """Of one that the worker has; nobody else is told of it."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, counts=[5])
    rig.spawned(1)
    assert rig.hear(1, Interim(0, 1, b"so far")) == [Send(rig.peer, Interim(EPOCH, 1, b"so far"))]
    assert rig.hear(1, Interim(0, 2, b"so far")) == []


def test_what_became_of_a_bundle_so_far_is_said_again(make_rig: Callable[..., Rig]) -> None:
    """It may have been lost with the connection."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, counts=[5])
    rig.spawned(1)
    rig.handle(Gone(rig.peer))
    assert rig.hear(1, Interim(0, 1, b"so far")) == []
    assert Send(b"peer2", Interim(EPOCH, 1, b"so far")) in rig.hello(peer=b"peer2", epoch=EPOCH)


@pytest.mark.rule("R38")
def test_bundle_whose_worker_dies_ends_with_the_call_that_ran(make_rig: Callable[..., Rig]) -> None:
    """The node does not run it again: it cannot tell its calls apart."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, counts=[5], retries=[3])
    rig.spawned(1)
    actions = rig.handle(Exited(1, None, 9, running=(1,), calls={1: 4}))
    assert rig.failed(1, (1, Failure(CRASHED, "WorkerCrashedError", signal=9, place=4))) in actions


@pytest.mark.rule("R38")
def test_bundle_that_waited_in_a_dead_worker_runs_again(make_rig: Callable[..., Rig]) -> None:
    """It had not begun; one that had been told of, and whose end was lost, is the client's to decide about."""
    rig = make_rig(1)
    rig.open()
    rig.teach(1)
    rig.submit(1, 2, 3, counts=[5, 5, 5], retries=[3, 3, 3])
    rig.spawned(1)
    rig.hear(1, Interim(0, 1, b"so far"))
    actions = rig.handle(Exited(1, None, 9, running=(2,), calls={2: 0}))
    crashed = [Failure(CRASHED, "WorkerCrashedError", signal=9, place=place) for place in (-1, 0)]
    assert rig.failed(1, (1, crashed[0]), (2, crashed[1])) in actions
    (batch,) = given(actions)
    assert batch.ids == [3]


@pytest.mark.rule("R38")
def test_call_that_has_crashed_as_part_of_a_bundle_has_one_run_left(make_rig: Callable[..., Rig]) -> None:
    """The client says so."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, retries=[2], crashes=[1])
    rig.spawned(1)
    actions = rig.handle(Exited(1, None, 9, running=(1,)))
    assert rig.failed(1, (1, Failure(CRASHED, "WorkerCrashedError", signal=9, attempts=2))) in actions
    assert OK not in [status for message in failures(actions) for status in getattr(message, "statuses", [])]
