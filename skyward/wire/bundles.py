"""Bundles: several short calls of one function that travel, wait and run as one task.

What a task costs on its way (an entry in every column, a pickle, a place in every queue) is many times what a short
call takes. A bundle costs it once. Only the client and the worker look inside; to a node it is a task.

Its arguments are the pickle of a list with an entry for each call: a tuple of plain values, or, for all others, the
pickle that the call would have had alone, as bytes. Its outcome, if every call gave a value, is the pickle of a list
with an entry for each: a plain value, or a tuple of a pickle and its buffers. Else its status is `MIXED`, and the
outcome is what `Mixed` says: values, failures, and the calls that it has not run.

PURE: nothing here knows who runs what.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, NamedTuple, TypeAlias

from msgspec import Meta

from skyward.wire.messages import U64, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer, Payload

PLAIN: Final = frozenset((int, float, bool, type(None), complex))  # values of which no one is large
LARGEST: Final = 64  # calls: what a task costs on its way is a few per cent of what they cost by then
SIZE: Final = 64 * 1024  # bytes of arguments
YIELDED: Final = 256 * 1024  # bytes of values after which a bundle runs no further call

Entry: TypeAlias = "tuple[Any, ...] | bytes"  # the arguments of a call, if they are plain, or its pickle
Value: TypeAlias = Any  # a plain one as it is; else (pickle, buffers)


class Interim(Message, frozen=True):
    """What has become of a bundle so far: one of its calls takes long. A hint: the outcome says it again.

    The calls that it says are not run have been given up by then: the client may have them run elsewhere.
    """

    TYPE: ClassVar[int] = 64
    epoch: U64
    id: U64
    data: Annotated[bytes, Meta(max_length=2 * 2**20)]  # a `Mixed`


class Mixed(NamedTuple):
    """What became of some calls of a bundle, by their places in it."""

    values: dict[int, Value]
    failures: dict[int, tuple[int, bytes]]  # status, encoded Failure
    left: list[int]  # that it does not run


def pack(entries: Sequence[Entry | None]) -> bytes:
    """Return the arguments of a bundle as bytes."""
    return pickle.dumps(entries, 5)


def unpack(data: Buffer) -> list[Entry]:
    """Return the entries of a bundle. Only a worker, and the client who made it, call this."""
    entries: list[Entry] = pickle.loads(data)  # noqa: S301 - as any arguments
    return entries


def pack_values(values: Sequence[Value]) -> bytes:
    """Return the outcome of a bundle all of whose calls gave a value."""
    return pickle.dumps(values, 5)


def unpack_values(data: Buffer) -> list[Value]:
    """Return what `pack_values` was given."""
    values: list[Value] = pickle.loads(data)  # noqa: S301 - as any result
    return values


def pack_mixed(mixed: Mixed) -> bytes:
    """Return the outcome of any other bundle."""
    return pickle.dumps(tuple(mixed), 5)


def unpack_mixed(data: Buffer) -> Mixed:
    """Return what `pack_mixed` was given."""
    return Mixed(*pickle.loads(data))  # noqa: S301 - as any result


def as_mixed(data: Buffer) -> Mixed:
    """Return the outcome of a bundle all of whose calls gave a value as one of any other."""
    return Mixed(dict(enumerate(unpack_values(data))), {}, [])


def pack_alone(entry: Entry) -> bytes:
    """Return the arguments of a call of a bundle as those of a task of its own."""
    return entry if isinstance(entry, bytes) else pickle.dumps(entry, 5)


def as_value(packed: Payload) -> Value:
    """Return a result that is not plain as it stands among the values."""
    return bytes(packed.data), tuple(bytes(buffer) for buffer in packed.buffers)
