"""Operators between what was not meant: a function that was not called, a value or a future where a call belongs.

Python's own words for these are about types of operands; ours say what to write instead. Type checkers see none of
these operators, so that a wrong use is an error to them as well, and none is tried where the operands are right.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NoReturn

from skyward.runtime import is_pool
from skyward.work.abbreviation import abbreviate
from skyward.work.absent import Absent, Hinting

_CONTAINERS: Final = (list, tuple, set, frozenset)


class Uncalled(Hinting):
    """A marked function, which has to be called before an operator can run it."""

    __slots__ = ()

    if not TYPE_CHECKING:
        remote = Absent("write f(x) >> pool for the value, or f(x) > pool for a future of it")
        delay = Absent("f(x) alone describes a call; f(x) > pool begins it and gives a future")
        submit = Absent("write f(x) > pool, which gives a future")

        def __rshift__(self, pool: object) -> Any:
            return _refuse_uncalled(self, ">>", pool)

        def __gt__(self, pool: object) -> Any:
            return _refuse_uncalled(self, ">", pool)

        def __matmul__(self, pool: object) -> Any:
            return _refuse_uncalled(self, "@", pool)

        def __and__(self, other: object) -> NoReturn:
            refuse_operand(self)

        def __rand__(self, other: object) -> NoReturn:
            refuse_operand(self)


class Several:
    """A group, which no broadcast takes."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __matmul__(self, pool: object) -> NoReturn:
            refuse_left(self, "@")


def _refuse_uncalled(function: object, symbol: str, operand: object) -> Any:
    if is_pool(operand):
        refuse_left(function, symbol)
    return NotImplemented  # the other operand may know what is meant, or Python says that nobody does


def refuse_left(operand: object, symbol: str) -> NoReturn:
    """Raise `TypeError` for what stands where an operator takes a call."""
    from skyward.work.pending import is_call, is_group  # which has our operators

    if symbol == ">" and (is_call(operand) or is_group(operand)):  # its own operator gives a future: it stood behind
        raise TypeError(f"the call comes first: write call > pool, and not pool < call; got {operand!r}")
    if is_call(operand):  # Python asks the pool only where the call's own operator has given this back
        raise TypeError(
            f"{operand!r} has returned NotImplemented, which Python takes for the lack of an operator; "
            "return something else, or take it by pool.run(call)"
        )
    takes = "a single call" if symbol == "@" else "a call or a group of calls"
    raise TypeError(f"`{symbol} pool` takes {takes}, got {described(operand, symbol)}")


def described(operand: Any, symbol: str = ">>") -> str:
    """Return what an operand is that is no call, and what to write instead."""
    from skyward.work.pending import is_call, is_group  # which has our operators

    if is_group(operand):
        return f"{operand!r}; broadcast its calls one by one: [call @ pool for call in (f(1), g(2))]"
    if isinstance(operand, Uncalled):
        return f"the function {abbreviate(operand)} itself; call it: f(...) {symbol} pool"
    has_calls = type(operand) in _CONTAINERS and any(map(is_call, operand))
    hint = _hint(operand, symbol, has_calls=has_calls)
    return f"{abbreviate(operand)} ({type(operand).__name__}); {hint}"


def _hint(operand: object, symbol: str, *, has_calls: bool) -> str:
    if has_calls:
        return "make a group of the calls: sky.gather(*calls) >> pool"
    if is_future(operand):
        return "its call has begun already, and its value is future.result()"
    if callable(operand):
        return f"mark the function with @sky.function and call it: f(...) {symbol} pool"
    mark = "mark it with @sky.function, so that calling it gives a call and not a value"
    if isinstance(operand, Iterator):
        return f"if it gives calls, write sky.gather(calls) >> pool; if a function has made it, {mark}"
    return f"if a function has returned it, that has run here: {mark}"


def is_future(value: object) -> bool:
    """Return whether a value is a future, of whatever kind."""
    return hasattr(type(value), "add_done_callback")


def refuse_operand(operand: object) -> NoReturn:
    """Raise `TypeError` for what ``&`` cannot join."""
    got = f"{abbreviate(operand)} ({type(operand).__name__})"
    if hasattr(operand, "__wrapped__") and callable(operand):
        raise TypeError(f"& joins calls, got the function {got} itself; call it: f(...) & g(...)")
    raise TypeError(
        f"& joins calls and groups of calls, got {got}. If that is a result: "
        ">> and @ bind tighter than &, `a() & b() >> pool` means `a() & (b() >> pool)`; write (a() & b()) >> pool"
    )
