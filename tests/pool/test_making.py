"""Which calls take the short way to a task, and that it leads to the same task."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from skyward.answers.futures import Future
from skyward.calls import function
from skyward.config import Options
from skyward.pool.making import TaskMaker
from skyward.pool.placing import WORTH
from skyward.results import Collection
from skyward.wire.frames import Repeated
from skyward.wire.functions import FunctionStore
from tests.operating import OperatedPool
from tests.wire.elsewhere import run_as_main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.dispatch.tasks import Task
    from skyward.work.pending import PendingFunction

LIMIT = 1000  # bytes


@function
def double(number: Any, more: Any = None) -> Any:
    return 2 * number


@function(timeout=5.0, retries=1)
def limited(number: int) -> int:
    return number


@function
def count(stop: int) -> Iterator[int]:
    yield from range(stop)


@function
def pieces(data: Any) -> Iterator[Any]:
    yield from data


@function
def total(numbers: Iterator[int]) -> int:
    return sum(numbers)


def made(call: PendingFunction[Any], *, limit: int = LIMIT, **options: Any) -> Task | None:
    """Return what comes of a call whose function is known."""
    maker = TaskMaker(Options(**options), itertools.count(7), 1_000)
    maker.resolve(call.function)
    maker.max_payload = limit
    return maker.alone(call, Future(OperatedPool()))


@pytest.mark.parametrize("call", [double(1), double(1.5, "x"), double(None), limited(3)], ids=repr)
@pytest.mark.parametrize("options", [{}, {"retries": 0}, {"timeout": 9.0}], ids=str)
def test_short_way_leads_to_the_same_task(call: PendingFunction[Any], options: dict[str, Any]) -> None:
    """Whatever a task has, also what pool and function say of it, it has by both ways."""
    task = made(call, **options)
    assert task is not None
    assert task.id == 7
    (other,) = (pool := OperatedPool(**options)).make_tasks([call], task.sink, pool.placing(snapshot=True))
    other.id = task.id
    fields = task.__struct_fields__
    assert [getattr(task, name) for name in fields] == [getattr(other, name) for name in fields]


@pytest.mark.parametrize(
    "call",
    [double([1]), double(b"x"), double(number=1), double(1).on(0), double(1).named("x"), count(2), total(iter([1]))],
    ids=("list", "bytes", "keyword", "rank", "label", "generator", "fed"),
)
def test_other_calls_take_the_long_way(call: PendingFunction[Any]) -> None:
    """Those with values that could change, with names or options of their own, and those that stream."""
    assert made(call) is None


def test_what_is_too_large_takes_the_long_way() -> None:
    """Where it is refused with all that there is to say."""
    assert made(double("x" * LIMIT)) is None
    assert made(double(1), limit=8) is None


@pytest.mark.rule("R47")
def test_arguments_of_a_call_that_yields_are_copied() -> None:
    """Also among others whose caller waits: of this one he has no more than the iterator when he goes on."""
    pool, data = OperatedPool(), bytearray(100_000)
    sink = Collection(3, return_exceptions=False, cancel=pool.cancel_tasks)
    tasks = pool.make_tasks([double(data), pieces(data), double(data)], sink, pool.placing(snapshot=False))
    assert [memoryview(task.buffers[0]).obj is data for task in tasks] == [True, False, True]


@pytest.mark.rule("R47")
def test_code_that_runs_for_a_call_that_yields_may_change_an_array_of_others() -> None:
    """What was placed before it is not what the array is after it."""
    array = np.zeros(WORTH)

    class Changing:
        def __reduce__(self) -> Any:
            array[:] = 7
            return list, ()

    pool = OperatedPool()
    sink = Collection(3, return_exceptions=False, cancel=pool.cancel_tasks)
    tasks = pool.make_tasks([double(array), pieces(Changing()), double(array)], sink, pool.placing(snapshot=True))
    assert [bytes(task.buffers[0][:8]) for task in (tasks[0], tasks[2])] == [bytes(8), array[:1].tobytes()]


@pytest.mark.rule("R20")
def test_calls_that_yield_share_a_copy() -> None:
    """As others do: it travels once."""
    pool, array = OperatedPool(), np.zeros(WORTH)
    sink = Collection(2, return_exceptions=False, cancel=pool.cancel_tasks)
    one, two = pool.make_tasks([pieces(array), pieces(array)], sink, pool.placing(snapshot=False))
    assert one.buffers[0] is two.buffers[0]
    assert [type(task.buffers) for task in (one, two)] == [Repeated, Repeated]


@pytest.mark.rule("R48")
def test_function_that_has_changed_is_not_known() -> None:
    """One that was never serialized is not, either."""
    store, main = FunctionStore(), run_as_main("factor = 3\ndef f(): return factor\n")
    f = function(main["f"])
    assert store.known(f) is None
    blob = store.resolve(f)
    assert store.known(f) is blob
    main["factor"] = 5
    assert store.known(f) is None
    assert store.resolve(f) != blob
