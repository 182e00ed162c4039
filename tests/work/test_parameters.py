"""What annotations say about streams."""

from __future__ import annotations

import collections.abc
import functools
import typing
from types import FunctionType, SimpleNamespace
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
        (list[int] | collections.abc.Iterator[int], ONCE),
        (typing.Union[str, None, collections.abc.Iterator[str]], ONCE),  # noqa: UP007 - the old way counts, too
        (collections.abc.Iterator[int] | collections.abc.Generator[str, None, None] | None, ALWAYS),
        (collections.abc.Iterator[int] | collections.abc.Iterable[str], ONCE),
        (list[int] | str | None, 0),
        ("list[Missing] | Iterator[Missing]", ONCE),
        ("None | str | Iterator[Missing]", ONCE),
        ("Optional[Union[str, Iterator[Missing]]]", ONCE),
        ("None | Iterator[Missing] | Generator[Missing, None, None]", ALWAYS),
        ("Missing | str | None", 0),
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


def passing(function: Any) -> Any:
    """Decorate a function, as many do."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.rule("R24")
def test_decorated_function_has_the_parameters_of_what_is_wrapped() -> None:
    """If the decorator takes anything; once or twice, a method's or with arguments given before."""

    class Source:
        @passing
        def method(self, first: int, second: typing.Iterator[int], *, third: collections.abc.Iterable[int]) -> None: ...

    plain = Source.method
    for function in (Source().method, passing(Source().method), functools.partial(plain, Source())):
        inputs = find_inputs(function)
        assert inputs is not None
        assert list(inputs.places((1, 2), {"third": 3})) == [(1, ALWAYS), ("third", ONCE)]
        assert list(inputs.places((1,), {"second": 2, "third": 3})) == [("second", ALWAYS), ("third", ONCE)]
    inputs = find_inputs(passing(passing(plain)))
    assert inputs is not None
    assert list(inputs.places((Source(), 1, 2), {"third": 3})) == [(2, ALWAYS), ("third", ONCE)]


class Passing:
    """A decorator that is a class."""

    def __init__(self, function: Any) -> None:
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""


@pytest.mark.rule("R24")
@pytest.mark.parametrize("decorate", [passing, Passing, functools.partial])
def test_annotation_of_a_decorated_function_means_what_it_means_there(decorate: Any) -> None:
    """The decorator may be another module's, and there may be several."""
    names: dict[str, Any] = {}
    exec("from collections.abc import Iterator as Fed\ndef function(values: Fed): ...", names)
    for decorated in (decorate(names["function"]), passing(decorate(names["function"]))):
        inputs = find_inputs(decorated)
        assert inputs is not None
        assert inputs.positional == (ALWAYS,)


class Endless:
    """Answers every name that is not special with another such object, and `__wrapped__` as well."""

    asked = 0

    def __getattr__(self, name: str) -> Endless:
        if name.startswith("__") and name != "__wrapped__":
            raise AttributeError(name)
        Endless.asked += 1
        assert Endless.asked < 100, "it is followed without end"
        return Endless()

    def __call__(self, values: typing.Iterator[int]) -> None:
        """Do nothing."""


class Holding:
    """Has a function of another module."""

    def __init__(self) -> None:
        self.func = FunctionType(passing.__code__, {"typing": SimpleNamespace(Iterator=list)})

    def __call__(self, values: typing.Iterator[int]) -> None:
        """Do nothing."""


@pytest.mark.rule("R24")
@pytest.mark.parametrize("function", [Endless(), Holding()], ids=["endless", "holding"])
def test_annotation_of_a_callable_object_means_what_it_means_in_its_class(function: Any) -> None:
    """Whatever attributes the object has, or says it has."""
    inputs = find_inputs(function)
    assert inputs is not None
    assert inputs.positional == (ALWAYS,)


@pytest.mark.rule("R24")
def test_function_that_wraps_itself_has_an_end() -> None:
    """Its annotations are its own."""
    function = annotated("typing.Iterator[int]")
    function.__wrapped__ = function
    inputs = find_inputs(function)
    assert inputs is not None
    assert inputs.positional == (ALWAYS, 0)


@pytest.mark.rule("R24")
def test_decorator_that_changes_arguments_is_left_alone() -> None:
    """One that has parameters of its own, and one whose arguments the wrapped function could not take."""

    def function(connection: object, values: collections.abc.Iterator[int], name: str) -> None: ...

    @functools.wraps(function)
    def adding(*args: Any) -> None:
        function(object(), *args)

    @functools.wraps(function)
    def naming(name: str, *args: Any) -> None:
        function(object(), args[0], name)

    inputs = find_inputs(adding)
    assert inputs is not None
    assert list(inputs.places(([1], "name"), {})) == []
    assert find_inputs(naming) is None


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

    holding = Source()
    vars(holding)["func"] = len  # which is nobody's business
    assert all(map(yields, (plain, asynchronous, Source().method, functools.partial(plain), Source(), holding)))
    assert not any(map(yields, (annotated(int), len, functools.partial(len, "x"))))
