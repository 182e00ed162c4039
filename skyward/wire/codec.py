"""Messages to and from bytes, and everything that can be wrong with bytes from a peer.

It owns the layout of frame 0 and of batch bodies (see ``docs/protocol.md``). Invariants: any input gives
a message, None or `ProtocolError`; a message that came through `Decoder.decode` and `check_body` has
columns of equal length, indexes that are in range, and a body that is cut exactly at its end; what a
peer *claims* (a length, a count) allocates nothing, only the bytes it sent do.

It must not know what pickles mean, who sends which message, or what a session is. PURE: no sockets.
"""

from __future__ import annotations

import os
import re
import threading
from functools import cache
from itertools import accumulate, chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, cast

from msgspec import DecodeError, msgpack

from skyward.errors import ProtocolError
from skyward.wire.clients import Clients
from skyward.wire.frames import REF_SIZE, Ref
from skyward.wire.messages import (
    HINT,
    MAX_BUFFERS,
    MAX_HEADER,
    MAX_LINES,
    MAX_TEXT,
    PROTOCOL,
    Answer,
    Function,
    Hello,
    Items,
    Message,
    Module,
    Output,
    Parcels,
    Part,
    Refused,
    Results,
    Roster,
    Submit,
    Tasks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.wire.frames import Buffer

    _Kind = tuple[type[Message], Callable[[Buffer], Message], Callable[[Any], None] | None]

OWN_FRAME: Final = 32_768  # bytes: above it copying a pickle into the blob costs more than a frame of its own

# Lists that have one entry per row of the batch; and such that may be empty instead.
_COLUMNS: Final[dict[type[Message], tuple[str, ...]]] = {
    Tasks: ("ids", "fns", "sizes", "buffers"),
    Results: ("ids", "statuses", "sizes", "buffers", "elapsed"),
    Items: ("sizes", "buffers"),
    Answer: ("calls", "statuses", "sizes", "buffers", "ranks"),
    Submit: ("calls", "fns", "sizes", "buffers", "ranks", "names"),
    Roster: ("members", "slots"),
    Parcels: ("frames", "numbers"),
    Clients: ("keys", "labels"),
}
_OPTIONAL: Final[dict[type[Message], tuple[str, ...]]] = {
    Tasks: ("retries", "timeouts", "counts", "crashes"),
    Submit: ("retries", "timeouts"),
    Items: ("counts",),
}
# A refusal must be readable whatever the versions are: the layout of these two only ever grows at its end.
_TIMELESS: Final = (Hello.TYPE, Refused.TYPE)

_PLACE: Final = re.compile(r"`\$\[(\d+)\]")  # how msgspec says which element of the array is wrong

_encode: Final = msgpack.Encoder().encode
_prefixes: Final[dict[type[Message], bytes]] = {}


# --- headers -------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """Return frame 0 of a message. Raises `ProtocolError` for a header that no peer would take."""
    kind = type(message)
    try:
        prefix = _prefixes[kind]
    except KeyError:
        prefix = _prefixes[kind] = bytes((PROTOCOL, kind.TYPE))
    header = prefix + _encode(message)
    if len(header) > MAX_HEADER:
        raise ProtocolError(f"{kind.__name__} has a header of {len(header)} bytes, more than {MAX_HEADER}")
    return header


class Decoder:
    """Decodes the headers of the message types that its owner takes, of at most ``most`` bytes each."""

    __slots__ = ("_kinds", "_most", "_types")

    def __init__(self, types: tuple[type[Message], ...], most: int = MAX_HEADER) -> None:
        self._most = most
        self._types = {kind.TYPE: kind for kind in types}
        self._kinds: dict[int, _Kind] = {}  # those that have come: each takes 0.1 ms to make, and most never come

    def decode(self, frame: Buffer) -> Message | None:
        """Return the message of a frame 0; None for an unknown hint, which is to be ignored.

        Raises `ProtocolError` for everything that no correct peer sends; it names the field that is wrong.
        """
        if not 2 < len(frame) <= self._most:
            raise ProtocolError(f"a header of {len(frame)} bytes")
        number = frame[1]
        if frame[0] != PROTOCOL and number not in _TIMELESS:
            raise ProtocolError(f"protocol differs: the peer speaks {frame[0]}, we speak {PROTOCOL}")
        entry = self._kinds.get(number)
        if entry is None:
            if number in self._types:
                with _making:
                    entry = self._kinds[number] = _kind(self._types[number])
            elif number >= HINT:
                return None
            else:
                raise ProtocolError(f"message type {number} is unknown or out of place")
        kind, decode, check = entry
        try:
            message = decode(frame[2:])
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"malformed header of {kind.__name__}{_place(kind, error)}: {error}") from error
        if check is not None:
            check(message)
        return message


# Two threads that make the first decoders of one type at once crash in msgspec 0.22, which describes the type to itself
# then. No child is forked meanwhile, where it would stay half described.
_making: Final = threading.Lock()
os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release)


@cache
def _kind(kind: type[Message]) -> _Kind:
    return kind, msgpack.Decoder(kind).decode, _header_check(kind)


def _place(kind: type[Message], error: Exception) -> str:
    """Return which field the error is about, as far as it says."""
    found = _PLACE.search(str(error))
    return f", field {kind.__struct_fields__[int(found[1])]!r}" if found else ""


def _header_check(kind: type[Message]) -> Callable[[Any], None] | None:
    """Return the check of what the fields of a message of this type say about each other."""
    if kind not in _COLUMNS:
        return None
    names = _COLUMNS[kind]
    columns = cast("Callable[[Message], tuple[list[Any], ...]]", attrgetter(*names))
    optional = _OPTIONAL.get(kind, ())

    def check(message: Any) -> None:
        lengths = {*map(len, columns(message))}
        if len(lengths) != 1:
            found = ", ".join(f"{name} has {len(column)}" for name, column in zip(names, columns(message), strict=True))
            raise ProtocolError(f"columns of {kind.__name__} differ in length: {found}")
        for name in optional:
            if (column := getattr(message, name)) and len(column) not in lengths:
                raise ProtocolError(f"column {name!r} of {kind.__name__} has {len(column)} instead of {lengths.pop()}")
        if kind is Tasks and 0 in message.counts:
            raise ProtocolError("'counts' of Tasks says that an entry has no call")
        if kind is Tasks or kind is Submit:
            if message.fns and max(message.fns) >= len(message.functions):
                raise ProtocolError(f"'fns' of {kind.__name__} refers to a function that it does not name")
        elif kind is Items:
            _check_items(message)

    return check


def _check_items(message: Items) -> None:
    if message.failed and not message.sizes:
        raise ProtocolError("'failed' of Items without a last element that says how")
    if message.counts and (message.stream or 0 in message.counts):
        raise ProtocolError("'counts' of Items that are for an argument, or of a pickle without elements")


# --- bodies --------------------------------------------------------------------------------

# Tuples, made once: `A | B` makes a type whenever it is evaluated.
_BATCHES: Final = (Results, Tasks, Submit, Answer, Items)
_SHARING: Final = (Results, Tasks, Items)
_SINGLE: Final = (Function, Module, Part)


def check_body(message: Message, frames: Sequence[Buffer]) -> None:
    """Raise `ProtocolError` unless the frames after frame 0 are what the header says.

    The header must have come through `Decoder.decode`.
    """
    if isinstance(message, _BATCHES):
        _check_batch(message.sizes, message.buffers, frames)
        if isinstance(message, _SHARING) and message.shared:
            _check_refs(message.shared, frames, _pickles(message.sizes, message.buffers))
        return
    if isinstance(message, Output):
        _check_lines(message, frames)
        return
    expected = 1 if isinstance(message, _SINGLE) else 0
    if len(frames) != expected:
        raise ProtocolError(f"{type(message).__name__} came with {len(frames)} body frames instead of {expected}")


def _check_lines(message: Output, frames: Sequence[Buffer]) -> None:
    if len(frames) != 1:
        raise ProtocolError(f"Output came with {len(frames)} body frames instead of 1")
    if len(frames[0]) > MAX_LINES:
        raise ProtocolError(f"lines of {len(frames[0])} bytes, more than {MAX_LINES}")
    text = bytes(frames[0])
    if text.count(b"\n") + 1 != message.lines:
        raise ProtocolError(f"Output has {text.count(10) + 1} lines, but its 'lines' says {message.lines}")
    if len(text) > MAX_TEXT and any(len(line) > MAX_TEXT for line in text.split(b"\n")):
        raise ProtocolError(f"a line of more than {MAX_TEXT} bytes")


def _check_batch(sizes: list[int], buffers: list[int], frames: Sequence[Buffer]) -> None:
    count, size = sum(buffers), sum(sizes)
    if count > MAX_BUFFERS:
        raise ProtocolError(f"'buffers' says {count}, more than {MAX_BUFFERS}")
    if len(frames) != 1 + count:
        raise ProtocolError(f"a batch with {len(frames)} body frames, but 'buffers' says 1 + {count}")
    if len(frames[0]) != size:
        raise ProtocolError(f"a blob of {len(frames[0])} bytes, but 'sizes' says {size}")
    if 0 in sizes and (0, 0) in zip(sizes, buffers, strict=True):
        raise ProtocolError("an entry without a pickle: 0 in both 'sizes' and 'buffers'")


def _pickles(sizes: list[int], buffers: list[int]) -> set[int]:
    """Return which body frames are pickles that do not lie in the blob."""
    if 0 not in sizes:
        return set()
    starts = accumulate(buffers, initial=1)
    return {start for size, start in zip(sizes, starts, strict=False) if not size}


def buffer_places(sizes: list[int], buffers: list[int]) -> set[int]:
    """Return which body frames of a batch, of which there are as many as it claims, may be references."""
    return set(range(1, 1 + sum(buffers))) - _pickles(sizes, buffers)


def _check_refs(shared: list[int], frames: Sequence[Buffer], pickles: set[int]) -> None:
    if min(shared) < 1 or max(shared) >= len(frames) or len(set(shared)) < len(shared):
        raise ProtocolError("'shared' names a frame that is no buffer, or one twice")
    if not pickles.isdisjoint(shared):
        raise ProtocolError("'shared' names the frame of a pickle")
    if any(len(frames[index]) != REF_SIZE for index in shared):
        raise ProtocolError("'shared' names a frame that has not the size of a reference")


def mark_refs(message: Tasks | Results | Items, frames: list[Buffer]) -> list[Buffer]:
    """Return the body frames, references to shared memory as such. They must have come through `check_body`."""
    for index in message.shared:
        frames[index] = Ref(frames[index])
    return frames


def pack_body(payloads: Sequence[tuple[Buffer, tuple[Buffer, ...]]]) -> tuple[list[int], list[int], list[Buffer]]:
    """Return the columns ``sizes`` and ``buffers``, and the body frames, of a batch.

    Buffers are not copied; pickles of up to `OWN_FRAME` bytes are, into the blob, and so are larger ones
    when the message has no room for more frames.
    """
    if not payloads:
        return [], [], [b""]
    if len(payloads) == 1:  # as every lone call is
        pickle, own = payloads[0]
        if 0 < len(pickle) <= OWN_FRAME:
            return [len(pickle)], [len(own)], [pickle, *own]
    data, extra = zip(*payloads, strict=True)
    sizes = list(map(len, data))
    buffers = list(map(len, extra))
    if max(sizes) <= OWN_FRAME and 0 not in sizes:
        return sizes, buffers, [b"".join(data), *chain.from_iterable(extra)]
    room = MAX_BUFFERS - sum(buffers) - sizes.count(0)  # a pickle without bytes can only be a frame
    small: list[Buffer] = []
    frames: list[Buffer] = [b""]
    for index, pickle in enumerate(data):
        if 0 < sizes[index] <= OWN_FRAME or (sizes[index] and room <= 0):
            small.append(pickle)
        else:
            room -= sizes[index] > 0
            sizes[index] = 0
            buffers[index] += 1
            frames.append(pickle)
        frames += extra[index]
    frames[0] = b"".join(small)
    return sizes, buffers, frames


def split_body(
    sizes: Sequence[int], buffers: Sequence[int], frames: Sequence[Buffer]
) -> list[tuple[Buffer, tuple[Buffer, ...]]]:
    """Return (pickle, its buffers) of each entry of a batch that `check_body` has passed.

    Pickles are cut out of the blob in its own type: copies of bytes, views of a memoryview.
    """
    blob = frames[0]
    if len(frames) == len(sizes) == 1:
        return [(blob, ())]
    ends = accumulate(sizes)
    if len(frames) == 1:
        return [(blob[end - size : end], ()) for size, end in zip(sizes, ends, strict=True)]
    entries: list[tuple[Buffer, tuple[Buffer, ...]]] = []
    start = 1
    for size, end, count in zip(sizes, ends, buffers, strict=True):
        stop = start + count
        if size:
            entries.append((blob[end - size : end], tuple(frames[start:stop])))
        else:
            entries.append((frames[start], tuple(frames[start + 1 : stop])))
        start = stop
    return entries
