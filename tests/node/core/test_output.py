"""What tasks print, by the actions that come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.messages import Output
from skyward_node.core.actions import Blocked, Send
from skyward_node.executors.events import Printed, Received

if TYPE_CHECKING:
    from collections.abc import Callable

    Rig = Any

EPOCH = 77


def output(task: int, stream: int, *lines: bytes, dropped: int = 0) -> Send:
    """Return lines on their way to the client."""
    return Send(b"peer1", Output(EPOCH, task, stream, len(lines), dropped), list(lines))


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
def test_output_of_threads_names_no_task(make_rig: Callable[..., Rig]) -> None:
    """With threads the process cannot tell who printed."""
    rig = make_rig(2, threads=True)
    rig.open()
    rig.submit(1)
    assert rig.handle(Printed(1, 1, b"one\n")) == [output(0, 1, b"one")]


def test_output_waits_for_a_blocked_client(rig: Rig) -> None:
    """While the connection takes nothing, lines are kept, and sent when it does."""
    rig.open()
    rig.submit(1)
    rig.handle(Blocked(b"peer1", blocked=True))
    assert rig.handle(Printed(1, 1, b"one\n")) == []
    assert rig.handle(Blocked(b"peer1", blocked=False)) == [output(1, 1, b"one")]


def test_output_without_a_session_is_logged(rig: Rig) -> None:
    """What a worker prints before it serves anyone is for the operator."""
    rig.start()
    assert rig.handle(Printed(1, 2, b"warning\n")) == []
    assert [log.fields for log in rig.logged] == [{"worker": 1, "lines": ["warning"]}]
