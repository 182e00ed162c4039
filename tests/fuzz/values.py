"""Good and bad values of a field, from the type in its definition.

The types of `skyward.wire.messages` are the table: a field that is added there has good and bad values here
without anyone adding them. What fields say about each other is known to `samples` and to the tests.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import inspect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

Labelled = tuple[str, Any]  # what is wrong with a value, and the value

LARGEST: Final = 2**64 - 1  # of MessagePack's integers
NAMES: Final = ("", "f", "train", "skyward", "3.11.7", "127.0.0.1", "ü", "\x00", "日本", "n" * 40)
# One value of each kind that MessagePack knows, for fields that take another kind.
KINDS: Final[dict[str, Any]] = {
    "nil": None,
    "bool": True,
    "int": 7,
    "float": 1.5,
    "str": "text",
    "bin": b"bytes",
    "array": [[]],
    "map": {"k": 1},
    "time": msgspec.msgpack.Ext(-1, bytes(4)),
}
BAD_TEXT: Final = msgspec.Raw(b"\xa2\xff\xff")  # a str that is no UTF-8


@lru_cache
def fields_of(kind: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    """Return the fields of a message, in the order in which they travel."""
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    return described.fields


# --- good ----------------------------------------------------------------------------------


def good(type_: inspect.Type, random: Random, *, most: int = 3) -> Any:
    """Return a value that the type allows; lists and maps have at most ``most`` elements."""
    value: Any
    match type_:
        case inspect.IntType():
            value = _integer(*bounds(type_), random)
        case inspect.FloatType(ge=low, le=high):
            assert low is not None
            assert high is not None
            value = random.choice((float(low), float(high), 0.25, 5e-324, random.uniform(low, high)))
        case inspect.BoolType():
            value = random.random() < 0.5
        case inspect.StrType(max_length=longest):
            value = random.choice(NAMES)[:longest]
        case inspect.BytesType(min_length=shortest):
            value = (
                random.randbytes(random.randrange(40)) if shortest is None else bytes([random.randrange(3)]) * shortest
            )
        case inspect.ListType(item_type=item):
            value = [good(item, random) for _ in range(random.randint(0, most))]
        case inspect.DictType(key_type=key, value_type=content):
            value = {good(key, random): good(content, random) for _ in range(random.randint(0, most))}
        case inspect.StructType(fields=fields):
            value = [good(field.type, random) for field in fields]
        case _:
            raise TypeError(type_)
    return value


def bounds(type_: inspect.IntType) -> tuple[int, int]:
    """Return the smallest and the largest integer that the type allows."""
    low = -(2**63) if type_.ge is None else type_.ge
    high = LARGEST if type_.le is None else type_.le
    return low, high if type_.lt is None else type_.lt - 1


def _integer(low: int, high: int, random: Random) -> int:
    dice = random.random()
    if dice < 0.6:
        return random.randint(low, min(high, 12))
    if dice < 0.8:
        return random.choice((low, high, min(high, 2**32), min(high, 2**63)))
    return min(max(random.getrandbits(random.randint(1, 64)), low), high)


# --- bad -----------------------------------------------------------------------------------


def bad(type_: inspect.Type) -> Iterator[Labelled]:
    """Give values that the type does not allow, one for each way to be wrong."""
    allowed, wrong = _wrong(type_)
    yield from wrong
    for name, value in KINDS.items():
        if name not in allowed:
            yield f"{name} instead", value


def _wrong(type_: inspect.Type) -> tuple[tuple[str, ...], Iterator[Labelled]]:
    """Return the kinds that the type takes, and what is wrong although it is of such a kind."""
    kinds: tuple[str, ...]
    wrong: Iterator[Labelled]
    match type_:
        case inspect.IntType():
            kinds, wrong = ("int",), _bad_integers(type_)
        case inspect.FloatType(ge=low, le=high):
            kinds, wrong = ("float", "int"), _bad_floats(low, high)
        case inspect.BoolType():
            kinds, wrong = ("bool",), iter((("0 for false", 0), ("1 for true", 1)))
        case inspect.StrType(max_length=longest):
            kinds, wrong = ("str",), iter((("too long", "x" * ((longest or 0) + 1)), ("no UTF-8", BAD_TEXT)))
        case inspect.BytesType():
            kinds, wrong = ("bin",), _bad_bytes(type_)
        case inspect.ListType():
            kinds, wrong = ("array",), _bad_lists(type_)
        case inspect.DictType():
            kinds, wrong = ("map",), _bad_maps(type_)
        case inspect.StructType(fields=fields):
            kinds, wrong = ("array",), _bad_structs(fields)
        case _:
            raise TypeError(type_)
    return kinds, wrong


def _bad_integers(type_: inspect.IntType) -> Iterator[Labelled]:
    low, high = bounds(type_)
    yield "below", low - 1
    yield "far below", -(2**63)
    if high < LARGEST:
        yield "above", high + 1
        yield "far above", LARGEST
    yield "whole float", float(low + 1)


def _bad_floats(low: float | None, high: float | None) -> Iterator[Labelled]:
    assert low is not None
    assert high is not None
    yield "not a number", math.nan
    yield "endless", math.inf
    yield "endless below", -math.inf
    yield "below", low - 0.5
    yield "just below", math.nextafter(low, -math.inf)
    yield "above", math.nextafter(high, math.inf)
    yield "integer above", int(high) + 1
    yield "integer below", int(low) - 1


def _bad_bytes(type_: inspect.BytesType) -> Iterator[Labelled]:
    if type_.min_length is not None:
        yield "too short", bytes(type_.min_length - 1)
        yield "empty", b""
    if type_.max_length is not None:
        yield "too long", bytes(type_.max_length + 1)


def _bad_lists(type_: inspect.ListType) -> Iterator[Labelled]:
    element = simplest(type_.item_type)
    if type_.max_length is not None:
        yield "too many", [element] * (type_.max_length + 1)
    for name, value in bad(type_.item_type):
        yield f"element {name}", [value]
        yield f"second element {name}", [element, value]


def _bad_maps(type_: inspect.DictType) -> Iterator[Labelled]:
    if type_.max_length is not None:
        yield "too many", {str(number): "" for number in range(type_.max_length + 1)}
    for name, value in bad(type_.value_type):
        yield f"value {name}", {"k": value}
    yield "key too long", {"k" * 1025: ""}
    yield "key of bytes", {b"k": ""}
    yield "key of numbers", {1: ""}


def _bad_structs(fields: tuple[inspect.Field, ...]) -> Iterator[Labelled]:
    values = [simplest(field.type) for field in fields]
    least = sum(field.required for field in fields)
    yield "too few fields", values[: least - 1]
    for index, field in enumerate(fields):
        for name, value in bad(field.type):
            yield f"{field.name} {name}", [*values[:index], value, *values[index + 1 :]]


def simplest(type_: inspect.Type) -> Any:
    """Return the plainest value that the type allows."""
    value: Any
    match type_:
        case inspect.IntType():
            value = max(bounds(type_)[0], 0)
        case inspect.FloatType():
            value = 0.0
        case inspect.BoolType():
            value = False
        case inspect.StrType():
            value = ""
        case inspect.BytesType(min_length=shortest):
            value = bytes(shortest or 0)
        case inspect.ListType():
            value = []
        case inspect.DictType():
            value = {}
        case inspect.StructType(fields=fields):
            value = [simplest(field.type) for field in fields]
        case _:
            raise TypeError(type_)
    return value


def plain(kind: type[msgspec.Struct]) -> list[Any]:
    """Return the fields of the plainest message of a type; a batch without entries."""
    return [simplest(field.type) for field in fields_of(kind)]
