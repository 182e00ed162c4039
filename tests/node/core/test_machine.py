"""The life of sessions and tasks on a node, by the actions that come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.messages import (
    Answer,
    Beat,
    Need,
    Progress,
    Results,
    Roster,
    Tasks,
)
from skyward_node.core import stopping
from skyward_node.core.actions import (
    Give,
    Gone,
    Incoming,
    Nonsense,
    Send,
    Spawn,
)
from skyward_node.executors.events import Received

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward_node.core.actions import Action

    Rig = Any

EPOCH = 77
OTHER_KEY = b"g" * 16
BLOB = b"code of f"


def test_core_starts_workers_before_anyone_asks(rig: Rig) -> None:
    """A node has its workers ready before the first client comes."""
    assert rig.start() == [Spawn(1, 1, 0), Spawn(2, 1, 1)]


def test_hello_is_answered_with_welcome(rig: Rig) -> None:
    """A client learns the epoch, the capacity and the versions of the node."""
    rig.start()
    assert rig.hello() == [rig.welcome()]


@pytest.mark.rule("R35")
@pytest.mark.parametrize("python", ["3.12.1", "2.7.18", "nonsense"])
def test_hello_with_other_python_is_refused_with_both_versions(rig: Rig, python: str) -> None:
    """A client of another Python minor version is refused, and told both versions."""
    reason = f"Python differs: client has {python}, node has 3.11.7"
    assert rig.hello(python=python) == rig.refused("version", reason)


@pytest.mark.rule("R35")
def test_hello_with_other_protocol_is_refused_with_both_versions(rig: Rig) -> None:
    """A client that speaks another version of the protocol is refused, and told both versions."""
    reason = "protocol differs: client has 9, node has 1"
    assert rig.hello(protocol=9) == rig.refused("version", reason)


def test_message_without_session_is_refused_once(rig: Rig) -> None:
    """A connection that never said hello is told so, once."""
    rig.start()
    reason = "this connection has no session here; say hello first"
    assert rig.submit(1) == rig.refused("session", reason)
    assert rig.submit(2) == []


def test_message_of_another_epoch_is_refused(rig: Rig) -> None:
    """What was meant for an earlier life of the node does not count."""
    rig.open()
    reason = "this is another life of the node"
    assert rig.submit(1, epoch=76) == rig.refused("session", reason)
    assert rig.core.node.sessions[rig.session].tasks == {}


@pytest.mark.rule("R43")
def test_nonsense_drops_its_sender_alone(rig: Rig) -> None:
    """A peer that sends nonsense is refused, and the others are served in the same turn."""
    rig.open()
    message, body = rig.tasks_message(1)
    actions = rig.handle(Nonsense(b"peer2", "protocol", "no message"), Incoming(rig.peer, message, body))
    assert actions == [*rig.refused("protocol", "no message", b"peer2"), *rig.first(1, 1)]


@pytest.mark.rule("R37")
def test_pieces_of_a_broken_connection_are_no_nonsense_on_the_next(rig: Rig) -> None:
    """They come before the hello, for which the client is asked; after it they are."""
    assert rig.handle(Nonsense(b"peer2", "body", "no piece")) == [*rig.refused("session", "no piece", b"peer2")]
    rig.open()
    assert rig.handle(Nonsense(rig.peer, "body", "no piece")) == [*rig.refused("protocol", "no piece")]


@pytest.mark.rule("R43")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ids": [1, 1]}, "a batch names a task twice"),
        ({"ack": 5}, "results up to 5 acknowledged, but only 0 were sent"),
    ],
)
def test_impossible_batch_ends_the_connection(rig: Rig, changes: dict[str, Any], reason: str) -> None:
    """A batch that contradicts itself is refused, and nothing of it runs."""
    rig.open()
    assert rig.submit(1, 2, **changes) == rig.refused("protocol", reason)
    assert rig.core.node.sessions[rig.session].tasks == {}
    assert rig.core.node.peers == {}


# --- tasks ---------------------------------------------------------------------------------------


def test_task_goes_to_a_worker_with_its_code(rig: Rig) -> None:
    """A worker is told whom it serves, then gets the code, then the task."""
    rig.open()
    assert rig.submit(1) == rig.first(1, 1)


def test_code_is_given_to_a_worker_once(rig: Rig) -> None:
    """The second task of a function takes no code with it."""
    rig.open()
    rig.submit(1)
    rig.finish(1, 1)
    assert rig.submit(2) == [rig.give(1, 2)]


def test_result_reaches_the_client_numbered(rig: Rig) -> None:
    """Results carry the numbers 1, 2, 3."""
    rig.open()
    rig.submit(1)
    assert rig.finish(1, 1) == [rig.results(1, 1)]
    rig.submit(2)
    assert rig.finish(1, 2) == [rig.results(2, 2)]


def test_results_of_one_turn_leave_in_one_message(rig: Rig) -> None:
    """What two workers finish in one turn costs one message."""
    rig.open()
    rig.submit(1, 2)
    events = [Received(worker, *rig.results_message(worker)) for worker in (1, 2)]
    assert rig.handle(*events) == [rig.results(1, 1, 2)]


def test_unknown_durations_give_one_task_to_each_worker(rig: Rig) -> None:
    """Of a function that has never run, a worker gets one task, and the rest waits in the node's queue."""
    rig.open()
    assert rig.submit(1, 2, 3, 4) == [*rig.first(1, 1), *rig.first(2, 2, index=1)]


@pytest.mark.rule("R18")
def test_short_tasks_are_given_in_chunks_and_ahead(rig: Rig) -> None:
    """Of a 100 µs function a worker gets ten tasks at once, and ten more while it runs them."""
    rig.open()
    rig.teach(100)
    ids = range(1, 101)
    actions = rig.submit(*ids)
    chunks = [
        list(action.message.ids) for action in actions if isinstance(action, Give) and isinstance(action.message, Tasks)
    ]
    assert chunks == [list(range(1, 11)), list(range(11, 21)), list(range(21, 31)), list(range(31, 41))]


@pytest.mark.rule("R18")
def test_only_worker_gets_larger_chunks_while_there_is_one_session(make_rig: Callable[..., Rig]) -> None:
    """Nobody else could do with what it has in hand; once there is another session, somebody could."""
    rig = make_rig(1)
    rig.open()
    rig.teach(1000)
    actions = rig.submit(*range(1, 101))
    messages = [action.message for action in actions if isinstance(action, Give)]
    assert [message.ids for message in messages if isinstance(message, Tasks)] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    rig.hello(session=b"t" * 16, peer=b"peer2")
    assert not any(isinstance(action, Give) for action in rig.finish(1, *range(1, 7), elapsed=1000))
    assert rig.give(1, 9) in rig.finish(1, 7, elapsed=1000)


@pytest.mark.rule("R17")
def test_few_tasks_are_shared_evenly(rig: Rig) -> None:
    """No worker gets a second task while another has none, however short they are."""
    rig.open()
    rig.teach(1)
    assert rig.submit(1, 2) == [*rig.first(1, 1), *rig.first(2, 2, index=1)]


@pytest.mark.rule("R18")
def test_long_tasks_wait_in_the_node(rig: Rig) -> None:
    """A task of 15 ms is never queued behind another in a worker."""
    rig.open()
    rig.teach(15_000)
    rig.submit(1, 2, 3)
    assert rig.core.node.sessions[rig.session].queued == 1


@pytest.mark.rule("R36")
def test_task_without_retries_goes_to_an_idle_worker_alone(rig: Rig) -> None:
    """A task that may not run twice is given alone, and never queued behind another."""
    rig.open()
    rig.teach(1)
    assert rig.submit(1, 2, 3, retries=[]) == [*rig.first(1, 1), *rig.first(2, 2, index=1)]
    assert rig.finish(2, 2) == [rig.results(1, 2), rig.give(2, 3)]


@pytest.mark.rule("R36")
def test_task_without_retries_never_queues_behind_another(make_rig: Callable[..., Rig]) -> None:
    """In a batch of short tasks it waits in the node until a worker is idle."""
    rig = make_rig(1)
    rig.open()
    rig.teach(1)
    assert rig.submit(1, 2, 3, retries=[1, 0, 1]) == rig.first(1, 1)
    assert rig.finish(1, 1) == [rig.results(1, 1), rig.give(1, 2), rig.give(1, 3)]  # others may wait behind it


def test_task_waits_for_its_code(rig: Rig) -> None:
    """A task whose function has not come is held, and the client is asked for it once."""
    rig.start()
    rig.hello()
    assert rig.submit(1) == [Send(b"peer1", Need(EPOCH, [rig.key], []))]
    assert rig.submit(2) == []
    assert rig.say(rig.function(), [BLOB]) == [*rig.first(1, 1), *rig.first(2, 2, index=1)]


@pytest.mark.rule("R37")
def test_task_sent_twice_runs_once(rig: Rig) -> None:
    """A task that is queued or runs is not run again when it is sent again (F43)."""
    rig.open()
    rig.submit(1)
    assert rig.submit(1) == []
    assert rig.finish(1, 1) == [rig.results(1, 1)]


@pytest.mark.rule("R37")
def test_task_sent_again_gets_its_unseen_result_again(rig: Rig) -> None:
    """A task whose result was not acknowledged is answered with that result."""
    rig.open()
    rig.submit(1)
    rig.finish(1, 1)
    assert rig.submit(1) == [rig.results(1, 1)]
    assert rig.submit(2, ack=1) == [rig.give(1, 2)]


@pytest.mark.rule("R37")
def test_task_sent_again_in_the_turn_of_its_result_does_not_run(rig: Rig) -> None:
    """A result that has come in this very turn counts."""
    rig.open()
    rig.submit(1)
    again = Incoming(rig.peer, *rig.tasks_message(1))
    assert rig.handle(Received(1, *rig.results_message(1)), again) == [rig.results(1, 1)]


# --- roster, answers ----------------------------------------------------------------------------------


def test_roster_reaches_workers_before_their_next_tasks(rig: Rig) -> None:
    """A worker learns of a new mesh before it runs another task, and only then."""
    rig.open()
    rig.submit(1)
    rig.finish(1, 1)
    assert rig.say(Roster(EPOCH, 3, "job", [], [], 4444)) == []
    context, tasks = rig.submit(2)
    assert (context.message.rank, context.message.job, context.message.head_port) == (3, "job", 4444)
    assert tasks == rig.give(1, 2)


def test_answer_to_a_task_that_is_gone_is_dropped(rig: Rig) -> None:
    """Nobody waits for it any more."""
    rig.open()
    assert rig.say(Answer(EPOCH, 9, [1], [0], [0], [0], [0], 1), [b""]) == []


def test_same_events_give_the_same_actions(make_rig: Callable[..., Rig]) -> None:
    """Recorded events replay to the same actions."""

    def play() -> list[Action]:
        rig = make_rig(2)
        rig.open()
        actions: list[Action] = rig.submit(*range(1, 20))
        for id in range(1, 8):
            worker = next(w for w in rig.core.node.workers.values() if id in w.tasks)
            actions += rig.finish(worker.id, id)
        return [*actions, *rig.die(1), *rig.cancel(*range(8, 20))]

    assert play() == play()


def test_task_results_wait_for_room_with_a_slow_client(make_rig: Callable[..., Rig]) -> None:
    """With 64 MiB of results unseen nothing more is started, and it goes on when they are seen (F26)."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, 2)
    big = bytes(65 * 2**20)
    rig.hear(1, Results(0, 0, [1], [0], [0], [1], [5]), [b"", big])
    assert rig.core.node.running == 0
    assert rig.say(Beat(EPOCH, 1, 0.0)) == [rig.give(1, 2)]


def test_client_learns_what_runs_long(rig: Rig) -> None:
    """A task that runs for more than a moment is reported as started."""
    rig.open()
    rig.submit(1)
    assert rig.progress(1, 1) == [Send(b"peer1", Progress(EPOCH, [], [1]))]


@pytest.mark.rule("R37")
def test_task_handed_back_to_a_client_that_is_away_runs_when_it_comes_again(make_rig: Callable[..., Rig]) -> None:
    """The client does not know that the node has let go of it, and sends it again when it is back."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, 2)
    rig.handle(Gone(rig.peer))
    rig.core.handle([], rig.now)
    session = rig.core.node.sessions[rig.session]
    stopping.take_back(rig.core.node, session, [session.tasks[2]])
    assert rig.handle() == []
    assert rig.hello(peer=b"peer2", epoch=EPOCH) == [rig.welcome(peer=b"peer2", resumed=True)]
    assert rig.submit(1, 2, peer=b"peer2") == []
    assert rig.finish(1, 1) == [Send(b"peer2", *rig.results_message(1, seq=1)), rig.give(1, 2)]
