"""Classes and functions as values: by value from `__main__`, and never changing what exists."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from skyward.errors import SerializationError
from skyward.wire import payload, pickler
from tests.wire.elsewhere import run_as_main

if TYPE_CHECKING:
    from tests.wire.conftest import Project
    from tests.wire.elsewhere import Elsewhere


CLASSES = """
import collections, dataclasses, enum, typing

class Point:
    origin = "client"
    def __init__(self, x): self.x = x
    def moved(self): return type(self)(self.x + 1)
    class Inner:
        def __init__(self, y): self.y = y

class Color(enum.Enum):
    RED = 1
    BLUE = 2
    def other(self): return Color.BLUE if self is Color.RED else Color.RED

class Flags(enum.IntFlag):
    A = 1
    B = 2

@dataclasses.dataclass(frozen=True)
class Data:
    a: int
    b: list = dataclasses.field(default_factory=list)

@dataclasses.dataclass(slots=True)
class Slotted:
    a: int = 0

Pair = collections.namedtuple("Pair", "left right")

class Typed(typing.NamedTuple):
    left: int

class Wrong(ValueError):
    def __init__(self, text, code=3):
        super().__init__(text)
        self.code = code
"""


@pytest.mark.rule("R4")
@pytest.mark.parametrize(
    "expression",
    [
        "Point(1)",
        "Point.Inner(2)",
        "Color.RED",
        "Flags.A | Flags.B",
        "Data(1, [2])",
        "Slotted(4)",
        "Pair(1, 2)",
        "Typed(3)",
        "[Point(1), {Color.BLUE: Data(2)}]",
        "Point",
        "Wrong('w', 4)",
    ],
)
def test_main_class_comes_back_as_itself(elsewhere: Elsewhere, expression: str) -> None:
    """Instances of classes of ``__main__`` come back as instances of the very same classes."""
    main = run_as_main(CLASSES)
    value = eval(expression, main)  # noqa: S307  # the test's own text
    got = elsewhere.call(lambda v: v, value)
    assert type(got) is type(value)
    if isinstance(value, type):
        assert got is value
    if isinstance(value, list):
        assert type(got[0]) is main["Point"] and next(iter(got[1])) is main["Color"].BLUE
    if isinstance(value, main["Color"] | tuple | main["Data"]):
        assert got == value


@pytest.mark.rule("R4")
def test_class_by_value_keeps_its_qualified_name(elsewhere: Elsewhere) -> None:
    """Of one in another class, in a function, and in the module."""
    main = run_as_main(CLASSES)

    class Local:
        pass

    for kind in (main["Point"], main["Point"].Inner, main["Color"], Local):
        assert elsewhere.call(lambda k: (k.__qualname__, k.__name__), kind) == (kind.__qualname__, kind.__name__)


@pytest.mark.rule("R4")
def test_methods_of_main_classes_run_elsewhere(elsewhere: Elsewhere) -> None:
    """Methods, class attributes and members of enums are there."""
    main = run_as_main(CLASSES)
    assert elsewhere.call(lambda p: p.moved(), main["Point"](1)).x == 2
    assert elsewhere.call(lambda c: c.other(), main["Color"].RED) is main["Color"].BLUE
    assert elsewhere.call(lambda p: isinstance(p, type(p.moved())), main["Point"](1))


@pytest.mark.rule("R4")
def test_result_never_changes_a_class_of_the_client(elsewhere: Elsewhere) -> None:
    """What a task does to the class of its argument stays on the worker."""
    main = run_as_main(CLASSES)
    point, color = main["Point"], main["Color"]
    payload.dumps_value([point(1), color.RED])  # pickling leaves a note of its own in the class
    moved, before = point.moved, dict(vars(point))

    def spoil(p: Any, c: Any) -> Any:
        type(p).origin = "worker"
        type(p).added = 1
        type(c).note = "worker"
        return [p, c, type(p), type(c)]

    got = elsewhere.call(spoil, point(1), color.RED)
    assert point.origin == "client"
    assert point.moved is moved
    assert dict(vars(point)) == before
    assert not hasattr(color, "note")
    assert got[2] is point and got[3] is color


@pytest.mark.rule("R4")
def test_class_made_by_a_task_is_whole_and_stays_as_it_first_came(elsewhere: Elsewhere) -> None:
    """A class that the client does not know arrives with its methods; a later result does not change it."""
    main = run_as_main("""
kept = {}
def make(step):
    if not kept:
        class New:
            level = 0
            def doubled(self): return self.x * 2
        kept["class"] = New
    new = kept["class"]()
    kept["class"].level = step
    new.x = step
    return new
""")
    first = elsewhere.call(main["make"], 1)
    second = elsewhere.call(main["make"], 2)
    assert type(first) is type(second)
    assert (first.doubled(), second.doubled(), first.level) == (2, 4, 1)


@pytest.mark.rule("R4")
def test_function_comes_back_as_a_result(elsewhere: Elsewhere) -> None:
    """A closure made by a task can be called on the client."""

    def make(n: int) -> Any:
        return lambda x: x + n

    assert elsewhere.call(make, 3)(4) == 7


def test_names_of_user_modules_in_arguments_are_reported(project: Project) -> None:
    """Classes and functions by reference name the user's modules they need; others name none."""
    shapes = project.load(
        "pay_shapes", "class Circle: pass\nclass One:\n    def __reduce__(self): return 'ONE'\nONE = One()"
    )
    for value in (shapes.Circle(), shapes.Circle, [{"k": shapes.Circle()}], shapes, shapes.ONE):
        assert payload.dumps_call((value,), {})[1] == {"pay_shapes"}
    for value in (1, np.zeros(3), pd.DataFrame({"a": [1]}), threading.Thread, pytest, SerializationError):
        assert payload.dumps_call((value,), {})[1] == set()


@pytest.mark.rule("R21")
def test_unpickler_keeps_no_cycle() -> None:
    """A result with an instance of a class of the script goes when it is let go of, not when the collector comes by."""
    point = run_as_main(CLASSES)["Point"](1)
    dumped = pickler.dump(point)
    gc.disable()
    try:
        got = pickler.load(dumped.data, keep_classes=True)
        seen = weakref.ref(got)
        del got
        assert seen() is None
    finally:
        gc.enable()


def test_pickler_keeps_no_cycle() -> None:
    """Large arguments are freed by reference counts, not whenever the collector comes by."""

    class Token:
        pass

    token = Token()
    seen = weakref.ref(token)
    gc.disable()
    try:
        dumped = pickler.dump([token, np.arange(24_000.0), bytes(100_000)], large_bytes=True)
        del token, dumped
        assert seen() is None
    finally:
        gc.enable()
