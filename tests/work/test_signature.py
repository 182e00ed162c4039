"""Checkers: arguments are bound as a real call would bind them."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from skyward.work.signature import make_checker

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = [
    "",
    "a",
    "a, b=1",
    "a, /",
    "a, /, b",
    "a=0, /, b=1, *, c",
    "*, a",
    "*, a=1, b",
    "*args",
    "a, *args, b, c=1",
    "**options",
    "a, /, **options",
    "a, b=2, /, c=3, *args, d, e=5, **options",
    "self, function, args=1, **kwargs",
]
ARGS: list[tuple[int, ...]] = [(), (1,), (1, 2), (1, 2, 3, 4)]
KWARGS: list[dict[str, int]] = [{}, {"a": 1}, {"b": 1}, {"d": 1}, {"c": 1, "d": 1}, {"self": 1, "nonsense": 2}]


def outcome(function: Callable[..., Any], args: tuple[int, ...], kwargs: dict[str, int]) -> str | None:
    try:
        function(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return None


@pytest.mark.rule("R1")
@pytest.mark.parametrize("shape", SHAPES)
def test_checker_says_what_the_function_says(shape: str) -> None:
    """For every kind of parameter, and right and wrong arguments, a checker takes or raises what the function does."""
    scope: dict[str, Any] = {}
    exec(f"def sample({shape}): pass", scope)
    function = scope["sample"]
    checker = make_checker(function, function.__qualname__)
    for args, kwargs in itertools.product(ARGS, KWARGS):
        assert outcome(checker, args, kwargs) == outcome(function, args, kwargs)


def test_checker_ignores_local_variables() -> None:
    """Variables of the body and cells of a closure are no parameters."""
    seen: list[int] = []

    def sample(a: int, *rest: int) -> Callable[[], int]:
        b = a + 1
        seen.append(b)
        return lambda: a + b

    checker = make_checker(sample, "sample")
    checker(1, 2, 3)
    assert outcome(checker, (), {"b": 1}) == "sample() got an unexpected keyword argument 'b'"
    assert not seen


def test_checker_of_a_wrapper_checks_what_the_wrapper_takes() -> None:
    """`functools.wraps` shows another signature than a call meets; what a call meets counts."""

    def inner(a: int) -> int:
        return a

    @functools.wraps(inner)
    def outer(*args: Any) -> int:
        return inner(args[0])

    make_checker(outer, "outer")(1, 2, 3)


def test_checker_of_a_partial_knows_what_is_bound() -> None:
    """Bound positions are gone, bound keywords have defaults."""

    def sample(a: int, b: int, c: int = 1, *, d: int) -> None: ...

    checker = make_checker(functools.partial(sample, 1, d=4), "sample")
    checker(2)
    checker(2, 3, d=5)
    assert outcome(checker, (), {}) == "sample() missing 1 required positional argument: 'b'"


def test_checker_of_an_unknown_signature_takes_anything() -> None:
    """A builtin that does not tell its parameters is checked where it runs."""
    make_checker(max, "max")(1, 2, key=abs, nonsense=1)
