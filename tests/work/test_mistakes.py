"""What operators say to a function that was not called, to values, to futures, and to a group that is broadcast."""

from __future__ import annotations

import asyncio
import concurrent.futures
import operator
import pickle
from typing import Any, Final

import numpy as np
import pytest

import skyward as sky
from skyward.calls import function, gather
from skyward.runtime import activate, deactivate
from tests.here import HerePool

OPERATORS: Final[list[tuple[str, Any]]] = [(">>", operator.rshift), (">", operator.gt), ("@", operator.matmul)]


@function
def add(a: int, b: int = 0) -> int:
    return a + b


def plain(number: int) -> int:
    return number


class Model:
    """Has a marked method."""

    @function
    def predict(self, number: int) -> int:
        """Return the number."""
        return number


@pytest.mark.rule("R6")
@pytest.mark.parametrize(("symbol", "operate"), OPERATORS)
@pytest.mark.parametrize("function", [add, Model().predict])
def test_function_that_was_not_called_is_told_to_be(symbol: str, operate: Any, function: Any) -> None:
    """By each operator, on a pool and on the active one, a method too; no pool hears of it."""
    pool = HerePool()
    activation = activate(pool)
    try:
        for target in (pool, sky, sky.sky):
            with pytest.raises(TypeError, match=rf"got the function <.*> itself; call it: f\(\.\.\.\) {symbol} pool"):
                operate(function, target)
    finally:
        deactivate(activation, pool)
    assert not pool.asked


@pytest.mark.rule("R9")
def test_functions_are_no_operands_of_a_group() -> None:
    """On either side, and both."""
    for left, right in [(add, add), (add, add(1)), (add(1), add), (add, 5), (5, add), (Model().predict, add(1))]:
        with pytest.raises(TypeError, match=r"& joins calls, got the function .* call it: f\(\.\.\.\) & g\(\.\.\.\)"):
            operator.and_(left, right)


def test_functions_are_compared_and_kept_as_before() -> None:
    """Equality, hash and pickle are those of any object, and there is no order."""
    other: Any = function(plain)
    assert len({add, add, other}) == 2
    assert {add: 1, other: 2}[add] == 1
    assert pickle.loads(pickle.dumps(add)) is add
    unordered: Any = [add, other]
    for operate in (operator.gt, operator.lt, operator.rshift, operator.matmul):
        with pytest.raises(TypeError, match=r"not supported between|unsupported operand"):
            operate(*unordered)
    with pytest.raises(TypeError, match="not supported between"):
        sorted(unordered)


@pytest.mark.rule("R6")
@pytest.mark.parametrize(("symbol", "operate"), OPERATORS)
@pytest.mark.parametrize("value", [plain(1), None, "text", np.ones(3), np.float64(1)], ids=str)
def test_result_of_an_unmarked_function_says_to_mark_it(symbol: str, operate: Any, value: Any) -> None:
    """A value is no call: whatever it is, arrays included."""
    pool = HerePool()
    for target in (pool, sky.sky):
        with pytest.raises(TypeError, match=rf"`{symbol} pool` takes .* call.*mark it with @sky\.function, so that"):
            operate(value, target)
    assert not pool.asked


@pytest.mark.parametrize(
    ("left", "hint"),
    [
        (plain, r"mark the function with @sky\.function and call it"),
        ([add(1), add(2)], r"sky\.gather\(\*calls\) >> pool"),
        ((add(i) for i in range(2)), r"if it gives calls, write sky\.gather\(calls\) >> pool"),
        (concurrent.futures.Future[int](), r"its call has begun already, and its value is future\.result\(\)"),
    ],
    ids=["function", "list", "generator", "future"],
)
def test_what_is_near_a_call_has_a_hint_of_its_own(left: Any, hint: str) -> None:
    """A plain function, calls without `gather`, and a future."""
    with pytest.raises(TypeError, match=hint):
        operator.rshift(left, HerePool())


def test_unawaited_coroutine_says_to_mark_its_function() -> None:
    """An `async def` that is not marked gives a coroutine, which is no call."""

    async def fetch() -> None: ...

    coroutine = fetch()
    with pytest.raises(TypeError, match=r"coroutine.*mark it with @sky\.function"):
        operator.rshift(coroutine, HerePool())
    asyncio.run(coroutine)


@pytest.mark.rule("R8")
@pytest.mark.parametrize("stream", [False, True])
def test_group_is_not_broadcast(stream: bool) -> None:
    """A group and a stream say how each of their calls is; on the active pool, too."""
    pool = HerePool()
    group: Any = gather(add(1), add(2), stream=stream)
    for target in (pool, sky, sky.sky):
        with pytest.raises(TypeError, match=r"`@ pool` takes a single call, got <group of 2: .*\[call @ pool for call"):
            operator.matmul(group, target)
    assert not pool.asked


@pytest.mark.rule("R7")
@pytest.mark.parametrize("call", [add(1), add(1) & add(2)], ids=["call", "group"])
def test_pool_before_the_call_is_told_where_it_belongs(call: Any) -> None:
    """Python finds the operator of the pool, which gives no future."""
    pool = HerePool()
    with pytest.raises(TypeError, match=r"the call comes first: write call > pool, and not pool < call; got <"):
        _ = pool < call
    assert not pool.asked


@pytest.mark.parametrize("number", [2, (1, 4)])
def test_number_of_nodes_in_place_of_the_provider_has_a_hint(number: Any) -> None:
    """As a pool of processes would be made."""
    with pytest.raises(TypeError, match=r"a number of nodes is sky\.Compute\(nodes="):
        sky.Compute(number)
