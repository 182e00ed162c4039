"""What no peer can do to a core, whatever it sends: stop it, make it say nonsense, or have it keep what is over.

Each of these was found by the fuzzer, or by looking where it pointed.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire import pipe
from skyward.wire.codec import Decoder, check_body, encode
from skyward.wire.lone import Call
from skyward.wire.messages import (
    MAX_BUFFERS,
    MAX_HEADER,
    Answer,
    Beat,
    Bye,
    Cancel,
    Member,
    Progress,
    Refused,
    Results,
    Returned,
    Roster,
    Submit,
    Tasks,
)
from skyward.wire.statuses import CANCELLED
from skyward_node.core.actions import Control, Give, Kill, Send
from skyward_node.core.intake import BESIDE
from skyward_node.core.outbox import encode_failure
from skyward_node.core.sessions import ENDED, Session
from skyward_node.pipe_messages import DATA_MESSAGES, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward_node.core.actions import Action

    Rig = Any

EPOCH = 77


def refusals(actions: Sequence[Action]) -> list[str]:
    """Return the codes of the refusals among the actions."""
    return [action.message.code for action in actions if isinstance(action, Send) and type(action.message) is Refused]


def sessions_in_memory() -> list[Session]:
    """Return all sessions that the interpreter holds."""
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is Session]


# --- alone -----------------------------------------------------------------------------------


@pytest.mark.rule("R43")
def test_lone_task_cannot_acknowledge_what_was_never_sent(rig: Rig) -> None:
    """It is refused, like in a batch, though it goes a way of its own."""
    rig.open(replies=True)
    for id in (1, 2):
        rig.submit(id)
        rig.finish(1, id)
    assert refusals(rig.say(Call(EPOCH, 10, rig.key, 3, b"args"))) == ["protocol"]


# --- the same thing twice --------------------------------------------------------------------


@pytest.mark.rule("R43")
@pytest.mark.parametrize("running", [True, False])
def test_cancel_that_names_a_task_twice_counts_once(rig: Rig, *, running: bool) -> None:
    """Whether it waits for its code, for a slot, in a worker's queue or runs: the node goes on."""
    rig.open()
    rig.submit(1, 2, 3)  # two run, one waits for a slot
    rig.submit(4, functions=[b"h" * 16])  # waits for its code
    actions = rig.cancel(1, 1, 3, 3, 4, 4, 4, running=running)
    if running:
        (results,) = [action.message for action in actions if type(getattr(action, "message", None)) is Results]
        assert results.ids == [3, 4]
    else:
        assert [action.message.ids for action in actions if type(action.message) is Returned] == [[3, 4]]
        assert [action.message.started for action in actions if type(action.message) is Progress] == [[1]]
    assert rig.core.node.sessions[rig.session].queued == 0


@pytest.mark.rule("R43")
def test_batch_that_is_refused_acknowledges_nothing(rig: Rig) -> None:
    """A message counts as a whole or not at all."""
    rig.open()
    rig.submit(1)
    rig.finish(1, 1)
    outbox = rig.core.node.sessions[rig.session].outbox
    assert outbox
    assert refusals(rig.submit(2, 2, ack=1)) == ["protocol"]
    assert outbox


# --- messages that would not fit -------------------------------------------------------------


@pytest.mark.rule("R43")
def test_roster_that_leaves_no_room_for_what_workers_are_told_is_refused(rig: Rig) -> None:
    """A roster that fits a header by itself may be too long for the header that passes it on to workers."""
    rig.open()
    member = Member(0, "a" * 1024, "b" * 1024)
    most = (MAX_HEADER - BESIDE) // len(encode(Roster(EPOCH, 0, "j", [member], [1])))
    assert rig.say(Roster(EPOCH, 0, "j", [member] * most, [1] * most)) == []
    (context, *_) = [action for action in rig.submit(1) if isinstance(action, Give)]
    assert Decoder(DATA_MESSAGES).decode(encode(context.message)) == context.message
    assert refusals(rig.say(Roster(EPOCH, 0, "j", [member] * (most + 40), [1] * (most + 40)))) == ["protocol"]


@pytest.mark.rule("R43")
def test_tasks_with_many_buffers_reach_a_worker_in_messages_that_fit(make_rig: Callable[..., Rig]) -> None:
    """Tasks that came in several messages are not put into one that has too many buffers."""
    rig = make_rig(concurrency=1)
    rig.open()
    rig.teach(10, b"h" * 16)  # so short that many of them share a message
    each = MAX_BUFFERS // 3
    for id in range(1, 5):
        rig.say(Tasks(EPOCH, 0, [b"h" * 16], [id], [0], [4], [each], [3]), [b"args", *[b""] * each])
    actions = rig.say(rig.function(b"h" * 16), [b"code"])
    given = [action for action in actions if isinstance(action, Give) and isinstance(action.message, Tasks)]
    assert [action.message.ids for action in given if isinstance(action.message, Tasks)] == [[1, 2], [3, 4]]
    for action in given:
        check_body(action.message, action.body)
        pipe.pack([encode(action.message), *action.body])


# --- what is over is forgotten ---------------------------------------------------------------


@pytest.mark.rule("R43")
@pytest.mark.parametrize("timeouts", [[], [1e9] * 5], ids=["untimed", "timed"])
def test_session_that_is_over_is_not_kept(rig: Rig, timeouts: list[float]) -> None:
    """Its code and results leave memory, although tasks of it waited, ran, or had a day's time to run."""
    before = sessions_in_memory()
    rig.open()
    rig.submit(1, 2, 3, 4, 5, timeouts=timeouts)
    rig.cancel(5)
    assert len(sessions_in_memory()) == len(before) + 1
    rig.say(Bye(EPOCH, 0, ""))
    rig.die(1)
    rig.die(2)
    assert len(sessions_in_memory()) == len(before)


@pytest.mark.rule("R43")
@pytest.mark.parametrize("running", [True, False])
def test_tasks_that_were_cancelled_are_not_kept(rig: Rig, *, running: bool) -> None:
    """A client that submits and cancels behind a task that takes long does not fill the node."""
    rig.open()
    rig.submit(1, 2, 3)
    session = rig.core.node.sessions[rig.session]
    for id in range(10, 10 + 5 * ENDED):
        rig.submit(id)
        rig.cancel(id, running=running)
        rig.say(Beat(EPOCH, session.outbox.seq, 0.0))
        assert len(session.queue) <= 2 + ENDED
    assert [task.id for task in session.queue if task.id < 10] == [3]


# --- threads that go on after their time -----------------------------------------------------


def overdue(make_rig: Callable[..., Rig], *, waiting: bool) -> tuple[Rig, Sequence[Action]]:
    """Return a node of threads with a task whose time is over, and what was done when that was seen."""
    rig = make_rig(threads=True)
    rig.open()
    rig.submit(1, timeouts=[1.0])
    if waiting:
        rig.hear(1, *submit(1, 5))
        rig.hear(1, Waiting(1, waiting=True))
    return rig, rig.handle(after=2.0)


def submit(parent: int, call: int) -> tuple[Submit, list[bytes]]:
    """Return a call that a task makes."""
    return Submit(0, parent, [b"f" * 16], [call], [0], [4], [0], [], [], [-1], ["f"]), [b"args"]


def cancelled(worker: int, parent: int, call: int) -> Control:
    """Return the answer to a call that nobody will make."""
    from skyward.wire.statuses import CANCELLED_FAILURE

    data = encode_failure(CANCELLED_FAILURE)
    return Control(worker, Answer(0, parent, [call], [CANCELLED], [len(data)], [0], [0]), [data])


@pytest.mark.rule("R39")
def test_thread_over_its_time_does_not_wait_for_its_calls(make_rig: Callable[..., Rig]) -> None:
    """They are answered as cancelled, or the thread would wait for ever: its client has been told of its end."""
    rig, actions = overdue(make_rig, waiting=True)
    assert cancelled(1, 1, 5) in actions
    assert rig.core.node.sessions[rig.session].nested == {}
    assert rig.core.node.lent == 0


@pytest.mark.rule("R39")
def test_calls_of_a_thread_over_its_time_are_not_made(make_rig: Callable[..., Rig]) -> None:
    """A call that it makes after its end goes no further than the node."""
    rig, _ = overdue(make_rig, waiting=False)
    assert rig.hear(1, *submit(1, 6)) == [cancelled(1, 1, 6)]
    assert rig.core.node.sessions[rig.session].nested == {}


def test_cancel_is_taken_after_all_that(rig: Rig) -> None:
    """A session to which something was refused can come back and go on."""
    rig.open()
    rig.submit(1)
    assert refusals(rig.submit(2, 2)) == ["protocol"]
    rig.hello(epoch=EPOCH)
    assert rig.say(Cancel(EPOCH, [1], running=True)) == [rig.withdraw(1, 1, running=True)]


@pytest.mark.rule("R43")
def test_worker_that_lies_is_killed(rig: Rig) -> None:
    """What no worker says costs it its life, and its task a crash."""
    rig.open()
    rig.submit(1)
    assert rig.hear(1, Beat(0, 0, 0.0)) == [Kill(1)]


@pytest.mark.rule("R43")
def test_result_of_a_foreign_task_is_dropped(rig: Rig) -> None:
    """A worker can only end what it was given (F44)."""
    rig.open()
    rig.submit(1, 2)
    assert rig.finish(1, 1, 2) == [rig.results(1, 1)]
    assert rig.finish(2, 2) == [rig.results(2, 2)]


@pytest.mark.rule("R43")
def test_result_of_a_foreign_task_says_nothing_of_the_one_that_runs(rig: Rig) -> None:
    """It takes long still: nothing is queued behind it."""
    rig.open()
    rig.submit(1, 2)
    rig.progress(1, 1)
    assert rig.finish(1, 2) == []
    assert rig.core.node.workers[1].stuck
