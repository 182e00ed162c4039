"""Calls that tasks make, and slots that are lent meanwhile, by the actions that come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from skyward.wire.messages import Answer, Beat, Function, Revoke, Slots, Submit
from skyward.wire.statuses import CANCELLED, REFUSED
from skyward_node.core import crew
from skyward_node.core.actions import Bury, Control, Gone, Kill, Send, Spawn
from skyward_node.core.tasks import RUNNING
from skyward_node.pipe_messages import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    Rig = Any

EPOCH = 77


def submit_message(rig: Rig, parent: int, *calls: int, epoch: int = 0, seq: int = 0) -> Submit:
    """Return calls of a task, with empty arguments."""
    count = len(calls)
    none = [0] * count
    return Submit(epoch, parent, [rig.key], list(calls), none, none, none, none, [], [-1] * count, ["f"] * count, seq)


@pytest.mark.rule("R22")
def test_nested_call_goes_to_the_client(rig: Rig) -> None:
    """What a task submits is passed on with the node's epoch, unopened."""
    rig.open()
    rig.submit(1)
    actions = rig.hear(1, submit_message(rig, 1, 5), [b""])
    code = Send(b"peer1", Function(EPOCH, rig.key, [], "f"), [b"code of f"])
    assert actions == [code, Send(b"peer1", submit_message(rig, 1, 5, epoch=EPOCH, seq=1), [b""])]
    actions = rig.hear(1, submit_message(rig, 1, 6), [b""])
    assert actions == [Send(b"peer1", submit_message(rig, 1, 6, epoch=EPOCH, seq=2), [b""])]


@pytest.mark.rule("R22")
def test_answer_goes_to_the_parents_worker(rig: Rig) -> None:
    """The client's answer reaches the control pipe of the worker that waits for it."""
    rig.open()
    rig.submit(1, 2)
    rig.hear(2, submit_message(rig, 2, 5), [b""])
    answer = Answer(EPOCH, 2, [5], [0], [2], [0], [1], 1)
    assert rig.say(answer, [b"42"]) == [Control(2, Answer(0, 2, [5], [0], [2], [0], [1]), [b"42"])]


@pytest.mark.rule("R22")
def test_call_of_a_task_that_has_ended_is_cancelled(rig: Rig) -> None:
    """A thread that it has left behind makes it, and would wait for ever."""
    rig.open()
    rig.submit(1)
    rig.finish(1, 1)
    [action] = rig.hear(1, submit_message(rig, 1, 5), [b""])
    assert isinstance(action, Control)
    assert isinstance(action.message, Answer)
    assert (action.message.parent, action.message.calls, action.message.statuses) == (1, [5], [CANCELLED])


@pytest.mark.rule("R22")
def test_waiting_task_lends_its_slot(make_rig: Callable[..., Rig]) -> None:
    """While a task waits, one more worker starts, and the client hears of one more slot."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1)
    assert rig.hear(1, Waiting(1, waiting=True)) == [Send(b"peer1", Slots(EPOCH, 2))]
    assert rig.submit(2) == [Spawn(2, 1, 1), *rig.first(2, 2)]


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
    assert rig.hand_back(1, 2) == [Spawn(2, 1, 1), *rig.first(2, 2)]


@pytest.mark.rule("R22")
def test_crash_of_a_parent_revokes_its_calls(make_rig: Callable[..., Rig]) -> None:
    """Nobody waits for calls of a task that died; its lent slot is back."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1)
    rig.hear(1, submit_message(rig, 1, 5, 6), [b""])
    rig.hear(1, Waiting(1, waiting=True))
    actions = rig.die(1)
    assert actions[:2] == [Bury(1), Send(b"peer1", Revoke(EPOCH, 1, [5, 6], 2))]
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
    assert revoke == Send(b"peer1", Revoke(EPOCH, 2, [7], 2))


@pytest.mark.rule("R22")
def test_refused_wait_of_one_thread_is_that_of_all(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the worker has not heard of it, calls of the task's other threads are refused like the first ones."""
    monkeypatch.setattr(crew, "EXTRA", 1)
    rig = make_rig(2)
    rig.open()
    rig.submit(1, 2)
    rig.hear(1, Waiting(1, waiting=True))
    rig.hear(2, submit_message(rig, 2, 7), [b""])
    rig.hear(2, Waiting(2, waiting=True))
    _, answer, _ = rig.hear(2, submit_message(rig, 2, 8), [b""])
    assert (answer.worker, answer.message.calls, answer.message.statuses) == (2, [8], [REFUSED])
    rig.hear(1, Waiting(1, waiting=False))
    _, slots = rig.hear(2, submit_message(rig, 2, 9), [b""])
    assert slots == Send(b"peer1", Slots(EPOCH, 3))


@pytest.mark.rule("R22")
@pytest.mark.parametrize("first", [False, True])
def test_slot_is_lent_until_no_thread_waits(make_rig: Callable[..., Rig], first: bool) -> None:
    """Neither for calls nor for a stream, whichever wait ends first."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1)
    assert rig.hear(1, Waiting(1, waiting=True)) == [Send(b"peer1", Slots(EPOCH, 2))]
    assert rig.hear(1, Waiting(1, waiting=True, idle=True)) == []
    assert rig.hear(1, Waiting(1, waiting=False, idle=first)) == []
    assert rig.hear(1, Waiting(1, waiting=False, idle=not first)) == [Send(b"peer1", Slots(EPOCH, 1))]


@pytest.mark.rule("R22")
def test_thread_workers_lend_slots_in_their_process(make_rig: Callable[..., Rig]) -> None:
    """The process of the waiting thread runs one more task."""
    rig = make_rig(1, threads=True)
    rig.open()
    rig.submit(1, 2)
    assert rig.hear(1, Waiting(1, waiting=True)) == [rig.give(1, 2), Send(b"peer1", Slots(EPOCH, 2))]


@pytest.mark.rule("R22")
def test_threads_lend_their_only_slot_again_and_again(make_rig: Callable[..., Rig]) -> None:
    """A task that waits behind another that waits lends its slot as well."""
    rig = make_rig(1, threads=True)
    rig.open()
    rig.submit(1)
    rig.hear(1, Waiting(1, waiting=True))
    rig.submit(2)
    assert rig.core.node.workers[1].tasks[2].state == RUNNING
    assert rig.hear(1, Waiting(2, waiting=True)) == [Send(b"peer1", Slots(EPOCH, 3))]
    assert rig.submit(3) == [rig.give(1, 3)]


@pytest.mark.rule("R22")
def test_task_that_waits_has_started(make_rig: Callable[..., Rig]) -> None:
    """A thread may have begun a task of which the node does not know it yet: its slot is lent like any other."""
    rig = make_rig(1, threads=True)
    rig.open()
    rig.teach(100)
    rig.submit(1)
    rig.hear(1, Waiting(1, waiting=True))
    assert rig.submit(2, 3)[-1] == rig.give(1, 2, 3)
    rig.hear(1, Waiting(1, waiting=False))  # two threads now: the one that ends first takes the next
    assert rig.hear(1, Waiting(3, waiting=True)) == [Send(b"peer1", Slots(EPOCH, 2))]


@pytest.mark.rule("R26")
def test_worker_takes_the_slot_that_was_lent(make_rig: Callable[..., Rig]) -> None:
    """Indexes of slots stay below the node's concurrency, and tasks that run at once have different ones."""
    rig = make_rig(2)
    rig.open()
    rig.teach(50_000)
    rig.submit(1, 2)
    rig.hear(1, Waiting(1, waiting=True))
    assert rig.submit(3) == [Spawn(3, 1, 2), *rig.first(3, 3)]
    rig.hear(1, Waiting(1, waiting=False))
    rig.finish(2, 2)
    rig.finish(3, 3)
    assert rig.submit(4)[0] == rig.context(3, index=1)


# --- when a connection breaks --------------------------------------------------------------


@pytest.mark.rule("R22")
def test_calls_that_may_be_lost_are_said_again_with_their_code(rig: Rig) -> None:
    """Until the client says that it has heard them; under their old numbers, and before any result."""
    rig.open()
    rig.submit(1, 2)
    for call in (5, 6, 7):
        rig.hear(1, submit_message(rig, 1, call), [b""])
    rig.hear(1, Revoke(0, 1, [7]))
    rig.finish(2, 2)
    rig.say(Beat(EPOCH, 0, 0.0, heard=1))
    code = Send(b"peer2", Function(EPOCH, rig.key, [], "f"), [b"code of f"])
    assert rig.hello(peer=b"peer2", epoch=EPOCH, heard=2) == [
        rig.welcome(peer=b"peer2", resumed=True),
        code,
        Send(b"peer2", submit_message(rig, 1, 7, epoch=EPOCH, seq=3), [b""]),
        Send(b"peer2", Revoke(EPOCH, 1, [7], 4)),
        Send(b"peer2", *rig.results_message(2, seq=1)),
    ]
    assert rig.hello(peer=b"peer3", epoch=EPOCH, ack=1, heard=4) == [rig.welcome(peer=b"peer3", resumed=True)]


@pytest.mark.rule("R22")
def test_calls_made_while_the_client_is_away_wait_for_it(rig: Rig) -> None:
    """So does what is revoked."""
    rig.open()
    rig.submit(1)
    rig.handle(Gone(b"peer1"))
    assert rig.hear(1, submit_message(rig, 1, 5), [b""]) == []
    actions = rig.hello(peer=b"peer2", epoch=EPOCH)
    assert actions[-1] == Send(b"peer2", submit_message(rig, 1, 5, epoch=EPOCH, seq=1), [b""])


@pytest.mark.rule("R22")
def test_answer_that_comes_twice_counts_once(rig: Rig) -> None:
    """The client cannot know whether it has arrived; how far we have heard is in every greeting and pulse."""
    rig.open(heartbeat=0.25)
    rig.submit(1)
    rig.hear(1, submit_message(rig, 1, 5, 6), [b""])
    answers = [Answer(EPOCH, 1, [call], [0], [2], [0], [1], seq) for seq, call in ((1, 5), (2, 6))]
    assert len(rig.say(answers[0], [b"42"])) == 1
    greeting, *_ = rig.hello(peer=b"peer2", epoch=EPOCH, heartbeat=0.25)
    assert greeting.message.heard == 1
    assert rig.say(answers[0], [b"42"], peer=b"peer2") == []
    assert len(rig.say(answers[1], [b"42"], peer=b"peer2")) == 1
    pulse, *_ = rig.handle(after=0.25)
    assert pulse.message.heard == 2


@pytest.mark.rule("R43")
@pytest.mark.parametrize("seq", [0, 2])
def test_answer_out_of_order_is_nonsense(rig: Rig, seq: int) -> None:
    """Connections keep order."""
    rig.open()
    (refusal,) = rig.say(Answer(EPOCH, 1, [5], [0], [2], [0], [1], seq), [b"42"])
    assert refusal.message.reason == f"number {seq} of calls and answers came after number 0"


@pytest.mark.rule("R43")
def test_beat_that_confirms_calls_never_made_is_nonsense(rig: Rig) -> None:
    """The connection is refused."""
    rig.open()
    (refusal,) = rig.say(Beat(EPOCH, 0, 0.0, heard=1))
    assert refusal.message.reason == "1 calls and answers are confirmed, but only 0 were sent"


@pytest.mark.rule("R43")
def test_worker_that_calls_what_it_has_never_sent_is_killed(rig: Rig) -> None:
    """What runs there has written to its pipe; the client never sees it."""
    rig.open()
    rig.submit(1)
    unknown = replace(submit_message(rig, 1, 5), functions=[b"u" * 16])
    assert rig.hear(1, unknown, [b""]) == [Kill(1)]
