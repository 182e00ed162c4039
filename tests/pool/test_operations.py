"""How calls become tasks, and outcomes values; the pool's tasks run in this process."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator  # noqa: TC003 - evaluated where functions are marked
from typing import Any

import cloudpickle  # type: ignore[import-untyped]  # it has no types  # pyright: ignore[reportMissingTypeStubs]
import pytest

from skyward.answers.callbacks import must_not_block
from skyward.calls import function
from skyward.dispatch.tasks import ANY
from skyward.errors import BroadcastError, NodeLostError, PoolClosedError, SerializationError, TaskTimeoutError
from skyward.pool.claims import claim
from skyward.results import CancelledError
from skyward.runtime import activate, deactivate
from skyward.work.gathering import gather
from tests.operating import OperatedPool


@function
def double(number: int) -> int:
    return 2 * number


@function
def fed(numbers: Iterator[int]) -> int:
    return sum(numbers)


@function(timeout=5.0, retries=1)
def limited(number: int) -> int:
    return number


@function
def fail(text: str) -> str:
    raise ValueError(text)


@function
def echo(value: Any) -> Any:
    return value


@function
def named(pools: list[Any]) -> str:
    return repr(pools[0])


# --- tasks ---------------------------------------------------------------------------------


@pytest.mark.rule("R3")
def test_call_beats_decorator_beats_pool() -> None:
    """The nearest setting is the task's; without any there is no time limit."""
    pool = OperatedPool(retries=7)
    for call in (double(1), limited(1), limited(1).with_timeout(2.0).with_retries(0), double(1).on(1)):
        pool.run(call)
    made = [(task.timeout, task.retries, task.rank) for (task,) in pool.submitted]
    assert made == [(0.0, 7, ANY), (5.0, 1, ANY), (2.0, 0, ANY), (0.0, 7, 1)]
    pool = OperatedPool(timeout=9.0)
    pool.run(double(1))
    pool.run(limited(1))
    assert [task.timeout for (task,) in pool.submitted] == [9.0, 5.0]


@pytest.mark.rule("R3")
def test_none_is_no_time_limit() -> None:
    """Said of a call or a function it beats what is further away; what is not said is left to that."""
    pool = OperatedPool(timeout=9.0)
    unlimited = function(double.__wrapped__, timeout=None)
    travelled = pickle.loads(cloudpickle.dumps(unlimited))
    calls = [limited(1).with_timeout(None), double(1).with_timeout(None).on(1), unlimited(1), travelled(1)]
    calls += [function(limited, timeout=None)(1), function(unlimited, retries=1)(1), unlimited(1).named("x")]
    for call in calls:
        pool.run(call)
    pool.run(unlimited(1).with_timeout(2))
    pool.run(function(limited, retries=1)(1))
    pool.run_group(gather(unlimited(1), unlimited(2)))
    limits = [task.timeout for tasks in pool.submitted for task in tasks]
    assert limits == [*[0.0] * len(calls), 2.0, 5.0, 0.0, 0.0]


@pytest.mark.rule("R19")
def test_function_is_resolved_once_for_a_group() -> None:
    """Not once for each call."""
    pool = OperatedPool()
    assert pool.run_group(gather(*[double(i) for i in range(100)], fail("x"), return_exceptions=True))[:2] == (0, 2)
    assert pool.store.resolved == ["double", "fail"]


@pytest.mark.rule("R19")
def test_broadcast_serializes_once() -> None:
    """Every node's task has the same bytes, and an id of its own."""
    pool = OperatedPool()
    pickled: list[int] = []

    class Counted:
        def __reduce__(self) -> Any:
            pickled.append(1)
            return int, (5,)

    assert pool.broadcast(echo(Counted())) == [5, 5]
    first, second = pool.submitted[0]
    assert pickled == [1]
    assert first.data is second.data
    assert ((first.rank, second.rank), first.id != second.id) == ((0, 1), True)


@pytest.mark.rule("R47")
def test_only_what_outlives_the_call_is_copied() -> None:
    """A thread that waits for its call cannot change the arguments; a future's, or a stream's, could change."""
    pool = OperatedPool(lazy=True)
    data = bytearray(100_000)
    future = pool.run_async(echo(data))
    stream = pool.run_group(gather(echo(data), stream=True))
    pool.lazy = False
    data[0] = 1
    pool.run(echo(data))
    assert (future.result()[0], next(stream)[0]) == (0, 0)
    buffers = [memoryview(task.buffers[0]).obj for (task,) in pool.submitted]
    assert [buffer is data for buffer in buffers] == [False, False, True]


@pytest.mark.rule("R5")
def test_nothing_is_submitted_if_a_member_cannot_be_pickled() -> None:
    """By whatever way."""
    pool = OperatedPool()
    bad = echo(threading.Lock())
    for run in (pool.run, pool.run_async, pool.broadcast):
        with pytest.raises(SerializationError, match="argument 'value'"):
            run(bad)
    for run_group in (pool.run_group, pool.run_async):
        with pytest.raises(SerializationError):
            run_group(double(1) & bad)
    with pytest.raises(SerializationError):
        pool.run_group(gather(double(1), bad, stream=True))
    assert pool.submitted == []


@pytest.mark.rule("R21")
def test_arguments_over_the_limit_are_refused() -> None:
    """By size and option."""
    pool = OperatedPool(max_payload=1_000)
    with pytest.raises(SerializationError, match=r"the arguments of echo.* exceed max_payload=1000 bytes"):
        pool.run(echo(bytes(2_000)))
    assert pool.run(echo(bytes(500))) == bytes(500)


# --- values --------------------------------------------------------------------------------


def test_call_gives_its_value_or_raises() -> None:
    """The failure says where it happened."""
    pool = OperatedPool()
    assert pool.run(double(4)) == 8
    with pytest.raises(ValueError, match="bad") as caught:
        pool.run(fail("bad"))
    assert caught.value.__notes__ == ["raised by fail on node 0, task 2"]


@pytest.mark.rule("R11")
def test_group_gives_a_tuple_in_order() -> None:
    """Of as many values as there are calls; of none at once."""
    pool = OperatedPool()
    assert pool.run_group(gather(*[double(i) for i in range(5)])) == (0, 2, 4, 6, 8)
    assert len(pool.submitted) == 1
    assert pool.run_group(gather()) == ()
    assert len(pool.submitted) == 1


@pytest.mark.rule("R13")
def test_first_failure_cancels_the_rest() -> None:
    """It is raised as soon as it is known."""
    pool = OperatedPool()
    with pytest.raises(ValueError, match="first"):
        pool.run_group(gather(double(1), fail("first"), double(2), double(3)))
    assert pool.cancelled == [3, 4]


@pytest.mark.rule("R12")
def test_stream_gives_values_as_they_are_asked_for() -> None:
    """All calls are submitted at once, and what is not taken is cancelled at the end."""
    pool = OperatedPool()
    stream = pool.run_group(gather(*[double(i) for i in range(4)], stream=True))
    assert [len(tasks) for tasks in pool.submitted] == [4]
    assert next(stream) == 0
    stream.close()
    assert pool.cancelled == [2, 3, 4]


@pytest.mark.rule("R8")
def test_broadcast_keeps_what_succeeded() -> None:
    """And names the nodes that failed; it does not count on the nodes any more."""
    pool = OperatedPool()
    pool.failures[3] = NodeLostError(1, "gone")
    with pytest.raises(BroadcastError) as caught:
        pool.broadcast(double(3))
    assert pool.over == 1
    assert caught.value.results[0] == 6
    assert caught.value.failed == (1,)


@pytest.mark.rule("R7")
def test_future_of_a_call_or_of_a_group() -> None:
    """They wait for room for all their bytes; a group without calls has ended."""
    pool = OperatedPool()
    single, group = pool.run_async(double(1)), pool.run_async(double(2) & double(3))
    empty: Any = pool.run_async(gather())
    assert empty.done()
    assert (single.result(), group.result(), empty.result()) == (2, (4, 6), ())
    assert pool.room == [sum(task.size for task in tasks) for tasks in pool.submitted]


@pytest.mark.rule("R3")
@pytest.mark.parametrize("stream", [False, True])
def test_time_of_a_group_runs_from_dispatch(stream: bool) -> None:
    """When it is over what is missing has failed, and is cancelled."""
    pool = OperatedPool(lazy=True)
    group: Any = gather(double(1), double(2), return_exceptions=True, stream=stream)
    outcome: Any = (pool.run_group if stream else pool.run_async)(group.with_timeout(1.5))
    ((delay, expire),) = pool.later
    pool.serve(1)
    expire()
    values = tuple(outcome) if stream else outcome.result()
    assert (delay, values[0], type(values[1])) == (1.5, 2, TaskTimeoutError)
    assert str(values[1]).startswith("the group exceeded its timeout of 1.5 s")
    assert pool.cancelled == [2]


@pytest.mark.rule("R29")
@pytest.mark.parametrize("kind", ["run", "run_group", "broadcast", "stream"])
def test_interrupt_cancels_what_the_thread_waits_on(kind: str) -> None:
    """And nothing else."""
    pool = OperatedPool(lazy=True)
    other = pool.run_async(double(1))
    pool.interrupt = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        if kind == "run":
            pool.run(double(2))
        elif kind == "broadcast":
            pool.broadcast(double(2))
        else:
            values = pool.run_group(gather(double(2), double(3), stream=kind == "stream"))
            next(values)
    assert [task.id for task in pool.submitted[1]] == pool.cancelled
    pool.serve()
    assert other.result() == 2


# --- refusals ------------------------------------------------------------------------------


def test_closed_pool_refuses_everything() -> None:
    """Before anything else is looked at."""
    pool = OperatedPool()
    pool.closed = True
    uses: list[Any] = [pool.run, pool.run_async, pool.run_group, pool.broadcast, pool.map]
    for use in uses:
        with pytest.raises(PoolClosedError):
            use("rubbish")


def test_what_is_no_call_is_refused() -> None:
    """A group where a call belongs, a call where a group belongs, and anything else."""
    pool = OperatedPool()
    uses: list[tuple[Any, Any, str]] = [
        (pool.run, 5, r"expected a call of a @sky\.function, like f\(1\), got 5"),
        (pool.run, double, "expected a call"),
        (pool.broadcast, double(1) & double(2), "`@` takes a single call"),
        (pool.run_async, [double(1)], "expected a call"),
        (pool.run_group, double(1), "expected a group of calls"),
        (pool.run_async, gather(double(1), stream=True), "a stream has no future"),
    ]
    for use, operand, message in uses:
        with pytest.raises(TypeError, match=message):
            use(operand)
    assert pool.submitted == []


@pytest.mark.rule("R8")
def test_broadcast_of_a_bound_call_is_refused() -> None:
    """`.on` names one node and `@` means all: neither wins silently, and the error says what to write for each."""
    pool = OperatedPool()
    with pytest.raises(TypeError, match=r"bound to node 1, .*`call\.on\(rank\) >> pool` .*without \.on\(\), on all"):
        pool.broadcast(double(1).on(1))
    assert pool.submitted == []


@pytest.mark.rule("R22")
def test_pool_travels_to_its_own_nodes_only() -> None:
    """There it is the active pool; in a call for another pool, or pickled by itself, it is a mistake."""
    pool, other = OperatedPool(), OperatedPool()
    activation = activate(pool)  # this process plays the node, too
    try:
        assert pool.run(named([pool])) == repr(pool)
    finally:
        deactivate(activation, pool)
    with pytest.raises(TypeError, match="its own nodes"):
        pool.run(named([other]))
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(pool)


def test_event_loop_must_not_be_blocked() -> None:
    """A thread that runs one is told from one that does not."""

    async def inside() -> bool:
        return must_not_block()

    assert asyncio.run(inside())
    assert not must_not_block()


def test_cancelled_future_raises() -> None:
    """The pool decides whether the call could be stopped."""
    pool = OperatedPool(lazy=True)
    future = pool.run_async(double(1))
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result()


@pytest.mark.rule("R24")
@pytest.mark.parametrize("grouped", [False, True])
def test_interrupted_wait_for_room_leaves_the_iterator_alone(*, grouped: bool) -> None:
    """Of one call as of a group: nothing of it was sent."""

    class Full(OperatedPool):
        def _wait_for_room(self, size: int) -> None:
            raise KeyboardInterrupt

    numbers = iter([1, 2])
    call = fed(numbers)
    with pytest.raises(KeyboardInterrupt):
        Full().run_async(gather(call) if grouped else call)
    claim([numbers], "another")
