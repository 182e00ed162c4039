"""Garbage that looks like messages: mutations of valid frames of every type, from a seed, without end.

`Garbage` is for live nodes and clients: of what it gives, far more than a tenth has a good header, so that
what is wrong is found by whoever looks further. `mutate` is one step of it, which the fuzzer repeats.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import inspect, msgpack

from tests.fuzz import values
from tests.fuzz.samples import ALL_TYPES, BY_NUMBER, EPOCH, WIRE_TYPES, Frames, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skyward.wire import messages as wire

POOL: Final = 16  # valid messages of each type that are mutated
FRESH: Final = 20  # messages after which one of them is replaced
LONG: Final = 2_000  # bytes of a field's value that is rarely worth its time
RARELY: Final = 0.002
EDGES: Final = (b"", b"\x00", b"\xff" * 8, b"\x90", b"\xc0", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xcf" + b"\xff" * 8)
FRAME_SIZES: Final = (0, 1, 2, 3, 17, 255, 4_096, 32_768, 32_769)

_raws: Final = msgpack.Decoder(list[msgspec.Raw]).decode


class Garbage:
    """Gives messages of which most are nearly right; those of types that travel between client and node.

    For a live node take `CLIENT_MESSAGES` and its epoch: what it would refuse for another one goes further then.
    """

    def __init__(self, seed: int, types: tuple[type[wire.Message], ...] = WIRE_TYPES, epoch: int = EPOCH) -> None:
        self._random = random = Random(seed)
        self._types = types
        self._epoch = epoch
        self._pools = {kind: [sample(kind, random, epoch) for _ in range(POOL)] for kind in types}

    def __iter__(self) -> Iterator[Frames]:
        random = self._random
        for count, kind in enumerate(itertools.cycle(self._types)):
            pool = self._pools[kind]
            if count % FRESH == 0:
                pool[random.randrange(POOL)] = sample(kind, random, self._epoch)
            yield mutate(pool[int(random.random() * POOL)], random)


def mutate(frames: Frames, random: Random) -> Frames:
    """Return the frames of a message with one thing changed, or in one of ten cases with none."""
    dice = random.random()
    for share, change in CHANGES:
        dice -= share
        if dice < 0 and frames:
            return change(frames, random)
    return frames


# --- headers -------------------------------------------------------------------------------


@lru_cache
def _wrong(kind: type[msgspec.Struct]) -> tuple[tuple[list[bytes], list[bytes]], ...]:
    """Return, for each field of a type, values that it does not allow, short and long ones, encoded."""
    table: list[tuple[list[bytes], list[bytes]]] = []
    for field in values.fields_of(kind):
        encoded = [msgpack.encode(value) for _, value in values.bad(field.type)]
        long = [data for data in encoded if len(data) > LONG]
        table.append(([data for data in encoded if len(data) <= LONG], long))
    return tuple(table)


def _fields(header: bytes) -> tuple[type[wire.Message] | None, list[bytes]]:
    """Return the type of a message and its fields, each as MessagePack; none of what is no array."""
    try:
        return BY_NUMBER.get(header[1]), [bytes(raw) for raw in _raws(header[2:])]
    except (IndexError, msgspec.MsgspecError, RecursionError):
        return None, []


def _header(prefix: bytes, fields: list[bytes]) -> bytes:
    count = len(fields)
    start = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return prefix[:2] + start + b"".join(fields)


def wrong_field(frames: Frames, random: Random) -> Frames:
    """Put a value in the place of a field that its type does not allow."""
    kind, fields = _fields(frames[0])
    if kind is None or not fields:
        return other_bytes(frames, random)
    table = _wrong(kind)
    index = random.randrange(min(len(fields), len(table)))
    short, long = table[index]
    fields[index] = random.choice(long if long and random.random() < RARELY else short)
    return [_header(frames[0], fields), *frames[1:]]


def other_field(frames: Frames, random: Random) -> Frames:
    """Put another good value in the place of a field: by itself it is right, with the others it may not be."""
    kind, fields = _fields(frames[0])
    if kind is None or not fields:
        return other_bytes(frames, random)
    described = values.fields_of(kind)
    index = random.randrange(min(len(fields), len(described)))
    fields[index] = msgpack.encode(values.good(described[index].type, random))
    return [_header(frames[0], fields), *frames[1:]]


def other_element(frames: Frames, random: Random) -> Frames:
    """Put another good value in the place of an element of a column, whose length stays."""
    kind, fields = _fields(frames[0])
    described = values.fields_of(kind) if kind is not None else ()
    columns = [index for index, field in enumerate(described) if isinstance(field.type, inspect.ListType)]
    if not columns or columns[-1] >= len(fields):
        return other_field(frames, random)
    index = random.choice(columns)
    elements = _list(fields[index])
    if elements:
        type_ = described[index].type
        assert isinstance(type_, inspect.ListType)
        elements[random.randrange(len(elements))] = msgspec.Raw(msgpack.encode(values.good(type_.item_type, random)))
        fields[index] = msgpack.encode(elements)
    return [_header(frames[0], fields), *frames[1:]]


def _list(data: bytes) -> list[msgspec.Raw]:
    try:
        return _raws(data)
    except (msgspec.MsgspecError, RecursionError):
        return []


def other_count(frames: Frames, random: Random) -> Frames:
    """Leave out fields, swap two, or add some that nobody knows."""
    kind, fields = _fields(frames[0])
    if kind is None or not fields:
        return other_bytes(frames, random)
    dice = random.randrange(3)
    if dice == 0:
        del fields[random.randrange(len(fields)) :]
    elif dice == 1:
        first, second = random.randrange(len(fields)), random.randrange(len(fields))
        fields[first], fields[second] = fields[second], fields[first]
    else:
        fields += [msgpack.encode(random.choice(list(values.KINDS.values()))) for _ in range(random.randint(1, 3))]
    return [_header(frames[0], fields), *frames[1:]]


def other_bytes(frames: Frames, random: Random) -> Frames:
    """Change bytes of a header, whatever they mean."""
    return [_edited(frames[0], random), *frames[1:]]


def other_type(frames: Frames, random: Random) -> Frames:
    """Have a message claim to be of another type or version, or a hint that nobody knows."""
    header = bytearray(frames[0].ljust(2, b"\x00"))
    dice = random.randrange(4)
    if dice == 0:
        header[0] = random.randrange(256)
    elif dice == 1:
        header[1] = random.randrange(256)
    else:
        header[1] = random.choice(ALL_TYPES).TYPE
    return [bytes(header), *frames[1:]]


def _edited(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    dice = random.randrange(4)
    if dice == 0 and start < len(data):
        return data[:start] + bytes((data[start] ^ 1 << random.randrange(8),)) + data[start + 1 :]
    if dice == 1:
        return data[:start]
    stop = min(len(data), start + random.randrange(4))
    return data[:start] + (random.choice(EDGES) if dice == 2 else random.randbytes(random.randrange(5))) + data[stop:]


# --- bodies --------------------------------------------------------------------------------


def other_body(frames: Frames, random: Random) -> Frames:
    """Leave a frame of the body out, add one, or give one another length."""
    header, *body = frames
    dice = random.randrange(4)
    if dice == 0 or not body:
        size = FRAME_SIZES[int(random.random() ** 3 * len(FRAME_SIZES))]
        body.insert(random.randrange(len(body) + 1), bytes(size))
    elif dice == 1:
        del body[random.randrange(len(body))]
    elif dice == 2:
        index = random.randrange(len(body))
        body[index] = _edited(body[index], random)
    else:
        body *= random.randrange(3)
    return [header, *body]


def no_change(frames: Frames, _random: Random) -> Frames:
    """Leave all as it is."""
    return frames


# What is done to a message, and how often.
CHANGES: Final[tuple[tuple[float, Callable[[Frames, Any], Frames]], ...]] = (
    (0.25, wrong_field),
    (0.10, other_field),
    (0.05, other_element),
    (0.10, other_count),
    (0.15, other_bytes),
    (0.05, other_type),
    (0.20, other_body),
    (0.10, no_change),
)
