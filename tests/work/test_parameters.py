"""What annotations say about streams."""

from __future__ import annotations

import collections.abc
import functools
import typing
from typing import Any

import pytest

from skyward.work.parameters import ALWAYS, ONCE, find_inputs, yields


def annotated(annotation: Any) -> Any:
    """Return a function whose parameter has the annotation."""

    def function(values: Any, other: int = 0) -> None: ...

    function.__annotations__ = {"values": annotation, "other": "int"}
    return function


def kind_of(annotation: Any) -> int:
    """Return what the annotation means."""
    inputs = find_inputs(annotated(annotation))
    return 0 if inputs is None else inputs.positional[0]


@pytest.mark.rule("R24")
@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (typing.Iterator[int], ALWAYS),
        (typing.Iterator, ALWAYS),
        (collections.abc.Iterator, ALWAYS),
        (collections.abc.Iterator[int], ALWAYS),
        (collections.abc.Generator[int, None, None], ALWAYS),
        (collections.abc.Iterable[int], ONCE),
        (typing.Optional[collections.abc.Iterator[int]], ALWAYS),  # noqa: UP045 - the old way counts, too
        (collections.abc.Iterator[int] | None, ALWAYS),
        (typing.Annotated[collections.abc.Iterable[int], "note"], ONCE),
        (typing.Annotated[collections.abc.Iterator[int] | None, "note"], ALWAYS),
        ("typing.Iterator[int]", ALWAYS),
        ("collections.abc.Iterable[int]", ONCE),
        ("OnlyForCheckers[int]", 0),
        ("Iterator[Missing]", ALWAYS),
        ("abc.Iterator[Missing] | None", ALWAYS),
        ("Optional[Iterator[Missing]]", ALWAYS),
        ("Annotated[Iterable[Missing], Iterator]", ONCE),
        ("Union[int, Iterable[Missing]]", ONCE),
        ("'Iterator[int]'", ALWAYS),
        ("list[Iterator[int]]", 0),
        ("Mapping[str, Iterator[Missing]]", 0),
        (list[int], 0),
        (collections.abc.Sequence[int], 0),
        (collections.abc.Callable[[collections.abc.Iterator[int]], int], 0),
        ("Iterator[", 0),
        (5, 0),
        ([], 0),
    ],
)
def test_annotation_says_what_is_fed(annotation: Any, kind: int) -> None:
    """In whatever form it is written; only the outermost type counts."""
    assert kind_of(annotation) == kind


@pytest.mark.rule("R24")
def test_places_of_a_call() -> None:
    """By position, by keyword, and in ``*args`` and ``**kwargs``."""

    def function(
        first: int,
        /,
        second: typing.Iterator[int],
        *rest: typing.Iterable[int],
        named: typing.Iterator[int],
        **others: int,
    ) -> None: ...

    inputs = find_inputs(function)
    assert inputs is not None
    assert list(inputs.places((1, 2, 3, 4), {"named": 5, "other": 6})) == [
        (1, ALWAYS), (2, ONCE), (3, ONCE), ("named", ALWAYS),
    ]  # fmt: skip
    assert list(inputs.places((1,), {"second": 2, "first": 3})) == [("second", ALWAYS)]


def test_function_without_such_parameters_has_none() -> None:
    """Nor has one that does not tell its parameters."""
    assert find_inputs(annotated(int)) is None
    assert find_inputs(dict) is None


@pytest.mark.rule("R23")
def test_generator_functions_are_known() -> None:
    """Plain and asynchronous ones, methods, partial applications, and objects that are called."""

    def plain() -> typing.Iterator[int]:
        yield 1

    async def asynchronous() -> typing.AsyncIterator[int]:
        yield 1

    class Source:
        def __call__(self) -> typing.Iterator[int]:
            yield 1

        def method(self) -> typing.Iterator[int]:
            yield 1

    assert all(map(yields, (plain, asynchronous, Source().method, functools.partial(plain), Source())))
    assert not any(map(yields, (annotated(int), len, functools.partial(len, "x"))))
