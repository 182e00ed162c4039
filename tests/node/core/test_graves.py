"""The memory of dead workers is kept until the client has opened what lies in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.frames import Ref
from skyward.wire.lone import Call
from skyward.wire.messages import Beat, Part, Release, Results, Tasks
from skyward.wire.statuses import OK
from skyward_node.core.actions import Bury, Give, Gone, Send
from skyward_node.core.graves import Graves
from tests.node.core.conftest import KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    Rig = Any

EPOCH = 77


def test_grave_is_kept_until_its_last_result_is_acknowledged() -> None:
    """Which result is the last is known at the end of the turn in which the worker has died."""
    graves = Graves()
    graves.add(4)
    assert graves
    assert graves.settle(3, 1) == []
    assert graves.settle(9, 2) == []
    assert graves.settle(9, 3) == [4]
    assert not graves


def test_grave_without_results_goes_at_once() -> None:
    """Nothing is waited for when everything has been seen."""
    graves = Graves()
    graves.add(4)
    assert graves.settle(3, 3) == [4]


def test_end_of_the_session_clears_all_graves() -> None:
    """Nobody comes for what is there."""
    graves = Graves()
    graves.add(4)
    graves.settle(3, 1)
    graves.add(5)
    assert sorted(graves.clear()) == [4, 5]
    assert graves.clear() == []


def reference(worker: int) -> Ref:
    """Return a result in the memory of a worker."""
    return Ref.make(1, 2, 3, (worker << 32) + 1, 0, 200_000)


def shared_result(worker: int, id: int) -> tuple[Results, list[Any]]:
    """Return what a worker says that has put its result where the client can read it."""
    return Results(0, 0, [id], [OK], [4], [1], [50_000], [1]), [b"data", reference(worker)]


@pytest.mark.rule("R38")
def test_node_buries_a_worker_when_its_results_are_seen(make_rig: Callable[..., Rig]) -> None:
    """A result that its worker has not survived is read all the same."""
    rig = make_rig(1)
    rig.open(shared=True)
    rig.submit(1)
    rig.hear(1, *shared_result(1, 1))
    assert Bury(1) not in rig.die(1)
    assert Bury(1) not in rig.say(Beat(EPOCH, 0, 0.0))
    assert Bury(1) in rig.say(Beat(EPOCH, 1, 0.0))


def test_node_buries_at_once_when_memory_is_not_shared(make_rig: Callable[..., Rig]) -> None:
    """There is nothing in it."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1)
    assert Bury(1) in rig.die(1)


def test_release_goes_to_the_workers_of_the_session(make_rig: Callable[..., Rig]) -> None:
    """The upper half of a region's number says whose it is; what nobody knows is ignored."""
    rig = make_rig(2)
    rig.open(shared=True)
    rig.submit(1, 2)
    regions = [(1 << 32) + 5, (2 << 32) + 6, (1 << 32) + 7, (99 << 32) + 1]
    assert rig.say(Release(EPOCH, regions)) == [
        Give(1, Release(0, [regions[0], regions[2]])),
        Give(2, Release(0, [regions[1]])),
    ]


@pytest.mark.rule("R43")
def test_reference_that_was_not_agreed_upon_is_refused(rig: Rig) -> None:
    """A node refuses references unless the session has said that it shares memory."""
    rig.open()
    message = Tasks(EPOCH, 0, [b"f" * 16], [1], [0], [4], [1], shared=[1])
    reason = "shared memory that was not agreed upon"
    assert rig.say(message, [b"args", reference(0)]) == rig.refused("protocol", reason)


@pytest.mark.rule("R32")
def test_memory_of_a_result_that_nobody_gets_is_released(make_rig: Callable[..., Rig]) -> None:
    """The client has heard of a timeout; what the thread returns later frees its region at once."""
    rig = make_rig(1, threads=True)
    rig.open(shared=True)
    rig.submit(1, timeouts=[2.0])
    rig.handle(after=2.1)
    assert Give(1, Release(0, [(1 << 32) + 1])) in rig.hear(1, *shared_result(1, 1))


# --- pieces of large frames ------------------------------------------------------------------


@pytest.mark.rule("R43")
def test_pieces_from_strangers_are_forgotten(rig: Rig) -> None:
    """Each time, not only with the one refusal that they get."""
    rig.start()
    part = Part(EPOCH, 1, 3_000_000, 0)
    assert len(rig.say(part)) == 1
    assert rig.say(part) == []
    assert rig.forgotten == [b"peer1", b"peer1"]


def test_pieces_of_a_connection_that_is_gone_are_forgotten(rig: Rig) -> None:
    """Whoever comes back starts anew."""
    rig.open()
    assert rig.handle(Gone(b"peer1")) == []
    assert rig.forgotten == [b"peer1"]


def test_pieces_are_no_business_of_the_session(rig: Rig) -> None:
    """They are put together where they come in."""
    rig.open()
    assert rig.say(Part(EPOCH, 1, 3_000_000, 0)) == []


@pytest.mark.rule("R20")
def test_result_in_a_workers_memory_stays_until_its_client_has_the_bytes(make_rig: Callable[..., Rig]) -> None:
    """Who cannot read it there is sent what it stands for; the acknowledgement frees the region."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1)
    message, body = shared_result(1, 1)
    sent = rig.hear(1, message, body)
    assert Send(b"peer1", Results(EPOCH, 1, [1], [OK], [4], [1], [50_000]), body) in sent
    free = Give(1, Release(0, [(1 << 32) + 1]))
    assert free not in rig.say(Beat(EPOCH, 0, 0.0))
    assert free in rig.say(Beat(EPOCH, 1, 0.0))
    assert free not in rig.say(Beat(EPOCH, 1, 0.0))


@pytest.mark.rule("R38")
def test_worker_is_buried_when_its_bytes_have_arrived(make_rig: Callable[..., Rig]) -> None:
    """Until then they may have to be sent again."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1)
    rig.hear(1, *shared_result(1, 1))
    assert Bury(1) not in rig.die(1)
    assert Bury(1) not in rig.say(Beat(EPOCH, 0, 0.0))
    assert Bury(1) in rig.say(Beat(EPOCH, 1, 0.0))


@pytest.mark.rule("R20")
def test_short_way_frees_memory_just_as_soon(make_rig: Callable[..., Rig]) -> None:
    """A lone call that acknowledges a large result says so to its worker before that runs the call."""
    rig = make_rig(1)
    rig.open(replies=True)
    rig.submit(1)
    rig.hear(1, *shared_result(1, 1))
    actions = rig.say(Call(EPOCH, 1, KEY, 2, b"args"))
    assert [type(action.message) for action in actions if isinstance(action, Give)] == [Release, Call]
