"""Which calls take the short way to a task, and that it leads to the same task."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from skyward.answers.futures import Future
from skyward.calls import function
from skyward.config import Options
from skyward.pool.plain import plain_task
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
def total(numbers: Iterator[int]) -> int:
    return sum(numbers)


def made(call: PendingFunction[Any], *, limit: int = LIMIT, **options: Any) -> Task | None:
    """Return what comes of a call whose function is known."""
    store, pool = FunctionStore(), OperatedPool()
    store.resolve(call.function)
    return plain_task(call, Future(pool), itertools.count(7), store, Options(**options), limit)


@pytest.mark.parametrize("call", [double(1), double(1.5, "x"), double(None), limited(3)], ids=repr)
@pytest.mark.parametrize("options", [{}, {"retries": 0}, {"timeout": 9.0}], ids=str)
def test_short_way_leads_to_the_same_task(call: PendingFunction[Any], options: dict[str, Any]) -> None:
    """Whatever a task has, also what pool and function say of it, it has by both ways."""
    task = made(call, **options)
    assert task is not None
    assert task.id == 7
    (other,) = OperatedPool(**options).make_tasks([call], task.sink, snapshot=True)
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
