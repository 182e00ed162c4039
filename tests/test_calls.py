"""Marked functions: what `sky.function` keeps, checks and refuses."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import pydoc
import sys
import types
import typing
from typing import Any

import cloudpickle  # type: ignore[import-untyped]  # it has no types  # pyright: ignore[reportMissingTypeStubs]
import pytest

from skyward.calls import BoundFunction, Function, PendingFunction, function
from skyward.errors import ConfigError
from tests.here import HerePool


@function
def scale(value: int, /, factor: int = 2, *, offset: int = 0) -> int:
    """Scale a value."""
    return value * factor + offset


@function(timeout=5, retries=0)
def limited(value: int) -> int:
    return value


class Counter:
    """Has a marked method."""

    def __init__(self, start: int) -> None:
        self.start = start

    @function
    def plus(self, amount: int) -> int:
        """Add to the start."""
        return self.start + amount

    @staticmethod
    @function
    def square(number: int) -> int:
        """Multiply by itself."""
        return number * number


# --- marking -----------------------------------------------------------------------------------


@pytest.mark.rule("R1")
def test_call_runs_nothing() -> None:
    """Calling a marked function returns a description and does not enter the function."""
    entered: list[int] = []

    @function
    def enter(value: int) -> None:
        entered.append(value)

    call = enter(1)
    assert isinstance(call, PendingFunction)
    assert (call.function, call.args, call.kwargs) == (enter, (1,), {})
    assert not entered


@pytest.mark.rule("R1")
def test_call_keeps_arguments_as_they_were_given() -> None:
    """Defaults are not filled in, and keywords stay keywords: the original sees what the user wrote."""
    call = scale(1, offset=3)
    assert call.args == (1,)
    assert call.kwargs == {"offset": 3}


@pytest.mark.rule("R1")
def test_call_takes_keywords_of_any_name() -> None:
    """Parameters called self or args do not collide with ours."""

    @function
    def odd(self: int, args: int = 0, **kwargs: int) -> int:
        return self + args + sum(kwargs.values())

    assert odd(self=1, args=2, function=3).kwargs == {"self": 1, "args": 2, "function": 3}
    assert odd.local(self=1, args=2, function=3) == 6


@pytest.mark.rule("R1")
def test_function_keeps_name_docstring_and_signature() -> None:
    """A marked function looks like the original."""
    assert (scale.__name__, scale.__qualname__, scale.__module__) == ("scale", "scale", __name__)
    assert scale.__doc__ == "Scale a value."
    assert str(inspect.signature(scale)) == "(value: 'int', /, factor: 'int' = 2, *, offset: 'int' = 0) -> 'int'"
    assert scale.__signature__ == inspect.signature(scale.__wrapped__)
    assert typing.get_type_hints(scale)["return"] is int
    assert scale.__wrapped__.__defaults__ == (2,)


@pytest.mark.rule("R1")
def test_help_shows_signature_and_docstring() -> None:
    """`help` treats a marked function as a function."""
    text = pydoc.plain(pydoc.render_doc(scale))
    assert "scale(value: 'int', /, factor: 'int' = 2, *, offset: 'int' = 0) -> 'int'" in text
    assert "Scale a value." in text


def test_function_keeps_attributes() -> None:
    """What was put on the original is found on the marked function."""

    def original() -> None: ...

    original.tag = "a"  # type: ignore[attr-defined]  # functions take attributes
    assert vars(function(original))["tag"] == "a"


@pytest.mark.rule("R1")
def test_wrong_arguments_raise_in_python_s_words() -> None:
    """The TypeError at the call is the one that the original raises."""

    def original(a: int, b: int = 1, *, c: int) -> None: ...

    marked: Any = function(original)
    plain: Any = original
    for args, kwargs in (
        ((), {}),
        ((1, 2, 3), {"c": 1}),
        ((1,), {}),
        ((1,), {"c": 1, "d": 2}),
        ((1,), {"a": 2, "c": 1}),
    ):
        with pytest.raises(TypeError) as ours:
            marked(*args, **kwargs)
        with pytest.raises(TypeError) as theirs:
            plain(*args, **kwargs)
        assert str(ours.value) == str(theirs.value)


@pytest.mark.rule("R1")
def test_options_may_be_given_or_left_out() -> None:
    """The decorator works bare, with empty parentheses, and with options."""
    assert (scale.timeout, scale.retries) == (None, None)
    assert (limited.timeout, limited.retries) == (5, 0)
    empty = function()(lambda: 1)
    assert (empty.timeout, empty.retries) == (None, None)
    assert function(len, timeout=1.5).timeout == 1.5
    assert (function(len, timeout=None).timeout, function(timeout=None)(len).timeout) == (0, 0)  # no limit


@pytest.mark.rule("R1")
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": 0}, ConfigError),
        ({"timeout": -1}, ConfigError),
        ({"timeout": "5"}, TypeError),
        ({"retries": -1}, ConfigError),
        ({"retries": 1.5}, TypeError),
        ({"retries": True}, TypeError),
    ],
)
def test_bad_options_are_refused_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    """A bad time limit or number of retries fails where it is written, before there is a function."""
    with pytest.raises(error, match=next(iter(options))):
        function(**options)


def test_marking_twice_changes_nothing() -> None:
    """A marked function is returned as it is, or with the new options and the old ones it does not name."""
    assert function(scale) is scale
    assert function()(scale) is scale
    changed = function(limited, timeout=9)
    assert (changed.timeout, changed.retries) == (9, 0)
    assert changed.__wrapped__ is limited.__wrapped__
    assert limited.timeout == 5


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (int, r"got the class int"),
        (Counter, r"got the class Counter"),
        (5, r"got 5 \(int\); options have names: @sky.function\(timeout=\.\.\., retries=\.\.\.\)"),
        (None, r"got None \(NoneType\)"),
        (staticmethod(len), r"got a staticmethod; write it below @staticmethod"),
        (classmethod(repr), r"got a classmethod; write it below @classmethod"),
        (property(len), r"got a property; write it below @property"),
    ],
)
def test_what_is_no_function_is_refused(target: Any, message: str) -> None:
    """Classes, other decorators' objects and values that cannot be called raise a TypeError that says so."""
    with pytest.raises(TypeError, match=message):
        function(target)


def test_call_is_refused_as_a_function() -> None:
    """Marking a call says that it is one."""
    with pytest.raises(TypeError, match=r"got <call scale\(1\)>, which is a call already"):
        function(scale(1))  # type: ignore[call-overload]  # that is the mistake


def test_builtins_partials_and_callable_objects_can_be_marked() -> None:
    """Whatever can be called, and is no class, can be marked, has a name, and checks what it can."""

    class Adder:
        def __init__(self) -> None:
            self.timeout = 99  # state of its own, not our option

        def __call__(self, number: int) -> int:
            return number + 1

    partial = function(functools.partial(pow, 2))
    adder: Any = function(Adder())
    assert (partial.__name__, adder.__name__) == ("pow", Adder.__qualname__)
    assert partial.local(3) == 8  # pyright: ignore[reportCallIssue]  # of pow it knows one overload
    assert adder.local(1) == 2
    assert adder.timeout is None
    assert function(abs)(-1).args == (-1,)
    largest: Any = function(max)
    assert largest(1, 2, key=abs).kwargs == {"key": abs}
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'number'"):
        adder()


def test_signature_that_is_not_known_is_no_attribute() -> None:
    """Asking for the signature of a builtin that has none does not raise something odd."""
    assert not hasattr(function(max), "__signature__")


def test_functions_of_all_kinds_can_be_marked() -> None:
    """Generators and async functions are described like any other."""

    @function
    async def later() -> int:
        return 1

    @function
    def some() -> typing.Iterator[int]:
        yield 1

    assert isinstance(later(), PendingFunction)
    assert isinstance(some(), PendingFunction)
    assert asyncio.run(later.local()) == 1
    assert list(some.local()) == [1]
    assert not inspect.iscoroutinefunction(later)  # nobody should await what calling it gives


def test_repr_names_function_and_options() -> None:
    """The repr says what is marked, and with which options."""
    assert repr(scale) == f"<sky.function {__name__}.scale>"
    assert repr(limited) == f"<sky.function {__name__}.limited timeout=5 retries=0>"


# --- local -------------------------------------------------------------------------------------


@pytest.mark.rule("R2")
def test_local_runs_the_original_at_once() -> None:
    """`f.local` needs no pool and takes what the original takes."""
    assert scale.local(3) == 6
    assert scale.local(3, factor=5, offset=1) == 16


@pytest.mark.rule("R2")
def test_local_raises_what_the_original_raises() -> None:
    """Errors of the original come through as they are."""

    @function
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        fail.local()


# --- methods -----------------------------------------------------------------------------------


def test_marked_method_takes_its_object_along() -> None:
    """A call of a method has the object as its first argument; through the class it is a plain function."""
    counter = Counter(10)
    assert counter.plus(5).args == (counter, 5)
    assert counter.plus.local(5) == 15
    assert Counter.plus(counter, 5) >> HerePool() == 15
    assert Counter.square(3) >> HerePool() == 9
    assert isinstance(counter.plus, BoundFunction)
    assert list(inspect.signature(counter.plus).parameters) == ["amount"]
    assert repr(counter.plus).startswith("<sky.function Counter.plus of <")


@pytest.mark.rule("R1")
def test_marked_method_is_known_as_the_function_is() -> None:
    """Its name, docstring and module are the function's; it is equal to itself, of one object."""
    counter, other = Counter(1), Counter(1)
    method = counter.plus
    assert (method.__name__, method.__qualname__, method.__module__) == ("plus", "Counter.plus", __name__)
    assert (method.__doc__, inspect.getdoc(method)) == ("Add to the start.", "Add to the start.")
    assert functools.wraps(method)(lambda _: None).__name__ == "plus"
    assert {method: 1}[counter.plus] == 1
    assert method != other.plus
    assert method != function(method, timeout=3)
    assert method != 5
    copy = pickle.loads(pickle.dumps(method))
    assert (copy.local(5), copy.__doc__, copy == method) == (6, method.__doc__, False)
    assert (BoundFunction.__module__, BoundFunction.__name__) == ("skyward.calls", "BoundFunction")


@pytest.mark.rule("R1")
def test_marking_a_marked_method_changes_its_options_only() -> None:
    """As marking a marked function does."""
    counter = Counter(10)
    assert function(counter.plus) == counter.plus
    limited_method: Any = function(timeout=3)(function(counter.plus, retries=2))
    assert type(limited_method) is type(counter.plus)
    call = limited_method(5)
    assert (call.function.timeout, call.function.retries, call.args) == (3, 2, (counter, 5))
    assert call >> HerePool() == 15
    assert counter.plus.__func__.timeout is None


def test_marked_method_checks_arguments_in_python_s_words() -> None:
    """A method's TypeError is the one Python has for it."""
    counter: Any = Counter(1)
    with pytest.raises(TypeError, match=r"^Counter\.plus\(\) missing 1 required positional argument: 'amount'$"):
        counter.plus()


# --- travelling --------------------------------------------------------------------------------


@pytest.mark.rule("R4")
def test_function_of_a_module_pickles_by_reference() -> None:
    """A marked function that its module has under its name travels as that name, also a method's."""
    assert pickle.loads(pickle.dumps(scale)) is scale
    assert pickle.loads(pickle.dumps(Counter.plus)) is Counter.plus
    assert b"cloudpickle" not in cloudpickle.dumps(scale)


@pytest.mark.rule("R4")
def test_function_that_cannot_be_imported_pickles_by_value() -> None:
    """Closures and lambdas travel with their code and options."""
    base = 10

    @function(timeout=3, retries=1)
    def add(number: int) -> int:
        return base + number

    copy = pickle.loads(cloudpickle.dumps(add))
    assert isinstance(copy, Function)
    assert copy is not add
    assert copy.local(5) == 15
    assert (copy.timeout, copy.retries, copy.__name__) == (3, 1, "add")


@pytest.mark.rule("R4")
@pytest.mark.parametrize("name", ["__main__", "made_by_hand"])
def test_function_of_a_module_without_source_pickles_by_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main script and modules made by hand are not there to be imported elsewhere."""
    module = types.ModuleType(name)
    exec("def double(x):\n    return 2 * x", vars(module))
    monkeypatch.setitem(sys.modules, name, module)
    marked: Any = function(vars(module)["double"])
    vars(module)["double"] = marked
    copy = pickle.loads(cloudpickle.dumps(marked))
    assert copy is not marked
    assert copy.local(4) == 8


@pytest.mark.rule("R4")
def test_recursive_function_pickles_by_value() -> None:
    """A function that names itself survives."""

    @function
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial.local(n - 1)

    assert pickle.loads(cloudpickle.dumps(factorial)).local(5) == 120
