"""Frozen values: what users and tools may count on, as with those of `dataclasses`."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

import skyward as sky
from skyward.frozen import Frozen, field


class Point(Frozen):
    """Two numbers and what else there is."""

    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list[str])
    inner: str = field(default_factory=str, repr=False)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x")
        object.__setattr__(self, "x", int(self.x))


class Named(Frozen, kw_only=True):
    """Whose fields have no order."""

    a: int
    b: int = 1


class Hidden(Frozen):
    """A field without a default that is not shown."""

    key: str = field(repr=False)


def test_fields_come_by_place_by_name_or_by_default() -> None:
    """Defaults that are made are made anew."""
    one, two = Point(1), Point(1, 5, inner="s")
    assert (one.x, one.y, one.tags, one.inner) == (1, 2, [], "")
    assert (two.x, two.y, two.inner) == (1, 5, "s")
    assert one.tags is not two.tags
    assert (Named(a=3).a, Hidden("k").key) == (3, "k")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Point, "Point.*missing.*'x'"),
        (lambda: Point(1, z=1), "unexpected keyword argument 'z'"),  # type: ignore[call-arg]  # what is tested
        (lambda: Point(1, x=1), "multiple values for argument 'x'"),  # type: ignore[misc]  # as above
        (lambda: Point(1, 2, [], "", 5), "positional"),  # type: ignore[call-arg]  # what is tested
        (lambda: Named(1), "positional"),  # type: ignore[call-arg]  # what is tested
        (Hidden, "missing.*'key'"),
    ],
)
def test_wrong_arguments_are_type_errors(make: Any, words: str) -> None:
    """Each names the field."""
    with pytest.raises(TypeError, match=words):
        make()


def test_values_check_themselves() -> None:
    """Also when they are made from others."""
    with pytest.raises(ValueError, match="x"):
        Point(1).but(x=-1)


def test_values_do_not_change() -> None:
    """And have no other attributes."""
    point = Point(1)
    for name in ("x", "z"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(point, name, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        delattr(point, "x")
    assert not hasattr(point, "__dict__")


def test_values_are_equal_by_class_and_fields() -> None:
    """They hash as what they hold does."""
    assert Named(a=1) == Named(a=1, b=1) != Named(a=2)
    assert hash(Named(a=1)) == hash(Named(a=1))
    assert Hidden("1") != Point(1)
    assert Point(1) != (1, 2, [], "")
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1))


def test_values_show_what_they_hold_and_no_inners() -> None:
    """As a call that would make them."""
    assert repr(Point(1, inner="s")) == "Point(x=1, y=2, tags=[])"
    assert repr(Hidden("k")) == "Hidden()"


def test_values_match_by_place() -> None:
    """Those whose fields have an order."""
    match Point(1, 3):
        case Point(x, y):
            assert (x, y) == (1, 3)
    assert Named.__match_args__ == ()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_values_travel(again: Any) -> None:
    """Copied and pickled they are equal."""
    assert again(Point(1, 3, ["a"], "s")) == Point(1, 3, ["a"], "s")


def test_values_are_replaced() -> None:
    """By themselves, and by the functions of `dataclasses`, which see the fields as they are."""
    assert Point(1).but(y=4) == dataclasses.replace(Point(1), y=4) == Point(1, 4)
    assert Point(1).as_dict() == dataclasses.asdict(Point(1)) == {"x": 1, "y": 2, "tags": [], "inner": ""}
    assert dataclasses.is_dataclass(Point)
    assert [(each.name, each.repr, each.kw_only) for each in dataclasses.fields(Named)] == [
        ("a", True, True),
        ("b", True, True),
    ]
    assert not dataclasses.fields(Hidden)[0].repr


@pytest.mark.rule("R29")
def test_interrupt_of_what_looks_for_fields_is_one() -> None:
    """Also when it comes where Python makes another error of it."""

    class Interrupting:
        def __set_name__(self, owner: type, name: str) -> None:
            raise KeyboardInterrupt

    class Late(Frozen):
        value: Any = Interrupting()

    with pytest.raises(KeyboardInterrupt):
        dataclasses.fields(Late)


def test_signature_is_that_of_the_fields() -> None:
    """What `help` shows."""
    assert str(inspect.signature(Named)) == "(*, a: 'int', b: 'int' = 1)"
    assert str(inspect.signature(Hidden)) == "(key: 'str')"
    assert "heartbeat" in inspect.signature(sky.Options).parameters
