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
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, NamedTuple, TypeAlias

from msgspec import Meta

from skyward.errors import ProtocolError
from skyward.wire.messages import U64, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer, Payload

PLAIN: Final = frozenset((int, float, bool, type(None)))  # values of which no one is large
LARGEST: Final = 64  # calls: what a task costs on its way is a few per cent of what they cost by then
SIZE: Final = 64 * 1024  # bytes of arguments
YIELDED: Final = 256 * 1024  # bytes of values after which a bundle runs no further call

State = Annotated[bytes, Meta(max_length=2 * 2**20)]
Entry: TypeAlias = "tuple[Any, ...] | bytes"  # the arguments of a call, if they are plain, or its pickle
Value: TypeAlias = Any  # a plain one as it is; else (pickle, buffers)


class Interim(Message, frozen=True):
    """What has become of a bundle so far: one of its calls takes long. The outcome says all of it again.

    The calls that it says are not run have been given up by then: the client may have them run elsewhere.
    """

    TYPE: ClassVar[int] = 46
    epoch: U64
    id: U64
    data: State  # a `Mixed`


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


def unpack_values(data: Buffer, total: int) -> list[Value]:
    """Return what `pack_values` was given of a bundle of ``total`` calls. Raises `ProtocolError` for anything else."""
    try:
        values: Any = pickle.loads(data)  # noqa: S301 - as any result
    except Exception as error:
        raise ProtocolError(f"values of a bundle make no sense: {error}") from error
    found: list[Value] = values
    if found.__class__ is not list or len(found) != total:
        raise ProtocolError(f"values of a bundle of {total} calls that are not so many")
    return found


def pack_mixed(mixed: Mixed) -> bytes:
    """Return the outcome of any other bundle."""
    return pickle.dumps(tuple(mixed), 5)


def unpack_mixed(data: Buffer, total: int) -> Mixed:
    """Return what `pack_mixed` was given of a bundle of ``total`` calls; raises `ProtocolError` for anything else."""
    try:
        mixed = Mixed(*_Plain(BytesIO(data)).load())
        values, failures, left = mixed
        places = [*values, *failures, *left]
        if len(set(places)) < len(places) or not set(places).issubset(range(total)):
            raise ProtocolError("a bundle's outcome names a call twice, or one that it has not")
        for status, failure in failures.values():
            if type(status) is not int or type(failure) is not bytes:
                raise ProtocolError("a bundle's outcome has a failure that is none")
    except ProtocolError:
        raise
    except Exception as error:  # whatever the bytes mean to a pickler
        raise ProtocolError(f"a bundle's outcome makes no sense: {error}") from error
    return mixed


class _Plain(pickle.Unpickler):
    """Loads what refers to no class and no function: `Mixed` is opened where nothing of the user's may run."""

    def find_class(self, module: str, name: str, /) -> Any:
        """Refuse."""
        raise ProtocolError(f"a bundle's outcome refers to {module}.{name}")


def as_mixed(data: Buffer, total: int) -> Mixed:
    """Return the outcome of a bundle all of whose calls gave a value as one of any other."""
    return Mixed(dict(enumerate(unpack_values(data, total))), {}, [])


def pack_alone(entry: Entry) -> bytes:
    """Return the arguments of a call of a bundle as those of a task of its own."""
    return entry if isinstance(entry, bytes) else pickle.dumps(entry, 5)


def as_value(packed: Payload) -> Value:
    """Return a result that is not plain as it stands among the values."""
    return bytes(packed.data), tuple(bytes(buffer) for buffer in packed.buffers)
