"""Streams of values between a task and its client, by the actions that come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.messages import Credit, Items, Release, Results, Slots
from skyward.wire.statuses import CRASHED
from skyward_node.core import crew, streaming
from skyward_node.core.actions import Control, Give, Send
from skyward_node.pipe_messages import Deadlock, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    Rig = Any

EPOCH = 77


def items(id: int, stream: int = 0, first: int = 0, epoch: int = 0, seq: int = 0) -> Items:
    """Return one element."""
    return Items(epoch, id, stream, first, [4], [0], end=False, seq=seq)


@pytest.mark.rule("R23")
def test_elements_go_to_the_client(rig: Rig) -> None:
    """What a task yields is passed on with the node's epoch, unopened, and credit goes the other way."""
    rig.open()
    rig.submit(1)
    assert rig.hear(1, items(1), [b"item"]) == [Send(b"peer1", items(1, epoch=EPOCH, seq=1), [b"item"])]
    assert rig.say(Credit(EPOCH, 1, 0, 5, 100, seq=1)) == [Control(1, Credit(0, 1, 0, 5, 100))]


@pytest.mark.rule("R24")
def test_elements_of_arguments_go_to_the_worker(rig: Rig) -> None:
    """On its control pipe, because its main thread runs the task; what it grants goes to the client."""
    rig.open()
    rig.submit(1)
    assert rig.hear(1, Credit(0, 1, 1, 2, 100)) == [Send(b"peer1", Credit(EPOCH, 1, 1, 2, 100, seq=1))]
    assert rig.say(items(1, 1, epoch=EPOCH, seq=1), [b"item"]) == [Control(1, items(1, 1), [b"item"])]
    assert rig.say(items(1, 1, epoch=EPOCH, seq=1), [b"item"]) == []


def test_elements_of_a_task_that_has_ended_are_dropped(rig: Rig) -> None:
    """In both directions; their numbers count all the same."""
    rig.open()
    rig.submit(1)
    rig.finish(1, 1)
    assert rig.hear(1, items(1), [b"item"]) == []
    assert rig.say(items(1, 1, epoch=EPOCH, seq=1), [b"item"]) == []
    assert rig.core.node.sessions[rig.session].heard == 1


@pytest.mark.rule("R23")
def test_elements_are_sent_again_after_a_break_before_results(rig: Rig) -> None:
    """Those that the client has not heard; a result that came after them stays behind them."""
    rig.open()
    rig.submit(1)
    rig.hear(1, items(1), [b"item"])
    rig.hear(1, items(1, first=1), [b"more"])
    rig.finish(1, 1)
    actions = rig.hello(peer=b"peer2", epoch=EPOCH, heard=1)
    said = [action.message for action in actions if isinstance(action, Send) and action.peer == b"peer2"]
    kinds = [type(message).__name__ for message in said]
    assert said[1] == items(1, first=1, epoch=EPOCH, seq=2)
    assert kinds[:3] == ["Welcome", "Items", "Results"]


@pytest.mark.rule("R23")
@pytest.mark.rule("R36")
def test_task_that_has_yielded_is_not_run_again(rig: Rig) -> None:
    """Neither is one that has asked for an element of its input."""
    for message, body in ((items(1), [b"item"]), (Credit(0, 1, 1, 2, 100), [])):
        rig = type(rig)()
        rig.open()
        rig.submit(1)
        rig.hear(1, message, body)
        (results,) = [action.message for action in rig.die(1) if isinstance(action, Send)]
        assert isinstance(results, Results)
        assert results.statuses == [CRASHED]


@pytest.mark.rule("R25")
def test_timeout_stands_still_while_a_task_waits_for_a_stream(make_rig: Callable[..., Rig]) -> None:
    """It counts only the time in which the task goes on."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, timeouts=[1.0])
    assert rig.hear(1, Waiting(1, waiting=True, idle=True)) == [Send(b"peer1", Slots(EPOCH, 2))]
    assert rig.handle(after=5.0) == []
    assert rig.hear(1, Waiting(1, waiting=False, idle=True)) == [Send(b"peer1", Slots(EPOCH, 1))]
    assert rig.handle(after=0.9) == []
    assert rig.handle(after=0.2) == [rig.withdraw(1, 1, running=True)]


@pytest.mark.rule("R25")
def test_timeout_stands_still_for_a_stream_alone(make_rig: Callable[..., Rig]) -> None:
    """Also when the task waits for calls all the time: then it runs on as soon as the stream's wait is over."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, timeouts=[1.0])
    rig.hear(1, Waiting(1, waiting=True))
    rig.hear(1, Waiting(1, waiting=True, idle=True))
    assert rig.handle(after=5.0) == []
    rig.hear(1, Waiting(1, waiting=False, idle=True))
    assert rig.handle(after=0.9) == []
    assert rig.withdraw(1, 1, running=True) in rig.handle(after=0.2)


@pytest.mark.rule("R25")
def test_too_many_waits_for_streams_are_a_deadlock(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound the wait fails, and the error names who holds the slots."""
    monkeypatch.setattr(crew, "EXTRA", 1)
    rig = make_rig(2)
    rig.open()
    rig.submit(1, 2)
    rig.hear(1, Waiting(1, waiting=True, idle=True))
    text = "1 tasks of this node wait for others already: f (task 1)"
    assert rig.hear(2, Waiting(2, waiting=True, idle=True)) == [Control(2, Deadlock(2, text))]


@pytest.mark.rule("R25")
def test_thread_is_told_that_nobody_wants_its_generator(make_rig: Callable[..., Rig]) -> None:
    """At once, or when it first yields: it looks at that where it deals with streams."""
    rig = make_rig(1, threads=True)
    rig.open()
    rig.submit(1)
    rig.hear(1, items(1), [b"item"])
    assert rig.withdraw(1, 1, running=True) in rig.cancel(1)
    rig = make_rig(1, threads=True)
    rig.open()
    rig.submit(1)
    assert rig.withdraw(1, 1, running=True) not in rig.cancel(1)
    assert rig.withdraw(1, 1, running=True) in rig.hear(1, items(1), [b"item"])


@pytest.mark.rule("R21")
def test_client_hears_soon_that_much_has_come(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps elements until then."""
    monkeypatch.setattr(streaming, "CONFIRM", 7)
    rig.open()
    rig.submit(1)
    assert len(rig.say(items(1, 1, epoch=EPOCH, seq=1), [b"item"])) == 1
    _, pulse, *_ = rig.say(items(1, 1, 1, epoch=EPOCH, seq=2), [b"item"])
    assert pulse.message.heard == 2


@pytest.mark.rule("R21")
def test_memory_is_released_while_a_generator_runs(rig: Rig) -> None:
    """By the control pipe, because nobody reads the other one then."""
    rig.open()
    rig.submit(1)
    release = Release(EPOCH, [1 << 32])
    assert rig.say(release) == [Give(1, Release(0, [1 << 32]))]
    rig.hear(1, items(1), [b"item"])
    assert rig.say(release) == [Control(1, Release(0, [1 << 32]))]


@pytest.mark.rule("R25")
def test_function_that_yields_is_never_queued_behind_another(make_rig: Callable[..., Rig]) -> None:
    """How long it takes is up to its consumer: nothing is learned of that."""
    rig = make_rig(1)
    rig.open()
    rig.teach(100)
    rig.submit(1)
    rig.hear(1, items(1), [b"item"])
    rig.finish(1, 1)
    assert rig.submit(2, 3) == [rig.give(1, 2)]


@pytest.mark.rule("R22")
def test_streams_of_calls_are_passed_on_and_commit_nobody(rig: Rig) -> None:
    """Both ways, with the number of the call; the task that has made it may still be run again."""
    rig.open()
    rig.submit(1, retries=[1])
    credit, fed = Credit(0, 1, 0, 5, 100, call=9), Items(0, 1, 1, 0, [4], [0], end=False, call=9)
    assert rig.hear(1, credit) == [Send(b"peer1", Credit(EPOCH, 1, 0, 5, 100, seq=1, call=9))]
    (said,) = rig.hear(1, fed, [b"item"])
    assert (said.message.call, said.message.seq, said.body) == (9, 2, [b"item"])
    assert rig.say(Credit(EPOCH, 1, 1, 2, 100, seq=1, call=9)) == [Control(1, Credit(0, 1, 1, 2, 100, call=9))]
    assert not rig.core.node.sessions[rig.session].tasks[1].committed


@pytest.mark.rule("R22")
def test_streams_of_calls_of_a_task_that_has_ended_are_dropped(rig: Rig) -> None:
    """They were on their way."""
    rig.open()
    rig.submit(1)
    rig.finish(1, 1)
    assert rig.hear(1, Credit(0, 1, 0, 5, 100, call=9)) == []
    assert rig.say(Credit(EPOCH, 1, 1, 2, 100, seq=1, call=9)) == []
