"""Calls that tasks make, and slots that are lent meanwhile, by the actions that come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.messages import REFUSED, Answer, Revoke, Slots, Submit
from skyward_node.core import crew
from skyward_node.core.actions import Control, Send, Spawn
from skyward_node.pipe_messages import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    Rig = Any

EPOCH = 77


def submit_message(rig: Rig, parent: int, *calls: int, epoch: int = 0) -> Submit:
    """Return calls of a task, with empty arguments."""
    count = len(calls)
    none = [0] * count
    return Submit(epoch, parent, [rig.key], list(calls), none, none, none, none, [], [-1] * count, ["f"] * count)


@pytest.mark.rule("R22")
def test_nested_call_goes_to_the_client(rig: Rig) -> None:
    """What a task submits is passed on with the node's epoch, unopened."""
    rig.open()
    rig.submit(1)
    actions = rig.hear(1, submit_message(rig, 1, 5), [b""])
    assert actions == [Send(b"peer1", submit_message(rig, 1, 5, epoch=EPOCH), [b""])]


@pytest.mark.rule("R22")
def test_answer_goes_to_the_parents_worker(rig: Rig) -> None:
    """The client's answer reaches the control pipe of the worker that waits for it."""
    rig.open()
    rig.submit(1, 2)
    rig.hear(2, submit_message(rig, 2, 5), [b""])
    answer = Answer(EPOCH, 2, [5], [0], [2], [0], [1])
    assert rig.say(answer, [b"42"]) == [Control(2, Answer(0, 2, [5], [0], [2], [0], [1]), [b"42"])]


@pytest.mark.rule("R22")
def test_waiting_task_lends_its_slot(make_rig: Callable[..., Rig]) -> None:
    """While a task waits, one more worker starts, and the client hears of one more slot."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1)
    assert rig.hear(1, Waiting(1, waiting=True)) == [Send(b"peer1", Slots(EPOCH, 2))]
    assert rig.submit(2) == [Spawn(2, 1, 1), *rig.first(2, 2, index=1)]


@pytest.mark.rule("R22")
def test_lent_slot_is_taken_back(make_rig: Callable[..., Rig]) -> None:
    """When the wait is over, the parent goes on, and nothing new starts until one of the two has ended."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1)
    rig.hear(1, Waiting(1, waiting=True))
    rig.submit(2, 3)
    assert rig.hear(1, Waiting(1, waiting=False)) == [Send(b"peer1", Slots(EPOCH, 1))]
    rig.spawned(2)
    assert rig.finish(2, 2) == [rig.results(1, 2)]
    assert rig.finish(1, 1) == [rig.results(2, 1), rig.give(1, 3)]


@pytest.mark.rule("R22")
def test_tasks_behind_a_waiting_one_are_taken_back(make_rig: Callable[..., Rig]) -> None:
    """What sits behind a task that waits may be what it waits for."""
    rig = make_rig(1)
    rig.open()
    rig.teach(100)
    rig.submit(1, 2)
    actions = rig.hear(1, Waiting(1, waiting=True))
    assert actions == [rig.withdraw(1, 2, running=False), Send(b"peer1", Slots(EPOCH, 2))]
    assert rig.hand_back(1, 2) == [Spawn(2, 1, 1), *rig.first(2, 2, index=1)]


@pytest.mark.rule("R22")
def test_crash_of_a_parent_revokes_its_calls(make_rig: Callable[..., Rig]) -> None:
    """Nobody waits for calls of a task that died; its lent slot is back."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1)
    rig.hear(1, submit_message(rig, 1, 5, 6), [b""])
    rig.hear(1, Waiting(1, waiting=True))
    actions = rig.die(1)
    assert actions[0] == Send(b"peer1", Revoke(EPOCH, 1, [5, 6]))
    assert Send(b"peer1", Slots(EPOCH, 1)) in actions
    assert rig.core.node.lent == 0


@pytest.mark.rule("R22")
def test_result_of_a_waiting_task_takes_its_slot_back(make_rig: Callable[..., Rig]) -> None:
    """A task may end while one of its threads still waits."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1)
    rig.hear(1, Waiting(1, waiting=True))
    assert rig.finish(1, 1) == [rig.results(1, 1), Send(b"peer1", Slots(EPOCH, 1))]


@pytest.mark.rule("R25")
def test_too_many_waiting_tasks_are_a_deadlock(make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a nested call fails at once, and the error names who holds the slots."""
    monkeypatch.setattr(crew, "EXTRA", 1)
    rig = make_rig(2)
    rig.open()
    rig.submit(1, 2)
    rig.hear(1, Waiting(1, waiting=True))
    rig.hear(2, submit_message(rig, 2, 7), [b""])
    answer, revoke = rig.hear(2, Waiting(2, waiting=True))
    assert (answer.worker, answer.message.calls, answer.message.statuses) == (2, [7], [REFUSED])
    assert b"1 tasks of this node wait for others already: f (task 1)" in answer.body[0]
    assert revoke == Send(b"peer1", Revoke(EPOCH, 2, [7]))


@pytest.mark.rule("R22")
def test_thread_workers_lend_slots_in_their_process(make_rig: Callable[..., Rig]) -> None:
    """The process of the waiting thread runs one more task."""
    rig = make_rig(1, threads=True)
    rig.open()
    rig.submit(1, 2)
    assert rig.hear(1, Waiting(1, waiting=True)) == [rig.give(1, 2), Send(b"peer1", Slots(EPOCH, 2))]
