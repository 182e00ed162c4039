"""Calls and groups: their options, operators, and what they refuse."""

from __future__ import annotations

import copy
import operator
import pickle
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import skyward as sky
from skyward.calls import PendingFunction, PendingFunctionGroup, function, gather
from skyward.errors import ConfigError
from skyward.runtime import activate, deactivate
from tests.here import HerePool

if TYPE_CHECKING:
    from collections.abc import Iterator


@function
def add(a: int, b: int = 0) -> int:
    return a + b


@function
def shout(text: str) -> str:
    return text.upper()


@pytest.fixture
def pool() -> HerePool:
    """Return a pool that is not active."""
    return HerePool()


@pytest.fixture
def active(pool: HerePool) -> Iterator[HerePool]:
    """Return the active pool."""
    activation = activate(pool)
    yield pool
    deactivate(activation, pool)


# --- options of a call -------------------------------------------------------------------------


def options(call: PendingFunction[Any]) -> tuple[object, ...]:
    return call.timeout, call.retries, call.rank, call.label


@pytest.mark.rule("R3")
def test_methods_return_changed_copies() -> None:
    """Each method changes one option of a copy; the others, function and arguments stay."""
    plain = add(1, b=2)
    assert options(plain) == (None, None, None, None)
    assert options(plain.with_timeout(1.5)) == (1.5, None, None, None)
    assert options(plain.with_retries(0)) == (None, 0, None, None)
    assert options(plain.on(3)) == (None, None, 3, None)
    assert options(plain.named("x")) == (None, None, None, "x")
    full = plain.named("x").on(2).with_retries(5).with_timeout(9)
    assert options(full) == (9, 5, 2, "x")
    unlimited = full.with_timeout(None)
    assert options(unlimited) == options(unlimited.named("x").on(2).with_retries(5)) == (0, 5, 2, "x")
    assert repr(add(1).with_timeout(None)) == "<call add(1) timeout='no limit'>"
    assert (full.function, full.args, full.kwargs) == (add, (1,), {"b": 2})
    assert options(plain) == (None, None, None, None)


@pytest.mark.rule("R3")
def test_head_is_rank_0() -> None:
    """`.on("head")` and `.on(0)` are the same; integers of other libraries count."""
    assert add(1).on("head").rank == add(1).on(0).rank == 0
    assert add(1).on(np.int64(2)).rank == 2


@pytest.mark.rule("R3")
@pytest.mark.parametrize(
    ("method", "value", "error", "message"),
    [
        ("with_timeout", 0, ConfigError, "timeout must be more than 0, got 0"),
        ("with_timeout", float("nan"), ConfigError, "timeout must be more than 0, got nan"),
        ("with_timeout", "1", TypeError, "timeout must be a number, got '1'"),
        ("with_retries", -1, ConfigError, "retries must be between 0 and 10000, got -1"),
        ("with_retries", None, TypeError, "retries must be an int, got None"),
        ("on", -1, ConfigError, "a node's rank must be 0 or more, got -1"),
        ("on", "tail", TypeError, "a node's rank must be an int or 'head', got 'tail'"),
        ("on", 1.0, TypeError, "a node's rank must be an int or 'head', got 1.0"),
        ("on", True, TypeError, "a node's rank must be an int or 'head', got True"),
        ("on", None, TypeError, "a node's rank must be an int or 'head', got None"),
        ("named", 5, TypeError, "a call's name must be a str, got 5"),
    ],
)
def test_bad_options_are_refused(method: str, value: object, error: type[Exception], message: str) -> None:
    """A value an option cannot have raises where it is written, and says what it can have."""
    with pytest.raises(error) as raised:
        getattr(add(1), method)(value)
    assert str(raised.value) == message


@pytest.mark.rule("R1")
@pytest.mark.parametrize("name", ["function", "args", "kwargs", "timeout", "retries", "rank", "label", "other"])
def test_call_is_frozen(name: str) -> None:
    """No attribute of a call can be set or deleted, with options of its own or without."""
    for call in (add(1), add(1).with_timeout(3)):
        before = (call.function, call.args, call.kwargs, *options(call))
        with pytest.raises(AttributeError, match=f"cannot change '{name}'"):
            setattr(call, name, 5)
        with pytest.raises(AttributeError, match=f"cannot change '{name}'"):
            delattr(call, name)
        assert (call.function, call.args, call.kwargs, *options(call)) == before


@pytest.mark.rule("R3")
def test_group_is_frozen() -> None:
    """No attribute of a group can be set."""
    group: Any = add(1) & add(2)
    for name in ("calls", "timeout", "stream", "ordered", "return_exceptions", "other"):
        with pytest.raises(AttributeError, match=f"cannot change '{name}'"):
            setattr(group, name, 5)


def test_call_is_slim() -> None:
    """A call without options or keywords takes three slots, and no dict: users make a hundred thousand of them."""
    call = add(1)
    assert sys.getsizeof(call) <= 56
    assert not hasattr(call, "__dict__")
    assert call.kwargs is add(2).kwargs
    assert not hasattr(add(1).with_timeout(3), "__dict__")


def test_calls_are_equal_only_to_themselves() -> None:
    """Calls are compared and hashed by identity, whatever their arguments can do."""
    array = np.zeros(3)
    first: PendingFunction[int] = PendingFunction(add, (array,), {})
    second: PendingFunction[int] = PendingFunction(add, (array,), {})
    assert first == first  # noqa: PLR0124 - that is the question
    assert first != second
    assert len({first, second}) == 2
    assert [second, first].index(first) == 1


# --- operators of a call -----------------------------------------------------------------------


@pytest.mark.rule("R6")
def test_operators_hand_the_call_to_the_pool(pool: HerePool) -> None:
    """`>>` runs, `>` starts, `@` broadcasts; each returns what the pool gives."""
    call = add(1, 2)
    assert call >> pool == 3
    future: Any = call > pool
    assert future is call  # what this pool gives for a future
    assert call @ pool == [3, 3]
    assert pool.asked == [("run", call), ("run_async", call), ("broadcast", call)]


@pytest.mark.rule("R14")
def test_operators_take_the_active_pool(active: HerePool) -> None:
    """The module and `sky.sky` stand for the active pool, for calls and for groups."""
    call = add(1, 2)
    assert call >> sky == call >> sky.sky == 3
    assert call @ sky == call @ sky.sky == [3, 3]
    assert (call & call) >> sky == (call & call) >> sky.sky == (3, 3)
    future: Any = call > sky
    assert future is call
    assert {name for name, _ in active.asked} == {"run", "broadcast", "run_group", "run_async"}


@pytest.mark.rule("R14")
@pytest.mark.parametrize("symbol", [operator.rshift, operator.gt, operator.matmul])
def test_operator_without_a_pool_says_how_to_open_one(symbol: Any) -> None:
    """With no active pool, `sky` raises a RuntimeError with the line to write."""
    with pytest.raises(RuntimeError, match=r"no active pool: open one .* `with sky\.Compute\("):
        symbol(add(1), sky)


@pytest.mark.parametrize("symbol", [operator.rshift, operator.gt, operator.matmul])
@pytest.mark.parametrize("operand", [5, None, "pool", pickle, add])
def test_operator_refuses_what_is_no_pool(symbol: Any, operand: object) -> None:
    """Another operand raises a TypeError that names it and what belongs there."""
    with pytest.raises(
        TypeError, match=r"a call runs on a pool, an open sky\.Compute, or on `sky` for the active pool; got"
    ):
        symbol(add(1), operand)


def test_operator_refuses_a_pool_that_is_a_class() -> None:
    """`call >> sky.Compute` says that the class has to be opened."""
    with pytest.raises(TypeError, match=r"got the class HerePool; open it: `with sky\.HerePool\(\) as pool:`"):
        operator.rshift(add(1), HerePool)


def test_calls_and_pools_have_no_other_operators(pool: HerePool) -> None:
    """`call < pool` and `pool < pool` are none, in Python's own words."""
    operands: list[Any] = [add(1), HerePool()]
    for left in operands:
        with pytest.raises(TypeError, match="not supported between"):
            assert left < pool
    assert not pool.asked


def test_call_is_neither_true_nor_false() -> None:
    """`if f(1):` asks a description of work; it raises and says what was probably meant."""
    with pytest.raises(
        TypeError, match=r"<call add\(1\)> only describes work and is neither true nor false; .*`if call >> pool:`"
    ):
        bool(add(1))


def test_calls_cannot_be_sorted() -> None:
    """Comparing calls is no order, and dispatches nothing."""
    with pytest.raises(TypeError, match="a call runs on a pool"):
        sorted([add(1), add(2)])  # type: ignore[type-var]  # that is the question


# --- groups ------------------------------------------------------------------------------------


@pytest.mark.rule("R9")
def test_groups_flatten() -> None:
    """However the `&`s are nested, the group is one flat row of calls in order."""
    a, b, c, d = (add(i) for i in range(4))
    for group in (a & b & c & d, a & (b & (c & d)), (a & b) & (c & d), (a & (b & c)) & d):
        assert isinstance(group, PendingFunctionGroup)
        assert group.calls == (a, b, c, d)
        assert len(group) == 4
        assert list(group) == [a, b, c, d]


@pytest.mark.rule("R9")
def test_group_leaves_its_parts_alone() -> None:
    """Joining makes a new group."""
    a, b, c = (add(i) for i in range(3))
    pair = a & b
    assert len(pair & c) == 3
    assert pair.calls == (a, b)


@pytest.mark.rule("R11")
def test_group_runs_on_a_pool(pool: HerePool) -> None:
    """`group >> pool` gives the tuple in submission order; `group > pool` goes to the pool as one operand."""
    group = add(1) & shout("a") & add(2, 3)
    assert group >> pool == (1, "A", 5)
    started: Any = group > pool
    assert started is group
    assert pool.asked == [("run_group", group), ("run_async", group)]


@pytest.mark.rule("R9")
@pytest.mark.parametrize("value", [5, None, "text", [1], np.zeros(2)])
def test_joining_a_value_shows_where_the_parentheses_belong(value: Any) -> None:
    """The right operand of `a() & b() >> pool` is a result: the error names it and the line to write."""
    for left in (add(1), add(1) & add(2)):
        for operands in ((left, value), (value, left)):
            with pytest.raises(TypeError, match=r"got .*; write \(a\(\) & b\(\)\) >> pool$"):
                operator.and_(*operands)


@pytest.mark.rule("R9")
def test_precedence_mistake_is_explained(pool: HerePool) -> None:
    """`a() & b() >> pool` itself raises that error, whatever b gives."""
    with pytest.raises(
        TypeError, match=r"^& joins calls and groups of calls, got 3 \(int\)\. .*write \(a\(\) & b\(\)\) >> pool"
    ):
        operator.and_(add(1), add(1, 2) >> pool)
    with pytest.raises(TypeError, match=r"\(a\(\) & b\(\)\) >> pool"):
        add(1) & add(1, 2) >> pool  # type: ignore[operator]  # that is the mistake
    with pytest.raises(TypeError, match=r"\(a\(\) & b\(\)\) >> pool"):
        add(1) & add(1) & add(1, 2) @ pool  # type: ignore[operator]  # the same


@pytest.mark.rule("R9")
def test_joining_a_function_says_to_call_it() -> None:
    """A marked function where a call belongs was not called."""
    with pytest.raises(TypeError, match=r"got the function <sky\.function .*\.shout> .*; call it: f\(\.\.\.\) & g"):
        operator.and_(add(1), shout)


@pytest.mark.rule("R3")
def test_group_has_a_time_limit_of_its_own() -> None:
    """`.with_timeout` changes a copy of the group and not its members; everything else stays."""
    group = gather(add(1), add(2), stream=True, ordered=False, return_exceptions=True)
    limited = group.with_timeout(2.5)
    assert (limited.timeout, group.timeout) == (2.5, None)
    assert type(limited) is type(group)
    assert (limited.calls, limited.stream, limited.ordered, limited.return_exceptions) == (
        group.calls,
        True,
        False,
        True,
    )
    assert [call.timeout for call in limited] == [None, None]
    assert limited.with_timeout(None).timeout is None
    with pytest.raises(ConfigError, match="timeout must be more than 0"):
        group.with_timeout(0)


@pytest.mark.rule("R9")
def test_group_with_options_does_not_grow() -> None:
    """Options are for a whole group, so a part of one cannot have them; nothing is lost silently."""
    part = (add(1) & add(2)).with_timeout(3)
    for options in ((part, add(3)), (add(3), part), (gather(add(1), add(2), stream=True), add(3))):
        with pytest.raises(TypeError, match="has options for the whole group and cannot grow"):
            operator.and_(*options)
    with pytest.raises(TypeError, match="has options for the whole group and cannot grow"):
        gather(part)


@pytest.mark.rule("R12")
def test_stream_has_no_future(pool: HerePool) -> None:
    """`gather(…, stream=True) > pool` says what to write instead, and starts nothing."""
    with pytest.raises(TypeError, match=r"a stream has no future: write gather\(\.\.\., stream=True\) >> pool"):
        gather(add(1), add(2), stream=True).__gt__(pool)
    assert not pool.asked


# --- travelling and text -----------------------------------------------------------------------


def test_call_as_an_argument_is_refused() -> None:
    """A call cannot travel: pickling it, alone, in a group or inside data, raises a TypeError that says what to do."""
    for value in (add(1), [add(1)], add(1) & add(2), add(1).with_timeout(3)):
        with pytest.raises(
            TypeError, match=r"<(call|group of 2:) add\(1\).*> cannot travel to another process: run it"
        ):
            pickle.dumps(value)
    with pytest.raises(TypeError, match="cannot travel"):
        pickle.dumps(gather())


@pytest.mark.rule("R1")
def test_copy_of_what_is_frozen_is_that() -> None:
    """As of a tuple."""
    for value in (add(1), add(1) & add(2), add(1).named("one")):
        assert copy.copy(value) is value


@pytest.mark.rule("R1")
def test_keywords_of_a_call_cannot_be_changed() -> None:
    """They are those of its copies, and all calls that have none share theirs."""
    first = add(1, b=2)
    for call in (add(1), first, first.with_timeout(3)):
        keywords: Any = call.kwargs
        with pytest.raises(TypeError, match="does not support item assignment"):
            keywords["b"] = 3
    assert (first.kwargs, repr(add(3))) == ({"b": 2}, "<call add(3)>")


def test_repr_of_a_call_is_what_was_written() -> None:
    """The repr is the call with its options, arguments shortened."""
    assert repr(add(1, b=2)) == "<call add(1, b=2)>"
    assert repr(shout("x" * 1000)).startswith("<call shout('xxx")
    assert len(repr(PendingFunction[int](add, tuple(range(1000)), {}))) < 100
    full = add(1).with_timeout(2.5).with_retries(0).on("head").named("first")
    assert repr(full) == "<call add(1) timeout=2.5 retries=0 on=0 named='first'>"


def test_repr_of_a_group_shows_its_first_calls() -> None:
    """The repr has the number of calls, three of them, and options that are not the default."""
    assert repr(gather()) == "<group of 0>"
    assert repr(add(1) & shout("a")) == "<group of 2: add(1) & shout('a')>"
    many = gather(*[add(i) for i in range(100)], stream=True, ordered=False, return_exceptions=True).with_timeout(3)
    assert repr(many) == (
        "<group of 100: add(0) & add(1) & add(2) & … timeout=3 stream=True ordered=False return_exceptions=True>"
    )
