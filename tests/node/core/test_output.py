"""What tasks print, by the actions that come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.messages import Beat, Output
from skyward_node.core.actions import Blocked, Incoming, Retire, Send, Spawn
from skyward_node.core.lines import WINDOW
from skyward_node.executors.events import OutputEnded, Printed, Received

if TYPE_CHECKING:
    from collections.abc import Callable

    Rig = Any

EPOCH = 77


def output(task: int, stream: int, *lines: bytes, dropped: int = 0) -> Send:
    """Return lines on their way to the client."""
    return Send(b"peer1", Output(EPOCH, task, stream, len(lines), dropped), [b"\n".join(lines)])


@pytest.mark.rule("R28")
def test_lines_reach_the_client_before_the_result(rig: Rig) -> None:
    """Whole lines go at once, the begun one with the end of the task, the result after them."""
    rig.open()
    rig.submit(1)
    events = [Printed(1, 1, b"one\ntwo\nthr"), Received(1, *rig.results_message(1))]
    assert rig.handle(*events) == [output(1, 1, b"one", b"two"), output(1, 1, b"thr"), rig.results(1, 1)]


@pytest.mark.rule("R28")
def test_partial_line_is_flushed_after_a_tenth_of_a_second(rig: Rig) -> None:
    """A prompt without a newline is seen."""
    rig.open()
    rig.submit(1)
    assert rig.handle(Printed(1, 2, b"name? ")) == []
    assert rig.handle(after=0.05) == []
    assert rig.handle(after=0.06) == [output(1, 2, b"name? ")]


@pytest.mark.rule("R28")
def test_line_that_goes_on_is_not_torn(rig: Rig) -> None:
    """A line that has begun a moment ago is not flushed because another had begun before."""
    rig.open()
    rig.submit(1)
    rig.handle(Printed(1, 1, b"one\ntw"))
    assert rig.handle(Printed(1, 1, b"o\nthr"), after=0.06) == [output(1, 1, b"two")]
    assert rig.handle(after=0.06) == []
    assert rig.handle(Printed(1, 1, b"ee\n")) == [output(1, 1, b"three")]


@pytest.mark.rule("R28")
def test_output_of_threads_names_no_task(make_rig: Callable[..., Rig]) -> None:
    """With threads the process cannot tell who printed."""
    rig = make_rig(2, threads=True)
    rig.open()
    rig.submit(1)
    assert rig.handle(Printed(1, 1, b"one\n")) == [output(0, 1, b"one")]


@pytest.mark.rule("R28")
def test_begun_line_of_threads_comes_before_the_last_result(make_rig: Callable[..., Rig]) -> None:
    """While another task runs it may be that one's, and go on."""
    rig = make_rig(2, threads=True)
    rig.open()
    rig.submit(1, 2)
    rig.handle(Printed(1, 1, b"one"))
    assert rig.handle(Received(1, *rig.results_message(1))) == [rig.results(1, 1)]
    assert rig.handle(Received(1, *rig.results_message(2))) == [output(0, 1, b"one"), rig.results(2, 2)]


def test_output_waits_for_a_blocked_client(rig: Rig) -> None:
    """While the connection takes nothing, lines are kept, and sent when it does."""
    rig.open()
    rig.submit(1)
    rig.handle(Blocked(b"peer1", blocked=True))
    assert rig.handle(Printed(1, 1, b"one\n")) == []
    assert rig.handle(Blocked(b"peer1", blocked=False)) == [output(1, 1, b"one")]


def test_thread_says_whose_lines_it_sends(make_rig: Callable[..., Rig]) -> None:
    """What Python writes comes with its task, unless that has ended."""
    rig = make_rig(2, threads=True)
    rig.open()
    rig.submit(1)
    for task, shown in ((1, 1), (7, 0)):
        message = Output(0, task, 2, 2, 0)
        assert rig.handle(Received(1, message, [b"one\ntwo"])) == [output(shown, 2, b"one", b"two")]


LINE = b"x" * 1023
MANY = WINDOW // 1024


def flood(rig: Rig) -> None:
    """Print as much as may be on the way."""
    rig.open()
    rig.submit(1)
    sent = rig.handle(*[Printed(1, 1, LINE + b"\n")] * MANY)
    assert len(sent) == MANY
    assert rig.handle(Printed(1, 1, b"more\n")) == []


@pytest.mark.rule("R28")
def test_lines_wait_for_those_on_the_way(rig: Rig) -> None:
    """Results never queue behind more than the window: the client says what has come."""
    flood(rig)
    beat = Beat(EPOCH, 0, 1.0, shown=WINDOW + 1)
    assert rig.handle(Incoming(b"peer1", beat)) == []  # of another connection: so much was not sent
    assert rig.handle(Incoming(b"peer1", Beat(EPOCH, 0, 1.0, shown=1024))) == [output(1, 1, b"more")]


@pytest.mark.rule("R28")
def test_lines_that_waited_come_before_the_result(rig: Rig) -> None:
    """What is left of a task's lines is sent ahead of its result, whatever is on the way."""
    flood(rig)
    assert rig.handle(Received(1, *rig.results_message(1))) == [output(1, 1, b"more"), rig.results(1, 1)]


@pytest.mark.rule("R28")
def test_lines_that_nobody_takes_are_dropped_and_counted(rig: Rig) -> None:
    """With twice the window on the way a task's end drops all but its last line, which says how much."""
    flood(rig)
    rig.submit(2)
    rig.handle(*[Printed(1, 1, LINE + b"\n")] * 2 * MANY)
    first = rig.handle(Received(1, *rig.results_message(1)))
    assert first[-1] == rig.results(1, 1)
    taken = sum(send.message.lines for send in first[:-1])
    lost = sum(send.message.dropped for send in first[:-1])
    assert 0 < taken <= MANY + 1
    assert taken + lost == 2 * MANY + 1
    assert rig.handle(Printed(1, 1, b"next\n")) == []


def test_output_without_a_session_is_logged(rig: Rig) -> None:
    """What a worker prints before it serves anyone is for the operator."""
    rig.start()
    assert rig.handle(Printed(1, 2, b"warning\n")) == []
    assert [log.fields for log in rig.logged] == [{"worker": 1, "lines": ["warning"]}]


# --- output that ends ----------------------------------------------------------------------------


@pytest.mark.rule("R28")
def test_worker_whose_output_has_ended_gets_nothing_more(make_rig: Callable[..., Rig]) -> None:
    """What was given ahead is taken back; it ends with its task, and only then another one takes its place."""
    rig = make_rig(1)
    rig.open()
    rig.teach(1)
    rig.submit(1, 2)
    assert rig.handle(OutputEnded(1, 1)) == [rig.withdraw(1, 2, running=False)]
    assert rig.handle(OutputEnded(1, 2)) == []
    assert [line.event for line in rig.logged[1:]] == ["a task closed its output: another worker takes its place"]
    rig.hand_back(1, 2)
    assert rig.handle(after=20) == []
    assert rig.finish(1, 1) == [Retire(1), Spawn(2, 1, 0), rig.results(1, 1), *rig.first(2, 2)]


@pytest.mark.rule("R28")
def test_idle_worker_whose_output_ends_is_replaced_at_once(rig: Rig) -> None:
    """A thread that a task has left behind may close it; a worker without a session has none, and yet."""
    rig.open()
    rig.submit(1)
    rig.finish(1, 1)
    assert rig.handle(OutputEnded(1, 1)) == [Retire(1), Spawn(3, 1, 0)]
    assert rig.handle(OutputEnded(2, 1)) == [Retire(2), Spawn(4, 1, 1)]
    assert rig.handle(OutputEnded(1, 2), OutputEnded(9, 2)) == []


def test_output_of_a_worker_that_never_was_ends_with_it(rig: Rig) -> None:
    """Its end is reported apart, and counts against its start."""
    rig.core.start()
    assert rig.handle(OutputEnded(1, 1)) == []


def test_threads_go_on_without_descriptors(make_rig: Callable[..., Rig]) -> None:
    """What Python prints on them goes another way."""
    rig = make_rig(2, threads=True)
    rig.open()
    rig.submit(1)
    assert rig.handle(OutputEnded(1, 1)) == []
    assert rig.finish(1, 1) == [rig.results(1, 1)]


def test_worker_that_is_killed_after_its_output_has_ended_has_died(rig: Rig) -> None:
    """Its descriptors may be seen to close before it is seen to be gone."""
    rig.open()
    rig.handle(OutputEnded(2, 1))
    rig.die(2, 9)
    rig.handle(OutputEnded(1, 1))
    rig.die(1, None, 0)
    assert rig.core.node.deaths == 1
