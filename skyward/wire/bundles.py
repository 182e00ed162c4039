"""Bundles: several short calls of one function that travel, wait and run as one task.

What a task costs on its way (an entry in every column, a pickle, a place in every queue) is many times what a short
call takes. A bundle costs it once. Only the client and the worker look inside; to a node it is a task.

Its arguments are the pickle of a list with the tuple of arguments of each call. Its outcome, if every call gave a
value, is the pickle of a list with an entry for each: a plain value, or a tuple of a pickle and its buffers. Else its
status is `MIXED`, and the outcome is what `Mixed` says: values, failures, and the calls that it has not run. None of
these pickles names a class or a function: what does is a pickle inside, which only whoever wants the value opens.

PURE: nothing here knows who runs what.
"""

from __future__ import annotations

import pickle
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, TypeAlias

from msgspec import Meta, Struct

from skyward.errors import ProtocolError
from skyward.wire.messages import U64, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer, Payload

PLAIN: Final = frozenset((int, float, bool, type(None)))  # values of which, but for integers, no one is large
WIDE: Final = 2**63  # an integer that is not between this and its negative is not plain: it may be of any size
LARGEST: Final = 64  # calls: what a task costs on its way is a few per cent of what they cost by then
SIZE: Final = 64 * 1024  # bytes of arguments after which a bundle is full
MOST: Final = 2 * SIZE  # bytes of a bundle, at most
YIELDED: Final = 256 * 1024  # bytes of values after which a bundle runs no further call: as much as is sent at once

State = Annotated[bytes, Meta(max_length=2 * 2**20)]
Arguments: TypeAlias = "tuple[Any, ...]"  # of one call
Value: TypeAlias = Any  # a plain one as it is; else (pickle, buffers)


class Interim(Message, frozen=True):
    """What has become of a bundle so far: one of its calls takes long. The outcome says all of it again.

    The calls that it says are not run have been given up by then: the client may have them run elsewhere.
    """

    TYPE: ClassVar[int] = 46
    epoch: U64
    id: U64
    data: State  # a `Mixed`


class Mixed(Struct, frozen=True):
    """What became of some calls of a bundle, by their places in it."""

    values: dict[int, Value]
    failures: dict[int, tuple[int, bytes]]  # status, encoded Failure
    left: list[int]  # that it does not run


def pack(calls: Sequence[Arguments]) -> bytes:
    """Return the arguments of the calls of a bundle as bytes."""
    return pickle.dumps(calls, 5)


def unpack(data: Buffer) -> list[Arguments]:
    """Return the arguments of the calls of a bundle. Only a worker, and the client who made it, call this."""
    calls: list[Arguments] = pickle.loads(data)  # noqa: S301 - as any arguments
    return calls


def pack_values(values: Sequence[Value]) -> bytes:
    """Return the outcome of a bundle all of whose calls gave a value."""
    return pickle.dumps(values, 5)


def unpack_values(data: Buffer, total: int) -> list[Value]:
    """Return what `pack_values` was given of a bundle of ``total`` calls. Raises `ProtocolError` for anything else."""
    values: list[Value] = _load(data)
    if values.__class__ is not list or len(values) != total:
        raise ProtocolError(f"values of a bundle of {total} calls that are not so many")
    for value in values:
        if type(value) not in PLAIN:
            _check(value)
    return values


def pack_mixed(mixed: Mixed) -> bytes:
    """Return the outcome of any other bundle."""
    return pickle.dumps((mixed.values, mixed.failures, mixed.left), 5)


def unpack_mixed(data: Buffer, total: int) -> Mixed:
    """Return what `pack_mixed` was given of a bundle of ``total`` calls; raises `ProtocolError` for anything else."""
    found: tuple[Any, Any, Any] = _load(data)
    if found.__class__ is not tuple or [part.__class__ for part in found] != [dict, dict, list]:
        raise ProtocolError("a bundle's outcome that does not say what became of its calls")
    mixed = Mixed(*found)
    places: list[Any] = [*mixed.values, *mixed.failures, *mixed.left]
    if {*map(type, places)} - {int} or len(set(places)) < len(places) or not set(places).issubset(range(total)):
        raise ProtocolError("a bundle's outcome names a call twice, or one that it has not")
    for value in mixed.values.values():
        if type(value) not in PLAIN:
            _check(value)
    for failure in mixed.failures.values():
        if failure.__class__ is not tuple or [*map(type, failure)] != [int, bytes] or not 0 < failure[0] < 256:
            raise ProtocolError("a bundle's outcome has a failure that is none")
    return mixed


def _check(value: Any) -> None:
    """Raise `ProtocolError` unless it is the pickle of a value and its buffers."""
    good = value.__class__ is tuple and [*map(type, value)] == [bytes, tuple] and {*map(type, value[1])} <= {bytes}
    if not good:
        raise ProtocolError("a bundle's outcome has a value that is none")


def _load(data: Buffer) -> Any:
    try:
        return _Plain(BytesIO(data)).load()
    except Exception as error:  # whatever the bytes mean to a pickler
        raise ProtocolError(f"a bundle's outcome makes no sense: {error}") from error


class _Plain(pickle.Unpickler):
    """Loads what refers to no class and no function: outcomes are opened where nothing of the user's may run."""

    def find_class(self, module: str, name: str, /) -> Any:
        """Refuse."""
        raise ProtocolError(f"it refers to {module}.{name}")


def as_mixed(data: Buffer, total: int) -> Mixed:
    """Return the outcome of a bundle all of whose calls gave a value as one of any other."""
    return Mixed(dict(enumerate(unpack_values(data, total))), {}, [])


def pack_alone(arguments: Arguments) -> bytes:
    """Return the arguments of a call of a bundle as those of a task of its own."""
    return pickle.dumps(arguments, 5)


def as_value(packed: Payload) -> Value:
    """Return a result that is not plain as it stands among the values."""
    return bytes(packed.data), tuple(bytes(buffer) for buffer in packed.buffers)
