"""What goes on in a pool, and what of it is known for how long."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from skyward.answers.streams import StreamBuffer
from skyward.pool.feeding import Feeder
from skyward.pool.underway import Underway
from tests.feedings import WAIT, Pool, double
from tests.rules.work import until

if TYPE_CHECKING:
    from collections.abc import Iterator


def feeding(underway: Underway, calls: Iterator[Any], *, lazy: bool = True) -> Feeder:
    """Return what feeds a stream, at work."""
    pool: Any = Pool()
    buffer = StreamBuffer(None, ordered=True, return_exceptions=False, cancel=pool.cancel, soon=pool.soon)
    feeder = Feeder(pool, calls, buffer, 0) if lazy else Feeder(pool, calls, buffer, 0, ahead=None)
    underway.add_feeder(feeder)
    feeder.start()
    return feeder


@pytest.mark.rule("R21")
def test_feeder_is_known_until_it_ends() -> None:
    """Then it keeps nothing of its stream, whether or not another follows."""
    underway = Underway()
    go = threading.Event()

    def calls() -> Iterator[Any]:
        yield double(1)
        assert go.wait(WAIT)

    first, second = feeding(underway, calls()), feeding(underway, iter(()))
    second.thread.join(WAIT)
    assert list(underway._feeders.values()) == [first]
    go.set()
    first.thread.join(WAIT)
    assert underway._feeders == {}
    assert (first._calls, first._buffer) == (None, None)


@pytest.mark.rule("R30")
def test_calls_of_a_feeder_that_has_ended_are_waited_for() -> None:
    """It may have handed in its last ones since the work of the pool was looked at; what is pulled lazily may not."""
    underway = Underway()
    feeding(underway, iter([double(1)]), lazy=False).thread.join(WAIT)
    assert [underway.finish_feeders() for _ in range(2)] == [True, False]
    feeding(underway, iter([double(1), double(2)]), lazy=False).thread.join(WAIT)
    assert [underway.finish_feeders() for _ in range(2)] == [True, False]
    feeding(underway, iter([double(1)])).thread.join(WAIT)
    assert underway.finish_feeders() is False


@pytest.mark.rule("R30")
def test_end_of_the_pool_waits_while_a_source_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What calls come from may have something to put away."""
    underway = Underway()
    closing, go = threading.Event(), threading.Event()

    def calls() -> Iterator[Any]:
        try:
            while True:
                yield double(1)
        finally:
            closing.set()
            go.wait(WAIT)

    feeder = feeding(underway, calls())
    feeder.stop()
    assert closing.wait(WAIT)
    feeder.stop()  # which does nothing, as `give_up`
    join = feeder.thread.join

    def join_and_let_go(timeout: float | None = None) -> None:
        go.set()
        join(timeout)

    monkeypatch.setattr(feeder.thread, "join", join_and_let_go)
    underway.stop_feeders()
    assert not feeder.thread.is_alive()


def test_error_of_a_source_that_is_closed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no result's: it is told as that of any thread, and the feeder has ended all the same."""
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(cast("Any", args).exc_value))
    underway = Underway()

    def calls() -> Iterator[Any]:
        try:
            while True:
                yield double(1)
        finally:
            raise KeyError("mine")

    feeder = feeding(underway, calls())
    until(lambda: feeder.hungry, WAIT)
    feeder.stop()
    feeder.thread.join(WAIT)
    assert [repr(error) for error in told] == ["KeyError('mine')"]
    assert underway._feeders == {}
