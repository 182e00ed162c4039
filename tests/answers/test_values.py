"""Elements between the loop and a consumer, without any pool."""

from __future__ import annotations

import asyncio
import gc
import pickle
import weakref
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

import skyward as sky
from skyward.answers.limits import Limit
from skyward.answers.values import ValueBuffer, ValueStream
from skyward.dispatch.tasks import SENT, SETTLED, Task
from skyward.pool.pumping import Pump, disown, take_inputs
from skyward.results import CancelledError, unwrap
from skyward.wire import payload
from skyward.wire.placeholders import Placeholder
from skyward.wire.statuses import OK


class Owner:
    """A pool that delivers what it was given when somebody waits."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.granted: list[tuple[int, int]] = []
        self.cancelled: list[Task] = []
        self.pushed: list[Pump] = []
        self.buffer = ValueBuffer(self)
        self.buffer.task = self.task = Task(1, SimpleNamespace(name="f", key=b""), b"", (), self.buffer, 0, 0, name="f")
        self.task.state = SENT
        self.stream: ValueStream[Any] = ValueStream(self.buffer, self)

    def wait_for(self, waiter: Any, deadline: float | None = None) -> bool:
        """Deliver the next thing."""
        self.step()
        assert waiter.done
        return True

    def step(self) -> None:
        """Deliver the next thing."""
        what = self.script.pop(0)
        if isinstance(what, list):
            assert self.buffer.receive([tuple(payload.dumps_value(value)) for value in what])  # type: ignore[misc]  # rows
        else:
            self.task.state = SETTLED
            self.buffer.deliver(self.task, what)

    def lent(self) -> AbstractContextManager[None]:
        """Lend nothing."""
        return nullcontext()

    def cancel_tasks(self, tasks: Any) -> None:
        """Note it."""
        self.cancelled += tasks

    def grant(self, task: Task, items: int, size: int) -> None:
        """Note it."""
        self.granted.append((items, size))

    def push(self, pump: Pump) -> None:
        """Note it."""
        self.pushed.append(pump)

    def pack_element(self, value: object) -> Any:
        """Pickle it."""
        return payload.dumps_value(value)


class SimpleGroup:
    """What a group waits for."""

    def __init__(self) -> None:
        self.expired: list[float] = []

    def expire(self, timeout: float) -> None:
        """Note it."""
        self.expired.append(timeout)


def ended() -> Any:
    """Return the outcome of a generator that has ended."""
    return (OK, pickle.dumps(None), (), 0, 1, "f")


@pytest.mark.rule("R23")
def test_stream_gives_elements_until_the_task_ends() -> None:
    """In order, and grants more as they are taken."""
    owner = Owner([1, 2], [3], ended())
    assert list(owner.stream) == [1, 2, 3]
    assert owner.granted
    assert list(owner.stream) == []
    assert owner.cancelled == []


@pytest.mark.rule("R23")
def test_failure_comes_after_what_is_here() -> None:
    """Once; then the stream is at its end."""
    owner = Owner([1, 2], sky.NodeLostError(0, "gone"))
    assert [next(owner.stream), next(owner.stream)] == [1, 2]
    with pytest.raises(sky.NodeLostError):
        next(owner.stream)
    assert list(owner.stream) == []


@pytest.mark.rule("R25")
def test_close_cancels_the_task_once() -> None:
    """By `close`, by `with`, and by dropping the stream; what is here is dropped."""
    owner = Owner([1, 2])
    assert next(owner.stream) == 1
    with owner.stream:
        pass
    owner.stream.close()
    assert owner.cancelled == [owner.task]
    assert list(owner.stream) == []
    other = Owner([1, 2])
    assert next(other.stream) == 1
    del other.stream
    assert other.cancelled == [other.task]


@pytest.mark.rule("R23")
def test_more_elements_than_granted_are_refused() -> None:
    """A node that sends them does not keep to the protocol."""
    owner = Owner()
    assert not owner.buffer.receive([(b"x", ())] * 100)
    owner = Owner()
    assert not owner.buffer.receive([(pickle.dumps([1, 2, 3]), ())], [3])


@pytest.mark.rule("R23")
@pytest.mark.rule("R25")
def test_several_elements_of_one_pickle_count_when_the_last_is_taken() -> None:
    """They come one by one; closing the stream drops those that were not taken."""
    owner = Owner()
    assert owner.buffer.receive([(pickle.dumps([1, 2]), ())], [2])
    assert (next(owner.stream), owner.granted) == (1, [])
    assert (next(owner.stream), owner.granted) == (2, [])
    assert "2 taken" in repr(owner.stream)
    assert owner.buffer.take() is None
    assert owner.granted[0][0] >= 2
    assert owner.buffer.receive([(pickle.dumps([3, 4]), ())], [2])
    assert next(owner.stream) == 3
    owner.stream.close()
    assert list(owner.stream) == []


@pytest.mark.rule("R23")
def test_stream_works_under_async_for() -> None:
    """A coroutine that waits is woken up."""
    owner = Owner([1, 2], [3], ended())

    async def consume() -> list[int]:
        loop = asyncio.get_running_loop()
        for delay in (0.01, 0.02, 0.03):
            loop.call_later(delay, owner.step)
        return [value async for value in owner.stream]

    assert asyncio.run(consume()) == [1, 2, 3]


@pytest.mark.rule("R23")
def test_stream_does_not_travel() -> None:
    """As a value it is refused, in words that say what to do."""
    with pytest.raises(TypeError, match="fed element by element"):
        pickle.dumps(Owner().stream)
    assert repr(Owner().stream) == "<ValueStream of f, 0 taken>"


@pytest.mark.rule("R24")
def test_pump_pulls_as_it_is_granted() -> None:
    """No element before the first credit, and none beyond it; the end is sent, too."""
    owner = Owner()
    pump = Pump(owner, iter(range(3)), 1)
    assert (pump.thread, pump.take()) == (None, None)
    pump.grant(2, 100, 0)
    values: list[int] = []
    while len(values) < 2:
        if (batch := pump.take()) is not None:
            assert (batch.first, batch.end) == (len(values), False)
            values += [pickle.loads(packed.data) for packed in batch.payloads]
    pump.grant(2, 100, 0)
    assert pump.thread is not None
    pump.thread.join(10)
    batch = pump.take()
    assert batch is not None
    assert (batch.first, [pickle.loads(packed.data) for packed in batch.payloads], batch.end) == (2, [2], True)
    assert pump.take() is None


@pytest.mark.rule("R24")
def test_arguments_are_replaced_by_placeholders() -> None:
    """Those that are fed; an iterator that is used up is taken once, unless its task was never made."""

    @sky.function
    def function(a: int, b: Any, *, c: Any) -> None: ...

    function.__wrapped__.__annotations__.update(b="Iterator[int]", c="Iterable[int]")
    numbers = iter([1])
    args, kwargs, pumps = take_inputs(Owner(), function, (1, [2]), {"c": numbers})
    assert (args, kwargs, len(pumps)) == ((1, Placeholder(1)), {"c": Placeholder(2)}, 2)
    with pytest.raises(ValueError, match="another call"):
        take_inputs(Owner(), function, (1, [2]), {"c": numbers})
    disown(pumps)
    assert take_inputs(Owner(), function, (1, None), {"c": [1]}) == ((1, None), {"c": [1]}, ())
    disown(take_inputs(Owner(), function, (1, [2]), {"c": numbers})[2])


def test_outcome_of_a_call_that_yields_is_its_iterator() -> None:
    """It needs no unpickling."""
    from skyward.results import Given, failed

    given = Given(5)
    assert (failed(given), unwrap(given)) == (False, 5)


@pytest.mark.rule("R23")
def test_end_that_another_thread_sees_costs_no_value() -> None:
    """One has taken several values at once, and not unpacked them when another learns that there are no more."""
    owner = Owner()
    owner.buffer.receive([tuple(payload.dumps_value([1, 2, 3]))], [3])  # type: ignore[list-item]  # a row
    owner.buffer.deliver(owner.task, ended())
    taken = owner.stream._next_item()
    assert list(owner.stream) == []
    assert owner.stream._hand_out(taken) == 1
    assert list(owner.stream) == [2, 3]


@pytest.mark.rule("R23")
def test_row_that_another_thread_has_opened_is_for_all() -> None:
    """One waits when another takes a row of several elements: it gets the next of them, whatever comes behind them."""
    owner = Owner()

    def wait_for(waiter: Any, deadline: float | None = None) -> bool:
        owner.buffer.receive([tuple(payload.dumps_value([1, 2, 3]))], [3])  # type: ignore[list-item]  # a row
        assert next(owner.stream) == 1
        owner.buffer.deliver(owner.task, ended())
        return True

    owner.stream._wait = wait_for
    assert list(owner.stream) == [2, 3]


@pytest.mark.rule("R3")
def test_time_of_a_group_ends_a_stream_after_what_is_here() -> None:
    """What comes later is dropped; one that has ended, was closed, or is made when the time is over, knows its part."""
    owner, ended_one, closed, late = Owner([1, 2]), Owner([1], ended()), Owner(), Owner()
    group = SimpleGroup()
    limit = Limit(2.5, group)
    for one in (owner, ended_one, closed):
        one.stream.end_with(limit)
    owner.step()
    assert list(ended_one.stream) == [1]
    closed.stream.close()
    limit.expire()
    assert group.expired == [2.5]
    late.stream.end_with(limit)
    assert owner.buffer.receive([tuple(payload.dumps_value(3))])  # type: ignore[list-item]  # a row
    owner.buffer.deliver(owner.task, CancelledError())
    assert [next(owner.stream), next(owner.stream)] == [1, 2]
    for one in (owner, late):
        with pytest.raises(sky.TaskTimeoutError, match=r"group .* 2\.5 s"):
            next(one.stream)
        assert one.cancelled == [one.task]
        assert list(one.stream) == []
    assert (list(closed.stream), list(ended_one.stream), ended_one.cancelled) == ([], [], [])
    limit.expire()
    assert len(owner.cancelled) == 1


def test_time_limit_keeps_neither_the_group_nor_its_streams() -> None:
    """They keep it."""
    owner, group = Owner([1]), SimpleGroup()
    limit = Limit(2.5, group)
    owner.stream.end_with(limit)
    watched: list[Any] = [weakref.ref(group), weakref.ref(owner.buffer), weakref.ref(limit)]
    del group, limit
    gc.collect()
    assert [ref() is None for ref in watched] == [True, False, False]
    del owner
    gc.collect()
    assert [ref() is None for ref in watched] == [True] * 3
