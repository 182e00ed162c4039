"""Calls that are dispatched as the window, and those that have ended, allow."""

from __future__ import annotations

import contextvars
import gc
import itertools
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from skyward.answers.streams import ResultStream, StreamBuffer
from skyward.errors import PoolClosedError, SerializationError, TaskTimeoutError
from skyward.pool import feeding
from skyward.pool.feeding import AHEAD, FIRST, Feeder, batches
from skyward.results import DISCARD
from tests.feedings import WAIT, Feeding, Pool, double
from tests.rules.work import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def feed() -> Iterator[Callable[..., Feeding]]:
    """Return the start of a stream that is fed; all are stopped at the end."""
    made: list[Feeding] = []

    def start(calls: Iterator[Any], **options: Any) -> Feeding:
        made.append(Feeding(calls, **options))
        return made[-1]

    yield start
    for feeding_ in made:
        feeding_.stream.close()
        feeding_.feeder.thread.join(WAIT)


# --- batches -------------------------------------------------------------------------------


def sizes(count: int, size: int, budget: int) -> list[int]:
    """Return how many calls each batch has."""
    pool: Any = Pool(size)
    calls = [double(i) for i in range(count)]
    made = list(batches(pool, calls, DISCARD, budget, snapshot=False))
    assert [task.index for batch in made for task in batch] == list(range(count))
    return [len(batch) for batch in made]


@pytest.mark.rule("R21")
def test_batches_fit_the_budget() -> None:
    """But for the first calls, whose size is not known before they are serialized."""
    assert sizes(1_000, 10, 1_000_000) == [1_000]
    assert sizes(0, 10, 100) == [0]
    first, *rest = sizes(2_000, 1_000, 500_000)
    assert first <= 500
    assert max(rest) <= 500


@pytest.mark.rule("R21")
def test_calls_larger_than_the_budget_go_one_by_one() -> None:
    """Each waits for room of its own."""
    assert sizes(FIRST + 3, 1_000, 10)[1:] == [1, 1, 1]


# --- feeders -------------------------------------------------------------------------------


@pytest.mark.rule("R12")
def test_calls_are_dispatched_in_order(feed: Callable[..., Feeding]) -> None:
    """One by one, as the iterator makes them."""
    fed = feed(double(i) for i in range(50))
    fed.join()
    assert [(task.index, task.value) for task in fed.pool.dispatched] == [(i, i) for i in range(50)]


@pytest.mark.rule("R10")
def test_feeder_stays_a_thousand_calls_ahead_at_most(feed: Callable[..., Feeding]) -> None:
    """It goes on when a part of them has ended, and never pulls more than that."""
    pulled = itertools.count()
    fed = feed(double(next(pulled)) for _ in itertools.repeat(None))
    fed.settle()
    assert len(fed.pool.dispatched) == AHEAD == 1_000
    fed.pool.end(AHEAD // feeding.RESUME)
    assert fed.feeder.hungry
    fed.pool.end(1)
    fed.settle()
    assert next(pulled) == AHEAD + AHEAD // feeding.RESUME + 1


@pytest.mark.rule("R21")
def test_results_that_are_still_to_come_count(feed: Callable[..., Feeding], monkeypatch: pytest.MonkeyPatch) -> None:
    """Until one is known there are two calls a slot, then as many as have results that fit; one a slot in any case."""
    monkeypatch.setattr(feeding, "HELD", 100_000)
    monkeypatch.setattr(Pool, "slots", 3)
    fed = feed((double(i) for i in itertools.count()), ordered=False)
    fed.settle()
    assert len(fed.pool.dispatched) == 6
    fed.pool.end(1, size=10_000)
    until(lambda: fed.feeder.hungry and len(fed.pool.dispatched) == 8, WAIT)
    for _ in range(30):
        fed.pool.end(1, size=10_000)
    fed.settle()
    assert fed.buffer.held <= 100_000 + 3 * 10_400


@pytest.mark.rule("R21")
def test_feeder_waits_for_a_slow_consumer(feed: Callable[..., Feeding], monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that nobody takes are bounded in bytes."""
    monkeypatch.setattr(feeding, "HELD", 100_000)
    fed = feed((double(i) for i in itertools.count()), ordered=False)
    for _ in range(40):
        fed.settle()
        fed.pool.end(AHEAD, size=1_000)
    assert fed.buffer.ended <= AHEAD + 100
    held = fed.buffer.held
    for _ in range(AHEAD):
        next(fed.stream)
    assert fed.buffer.held < held - 1_000 * 999
    until(lambda: len(fed.pool.dispatched) > 0, WAIT)


@pytest.mark.rule("R12")
def test_stream_has_a_length_once_it_is_known(feed: Callable[..., Feeding]) -> None:
    """Before, `len` says why there is none."""
    go = threading.Event()

    def calls() -> Iterator[Any]:
        yield double(1)
        assert go.wait(WAIT)

    fed = feed(calls())
    until(lambda: fed.pool.dispatched, WAIT)
    with pytest.raises(TypeError, match="not known"):
        len(fed.stream)
    go.set()
    fed.join()
    assert len(fed.stream) == 1
    fed.pool.end()
    assert list(fed.stream) == [b"x" * 10]


@pytest.mark.rule("R10")
def test_error_of_the_users_iterator_is_raised_after_what_came_before(feed: Callable[..., Feeding]) -> None:
    """It is theirs, and the calls that were made before it count."""

    def calls() -> Iterator[Any]:
        yield double(1)
        raise KeyError("mine")

    fed = feed(calls())
    fed.join()
    fed.pool.end()
    assert next(fed.stream) == b"x" * 10
    with pytest.raises(KeyError, match="mine"):
        next(fed.stream)
    assert list(fed.stream) == []


@pytest.mark.rule("R10")
def test_item_that_is_no_call_is_refused_in_its_turn(feed: Callable[..., Feeding]) -> None:
    """With its place, and what it was."""
    fed = feed(iter([double(1), 5]))
    fed.join()
    fed.pool.end()
    next(fed.stream)
    with pytest.raises(TypeError, match=r"item 1 is 5 \(int\)"):
        next(fed.stream)


@pytest.mark.rule("R13")
def test_unpicklable_member_fails_in_place(feed: Callable[..., Feeding]) -> None:
    """With ``return_exceptions`` the others go on."""
    fed = feed(iter([double(1), double("unpicklable"), double(3)]), return_exceptions=True)
    fed.join()
    fed.pool.end(2)
    results = list(fed.stream)
    assert [type(result) for result in results] == [bytes, SerializationError, bytes]


@pytest.mark.rule("R13")
def test_unpicklable_member_ends_the_stream_in_its_turn(feed: Callable[..., Feeding]) -> None:
    """Without, it is the failure of its place, and no more calls are pulled."""
    made: list[int] = []

    def calls() -> Iterator[Any]:
        for value in itertools.chain([1, "unpicklable"], itertools.count()):
            made.append(1)
            yield double(value)

    fed = feed(calls())
    fed.settle()
    fed.pool.turn()
    fed.join()
    fed.pool.end(1)
    next(fed.stream)
    with pytest.raises(SerializationError):
        next(fed.stream)
    assert len(made) <= AHEAD + 1


@pytest.mark.rule("R12")
def test_close_stops_the_feeder_and_cancels(feed: Callable[..., Feeding]) -> None:
    """Also while it waits."""
    fed = feed(double(i) for i in itertools.count())
    fed.settle()
    fed.stream.close()
    fed.join()
    assert len(fed.pool.cancelled) == AHEAD
    assert list(fed.stream) == []


@pytest.mark.rule("R12")
def test_dropped_stream_stops_its_feeder(feed: Callable[..., Feeding]) -> None:
    """The thread does not keep the stream."""
    fed = feed(double(i) for i in itertools.count())
    fed.settle()
    dropped = weakref.ref(fed.stream)
    del fed.stream
    gc.collect()
    assert dropped() is None
    fed.join()
    fed.stream = ResultStream(fed.buffer, lambda _: None)


def test_call_that_waits_for_room_is_not_dispatched_after_the_end(feed: Callable[..., Feeding]) -> None:
    """It counts as never pulled."""
    fed = feed(double(i) for i in range(5))
    fed.join()
    other = Feeding(iter(()))
    other.join()
    pool: Any = fed.pool
    pool.dispatched.clear()
    pool.room.clear()
    buffer = StreamBuffer(None, ordered=True, return_exceptions=False, cancel=pool.cancel, soon=pool.soon)
    feeder = Feeder(pool, iter([double(1)]), buffer, 0)
    feeder.start()
    until(lambda: feeder.index == 1, WAIT)
    feeder.stop()
    pool.room.set()
    feeder.thread.join(WAIT)
    pool.turn()
    assert (pool.dispatched, buffer.total) == ([], 0)


@pytest.mark.rule("R30")
def test_closed_pool_ends_the_stream_with_its_error(feed: Callable[..., Feeding]) -> None:
    """A stream that is cut short never looks complete."""
    fed = feed(double(i) for i in itertools.count())
    fed.settle()
    fed.pool.closed = True
    fed.pool.end(AHEAD)
    for _ in range(AHEAD):
        next(fed.stream)
    with pytest.raises(PoolClosedError):
        list(fed.stream)


@pytest.mark.rule("R30")
def test_iterator_that_does_not_return_holds_up_nobody(feed: Callable[..., Feeding]) -> None:
    """The consumer is told of the pool's end all the same."""
    go = threading.Event()

    def calls() -> Iterator[Any]:
        yield double(1)
        assert go.wait(WAIT)

    fed = feed(calls())
    until(lambda: fed.pool.dispatched, WAIT)
    fed.pool.end()
    next(fed.stream)
    fed.feeder.stop(PoolClosedError("the pool was closed"))
    fed.feeder.give_up()
    with pytest.raises(PoolClosedError):
        next(fed.stream)
    go.set()


@pytest.mark.rule("R3")
def test_time_of_a_lazy_group_is_over_whatever_its_iterator_does(feed: Callable[..., Feeding]) -> None:
    """What was dispatched failed for that reason, and the stream ends with it."""
    go = threading.Event()

    def calls() -> Iterator[Any]:
        yield double(1)
        assert go.wait(WAIT)

    fed = feed(calls(), return_exceptions=True)
    until(lambda: fed.pool.dispatched, WAIT)
    fed.buffer.expire(2.0)
    assert type(next(fed.stream)) is TaskTimeoutError
    with pytest.raises(TaskTimeoutError):
        next(fed.stream)
    go.set()


@pytest.mark.rule("R3")
def test_time_of_a_large_group_is_over_for_members_that_were_not_dispatched() -> None:
    """Each has its failure in its place, and the stream its length."""
    pool: Any = Pool()
    buffer = StreamBuffer(2_000, ordered=True, return_exceptions=True, cancel=pool.cancel, soon=pool.soon)
    pool.room.clear()
    feeder = Feeder(pool, (double(i) for i in range(2_000)), buffer, 0, ahead=None)
    feeder.start()
    buffer.expire(2.0)
    pool.room.set()
    feeder.thread.join(WAIT)
    pool.turn()
    stream: ResultStream[Any] = ResultStream(buffer, lambda _: None)
    assert len(stream) == 2_000
    assert {type(result) for result in stream} == {TaskTimeoutError}


@pytest.mark.rule("R30")
@pytest.mark.parametrize("count", [feeding.ITERATORS - 1, feeding.ITERATORS + 1])
def test_end_waits_for_calls_that_are_all_there_but_for_no_consumer(count: int) -> None:
    """Members that yield wait for whoever takes them: a feeder that waits so too is not waited for."""
    pool: Any = Pool()
    buffer = StreamBuffer(count, ordered=True, return_exceptions=False, cancel=pool.cancel, soon=pool.soon)
    pool.room.clear()

    def calls() -> Iterator[Any]:
        for index in range(count):
            buffer.given += 1
            yield double(index)

    feeder = Feeder(pool, calls(), buffer, 0, ahead=None)
    ending = threading.Thread(target=feeder.finish, daemon=True)
    feeder.start()
    until(lambda: feeder.index == 1, WAIT)
    ending.start()
    pool.room.set()
    ending.join(WAIT)
    assert not ending.is_alive()
    assert len(pool.dispatched) == min(count, feeding.ITERATORS)
    feeder.finish()
    feeder.stop()
    feeder.thread.join(WAIT)


NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="none")


@pytest.mark.rule("R14")
def test_users_iterator_runs_in_the_context_of_the_dispatch(feed: Callable[..., Feeding]) -> None:
    """So that ``>> sky`` in it means the same pool."""
    token = NAME.set("mine")
    fed = feed(double(NAME.get()) for _ in range(1))
    NAME.reset(token)
    fed.join()
    assert [task.value for task in fed.pool.dispatched] == ["mine"]
