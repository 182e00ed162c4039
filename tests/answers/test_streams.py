"""Results one by one; the test delivers them as the owner of the loop would."""

from __future__ import annotations

import gc

import pytest

from skyward.answers.streams import ResultStream, StreamBuffer
from skyward.errors import NodeLostError, PoolClosedError, TaskTimeoutError
from skyward.results import DISCARD
from tests.flow import Flow
from tests.outcomes import raised

# --- order ---------------------------------------------------------------------------------


@pytest.mark.rule("R12")
def test_ordered_stream_buffers() -> None:
    """Results come in submission order, whatever the order of the ends."""
    flow = Flow(3)
    flow.deliver(2)
    flow.deliver(0)
    assert next(flow.stream) == 0
    flow.on_wait = [lambda: flow.deliver(1)]
    assert list(flow.stream) == [1, 2]
    assert flow.on_wait == []


@pytest.mark.rule("R12")
def test_unordered_stream_hands_out_at_once() -> None:
    """Results come as they end."""
    flow = Flow(3, ordered=False)
    flow.deliver(2)
    assert next(flow.stream) == 2
    flow.on_wait = [lambda: flow.deliver(0), lambda: flow.deliver(1)]
    assert list(flow.stream) == [0, 1]


@pytest.mark.rule("R12")
def test_wait_for_the_turn_is_not_disturbed_by_others() -> None:
    """A result whose turn has not come wakes nobody."""
    flow = Flow(2)
    woken: list[bool] = []

    def early() -> None:
        flow.deliver(1)
        assert flow.buffer.waiter is not None
        woken.append(flow.buffer.waiter.done)

    flow.on_wait = [early, lambda: flow.deliver(0)]
    assert list(flow.stream) == [0, 1]
    assert woken == [False]


@pytest.mark.rule("R12")
def test_stream_is_an_iterator_with_a_length() -> None:
    """``iter(s) is s``, the length is the total, and the end stays the end."""
    flow = Flow(2)
    stream = flow.stream
    assert iter(stream) is stream
    flow.deliver(0)
    flow.deliver(1)
    assert len(stream) == 2
    assert repr(stream) == "<ResultStream 0 of 2 taken>"
    next(stream)
    assert len(stream) == 2
    assert repr(stream) == "<ResultStream 1 of 2 taken>"
    next(stream)
    assert repr(stream) == "<ResultStream 2 of 2 taken>"
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(stream)


@pytest.mark.rule("R12")
def test_indexed_gives_pairs() -> None:
    """(index in submission order, result), and goes on where the iteration was."""
    flow = Flow(3, ordered=False)
    for index in (2, 0, 1):
        flow.deliver(index)
    assert next(flow.stream) == 2
    assert list(flow.stream.indexed()) == [(0, 0), (1, 1)]


def test_empty_stream_is_at_its_end() -> None:
    """There is nothing to take or to cancel."""
    flow = Flow(0)
    assert list(flow.stream) == []
    flow.stream.close()
    assert flow.cancelled == []
    assert len(flow.stream) == 0


# --- failures ------------------------------------------------------------------------------


@pytest.mark.rule("R13")
def test_failure_is_raised_in_its_turn() -> None:
    """Members before it still come, those behind it are cancelled, and then the stream is at its end."""
    flow = Flow(4)
    flow.deliver(1, raised(KeyError("k")))
    assert flow.cancelled == [2, 3]
    flow.deliver(0)
    assert next(flow.stream) == 0
    with pytest.raises(KeyError):
        next(flow.stream)
    assert list(flow.stream) == []


@pytest.mark.rule("R13")
def test_failure_of_an_unordered_stream_is_raised_when_known() -> None:
    """And everything else is cancelled."""
    flow = Flow(3, ordered=False)
    flow.deliver(1, raised(KeyError("k")))
    assert flow.cancelled == [0, 2]
    with pytest.raises(KeyError):
        next(flow.stream)
    assert list(flow.stream) == []


@pytest.mark.rule("R13")
def test_failures_stand_in_place_when_asked_for() -> None:
    """Nothing is cancelled, and nothing is raised but the end of the pool."""
    flow = Flow(4, return_exceptions=True)
    flow.deliver(0, raised(KeyError("k")))
    flow.deliver(1, NodeLostError(0, "gone"))
    flow.deliver(2)
    assert [type(next(flow.stream)) for _ in range(3)] == [KeyError, NodeLostError, int]
    assert flow.cancelled == []
    flow.deliver(3, PoolClosedError("closed"))
    with pytest.raises(PoolClosedError):
        next(flow.stream)


@pytest.mark.rule("R3")
@pytest.mark.parametrize("return_exceptions", [False, True])
def test_stream_expires(return_exceptions: bool) -> None:
    """When its time is over what is missing has failed for that reason; what comes of it later is dropped."""
    flow = Flow(3, return_exceptions=return_exceptions)
    flow.deliver(0)
    flow.buffer.expire(1.5)
    assert set(flow.cancelled) == {1, 2}
    assert [task.sink for task in flow.tasks[1:]] == [DISCARD, DISCARD]
    flow.deliver(1)
    assert next(flow.stream) == 0
    if return_exceptions:
        errors = list(flow.stream)
        assert [type(error) for error in errors] == [TaskTimeoutError] * 2
        assert errors[0].timeout == 1.5
    else:
        with pytest.raises(TaskTimeoutError, match=r"1\.5 s"):
            next(flow.stream)
    flow.buffer.expire(1.5)


# --- the end -------------------------------------------------------------------------------


@pytest.mark.rule("R12")
def test_close_cancels_what_is_left() -> None:
    """Once; what still comes is dropped, and the stream is at its end."""
    flow = Flow(3)
    flow.deliver(0)
    flow.deliver(1)
    next(flow.stream)
    flow.stream.close()
    flow.stream.close()
    assert flow.cancelled == [2]
    flow.deliver(2)
    assert flow.buffer.take() is None
    assert list(flow.stream) == []
    assert repr(flow.stream) == "<ResultStream 1 of 3 taken, closed>"


@pytest.mark.rule("R12")
def test_block_and_last_reference_close() -> None:
    """Leaving ``with``, or losing the stream."""
    flow = Flow(2)
    with flow.stream as stream:
        assert stream is flow.stream
    assert flow.cancelled == [0, 1]
    flow = Flow(2)
    cancelled = flow.cancelled
    buffer = StreamBuffer(0, ordered=True, return_exceptions=False, cancel=lambda _: None, soon=lambda run: run())
    flow.stream = ResultStream(buffer, flow.wait)
    gc.collect()
    assert cancelled == [0, 1]


def test_stream_taken_to_its_end_cancels_nothing() -> None:
    """There is nothing left."""
    flow = Flow(1)
    with flow.stream as stream:
        flow.deliver(0)
        assert list(stream) == [0]
    assert flow.cancelled == []


@pytest.mark.rule("R29")
def test_interrupt_closes_the_stream() -> None:
    """Ctrl-C cancels what the thread waits on."""
    flow = Flow(2)

    def interrupt() -> None:
        raise KeyboardInterrupt

    flow.on_wait = [interrupt]
    with pytest.raises(KeyboardInterrupt):
        next(flow.stream)
    assert flow.cancelled == [0, 1]
    assert flow.buffer.waiter is None
    assert list(flow.stream) == []


def test_close_from_another_thread_ends_the_wait() -> None:
    """The consumer is at the end."""
    flow = Flow(2)
    flow.on_wait = [flow.stream.close]
    assert list(flow.stream) == []
    assert flow.cancelled == [0, 1]


@pytest.mark.parametrize("looks", [1, 2])
def test_close_between_look_and_wait_is_seen(looks: int) -> None:
    """The consumer looks once before it publishes its waiter, and once afterwards."""
    flow = Flow(1)
    flow.after_looks(looks, flow.stream.close)
    assert list(flow.stream) == []
    assert flow.buffer.after_look == []


@pytest.mark.parametrize("looks", [1, 2])
def test_delivery_between_look_and_wait_is_seen(looks: int) -> None:
    """What comes before the waiter is published is found by the last look, what comes later wakes the waiter."""
    flow = Flow(1)
    flow.after_looks(looks, lambda: flow.deliver(0))
    assert next(flow.stream) == 0
    assert flow.buffer.after_look == []
