"""Names that other libraries have for what is called otherwise here."""

from __future__ import annotations

import inspect
import pickle
from typing import Any, Final

import pytest

import skyward as sky
from skyward.calls import BoundFunction, Function, function
from tests.here import HerePool

POOLS: Final = {
    "submit": "write f(x) > pool, which gives a future",
    "apply": "write f(x) >> pool",
    "apply_async": "write f(x) > pool, which gives a future",
    "imap": "write pool.map(f, items), which is lazy and in order",
    "imap_unordered": "write sky.gather((f(x) for x in items), stream=True, ordered=False) >> pool",
    "starmap": "write pool.map(f, xs, ys), which takes an iterable for each argument",
    "shutdown": "write pool.close(), which waits for all calls, or pool.close(cancel=True)",
}
FUNCTIONS: Final = {
    "remote": "write f(x) >> pool for the value, or f(x) > pool for a future of it",
    "delay": "f(x) alone describes a call; f(x) > pool begins it and gives a future",
    "submit": "write f(x) > pool, which gives a future",
}


@function
def add(a: int, b: int = 0) -> int:
    return a + b


class Model:
    """Has a marked method."""

    @function
    def predict(self, number: int) -> int:
        """Return the number."""
        return number


OBJECTS: Final[list[tuple[Any, dict[str, str]]]] = [
    (sky.Compute(nodes=1), POOLS),
    (sky.sky, POOLS),
    (HerePool(), POOLS),
    (add, FUNCTIONS),
    (Model().predict, FUNCTIONS),
]


@pytest.mark.rule("R15")
@pytest.mark.parametrize(("thing", "names"), OBJECTS, ids=lambda value: type(value).__name__)
def test_name_of_another_library_says_what_to_write(thing: Any, names: dict[str, str]) -> None:
    """On pools, open or not, and on marked functions and methods."""
    for name, advice in names.items():
        with pytest.raises(AttributeError) as caught:
            getattr(thing, name)
        assert str(caught.value).startswith(f"{type(thing).__name__!r} object has no attribute {name!r}: {advice}")
        assert caught.value.obj is None  # or Python would ask: Did you mean '_submit'?


@pytest.mark.rule("R15")
@pytest.mark.parametrize(("thing", "names"), OBJECTS, ids=lambda value: type(value).__name__)
def test_name_of_another_library_is_not_there(thing: Any, names: dict[str, str]) -> None:
    """Whoever asks for it, of the object or of its class, or lists what there is."""
    for name in names:
        assert not hasattr(thing, name)
        assert not hasattr(type(thing), name)
        assert getattr(thing, name, None) is None
    assert not {*names} & {*dir(thing), *dir(type(thing))}
    assert not {*names} & {attribute.name for attribute in inspect.classify_class_attrs(type(thing))}
    assert {"run", "map", "broadcast"} <= {*dir(thing)} or {"local", "__wrapped__"} <= {*dir(thing)}


def test_unknown_name_is_as_ever() -> None:
    """What nobody calls anything is an attribute error of Python's."""
    name = "remotely"
    for thing in (add, HerePool()):
        with pytest.raises(AttributeError, match=rf"^'\w+' object has no attribute '{name}'$"):
            getattr(thing, name)


def test_own_attribute_of_that_name_stands_before_it() -> None:
    """What the user has put on a function, or given to a class of pools."""

    def plain() -> None: ...

    vars(plain)["delay"] = 3
    marked: Any = function(plain)
    assert marked.delay == 3
    assert "delay" in dir(marked)
    marked.remote = 4
    assert marked.remote == 4

    class Own(HerePool):
        def submit(self) -> int:
            return 5

    assert Own().submit() == 5
    assert "submit" in dir(Own())
    assert "submit" in dir(Own)
    assert "imap" not in dir(Own)


def test_functions_stay_what_they_were() -> None:
    """They are pickled, and attributes are found as quickly: there is no `__getattr__` that Python would ask."""
    assert pickle.loads(pickle.dumps(add)) is add
    for kind in (sky.Compute, Function, BoundFunction):
        assert not hasattr(kind, "__getattr__")
