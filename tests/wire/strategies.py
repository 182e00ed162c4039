"""Hypothesis strategies for every message of the protocol with a body that fits, and for damaged ones.

``messages()`` gives (message, body frames) that a correct peer could send, ``FAILURE`` what stands where a
value would. ``damaged_headers()`` gives bytes that are nearly a frame 0, ``damaged_bodies()`` a good message
with frames that do not fit it. The fuzzer has a faster source of the same, `tests.fuzz.samples`.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import msgspec
from hypothesis import strategies as st

from skyward.wire import messages as wire
from skyward.wire import statuses
from skyward.wire.bundles import Interim
from skyward.wire.clients import Admit, Clients
from skyward.wire.codec import encode, pack_body
from skyward.wire.frames import REF_SIZE, Payload
from skyward.wire.lone import Call, Reply
from skyward_node import pipe_messages as pipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from skyward.wire.frames import Buffer

Sample = tuple[wire.Message, "list[Buffer]"]

U64: Final = st.integers(0, 2**64 - 1)
U32: Final = st.integers(0, 2**32 - 1)
BYTE: Final = st.integers(0, 255)
SECONDS: Final = st.floats(0.0, 1e9)
KEY: Final = st.binary(min_size=16, max_size=16)
NAME: Final = st.text(st.characters(codec="utf-8"), max_size=12)
VERSIONS: Final = st.dictionaries(NAME, NAME, max_size=3)
IDS: Final = st.lists(U64, max_size=6, unique=True)
KEYS: Final = st.lists(KEY, max_size=3)
PAYLOAD: Final = st.builds(
    Payload,
    st.one_of(st.binary(min_size=1, max_size=40), st.builds(bytes, st.integers(32_767, 32_770))),
    st.lists(st.binary(max_size=20), max_size=3).map(tuple),
)
SMALL: Final = st.binary(min_size=1, max_size=40)
MEMBER: Final = st.builds(wire.Member, U32, NAME, NAME, NAME)
INDEX: Final = st.integers(0, wire.MAX_BATCH - 1)
PORT: Final = st.integers(0, 65_535)
FAILURE: Final = st.builds(
    statuses.Failure,
    *(BYTE, NAME, NAME, NAME, st.binary(max_size=20), st.integers(0, 128), st.integers(-1, 2**31)),
    *(st.lists(NAME, max_size=3), U64, U64, st.booleans(), U32, U64, U64, SECONDS, NAME),
    st.integers(-1, wire.MAX_BATCH - 1),
)


def column(draw: st.DrawFn, element: SearchStrategy[Any], count: int) -> list[Any]:
    """Draw a column of a batch."""
    return draw(st.lists(element, min_size=count, max_size=count))


def optional_column(draw: st.DrawFn, element: SearchStrategy[Any], count: int) -> list[Any]:
    """Draw a column that may be left out."""
    return column(draw, element, count if draw(st.booleans()) else 0)


def batch(draw: st.DrawFn, *, least: int = 0) -> tuple[int, list[int], list[int], list[Buffer]]:
    """Draw payloads; return their number, ``sizes``, ``buffers`` and the body."""
    payloads = draw(st.lists(PAYLOAD, min_size=least, max_size=5))
    return len(payloads), *pack_body(payloads)


def unique_ids(draw: st.DrawFn, count: int) -> list[int]:
    """Draw ids of a batch."""
    return draw(st.lists(U64, min_size=count, max_size=count, unique=True))


def functions_of(draw: st.DrawFn, count: int) -> tuple[list[bytes], list[int]]:
    """Draw the functions that a batch uses, and the index of each entry's."""
    keys = draw(st.lists(KEY, min_size=1 if count else 0, max_size=3))
    return keys, column(draw, st.integers(0, max(len(keys) - 1, 0)), count)


REF: Final = st.binary(min_size=REF_SIZE, max_size=REF_SIZE)


def shared(draw: st.DrawFn, sizes: list[int], buffers: list[int], body: list[Buffer]) -> list[int]:
    """Put references to shared memory in the place of some buffers; return which."""
    pickles = {start for size, start in zip(sizes, accumulate(buffers, initial=1), strict=False) if not size}
    places = [index for index in range(1, len(body)) if index not in pickles]
    frames = draw(st.sets(st.sampled_from(places))) if places else set[int]()
    for index in frames:
        body[index] = draw(REF)
    return sorted(frames)


@st.composite
def tasks(draw: st.DrawFn) -> Sample:
    """Give `Tasks`."""
    count, sizes, buffers, body = batch(draw)
    keys, fns = functions_of(draw, count)
    retries = optional_column(draw, st.integers(0, 10_000), count)
    timeouts = optional_column(draw, SECONDS, count)
    ids = unique_ids(draw, count)
    refs = shared(draw, sizes, buffers, body)
    counts = optional_column(draw, st.integers(1, wire.MAX_BATCH - 1), count)
    crashes = optional_column(draw, INDEX, count)
    columns = keys, ids, fns, sizes, buffers, retries, timeouts, refs, counts, crashes
    return wire.Tasks(draw(U64), draw(U64), *columns), body


@st.composite
def items(draw: st.DrawFn) -> Sample:
    """Give `Items`."""
    failed = draw(st.booleans())
    count, sizes, buffers, body = batch(draw, least=int(failed))
    stream = draw(U32)
    counts = [] if stream else optional_column(draw, st.integers(1, wire.MAX_BUFFERS), count)
    end = failed or draw(st.booleans())
    refs = shared(draw, sizes, buffers, body)
    return wire.Items(
        draw(U64), draw(U64), stream, draw(U64), sizes, buffers, end, failed, refs, draw(U64), draw(U64), counts
    ), body


@st.composite
def answers(draw: st.DrawFn) -> Sample:
    """Give `Answer`."""
    count, sizes, buffers, body = batch(draw)
    calls, statuses, ranks = unique_ids(draw, count), column(draw, BYTE, count), column(draw, U32, count)
    return wire.Answer(draw(U64), draw(U64), calls, statuses, sizes, buffers, ranks, draw(U64)), body


@st.composite
def results(draw: st.DrawFn) -> Sample:
    """Give `Results`."""
    count, sizes, buffers, body = batch(draw)
    ids, statuses, elapsed = unique_ids(draw, count), column(draw, BYTE, count), column(draw, U64, count)
    refs = shared(draw, sizes, buffers, body)
    return wire.Results(draw(U64), draw(U64), ids, statuses, sizes, buffers, elapsed, refs), body


@st.composite
def parcels(draw: st.DrawFn) -> Sample:
    """Give `Parcels`."""
    frames = draw(st.lists(st.integers(0, wire.MAX_BUFFERS), max_size=5, unique=True))
    return wire.Parcels(draw(U64), frames, unique_ids(draw, len(frames)), draw(IDS), draw(IDS)), []


@st.composite
def listings(draw: st.DrawFn) -> Sample:
    """Give `Clients`."""
    keys = draw(st.lists(st.text(max_size=64), max_size=5))
    labels = draw(st.lists(NAME, min_size=len(keys), max_size=len(keys)))
    return Clients(draw(U64), keys, labels, draw(NAME)), []


@st.composite
def submits(draw: st.DrawFn) -> Sample:
    """Give `Submit`."""
    count, sizes, buffers, body = batch(draw)
    keys, fns = functions_of(draw, count)
    message = wire.Submit(
        epoch=draw(U64),
        parent=draw(U64),
        functions=keys,
        calls=unique_ids(draw, count),
        fns=fns,
        sizes=sizes,
        buffers=buffers,
        retries=optional_column(draw, st.integers(0, 10_000), count),
        timeouts=optional_column(draw, SECONDS, count),
        ranks=column(draw, st.integers(-1, wire.MAX_NODES - 1), count),
        names=column(draw, NAME, count),
        seq=draw(U64),
    )
    return message, body


@st.composite
def rosters(draw: st.DrawFn) -> Sample:
    """Give `Roster`."""
    members = draw(st.lists(MEMBER, max_size=4))
    slots = column(draw, U32, len(members))
    return wire.Roster(draw(U64), draw(U32), draw(NAME), members, slots, draw(PORT)), []


@st.composite
def contexts(draw: st.DrawFn) -> Sample:
    """Give `Context`."""
    members = draw(st.lists(MEMBER, max_size=4))
    message = pipe.Context(
        session=draw(KEY),
        rank=draw(U32),
        job=draw(NAME),
        members=members,
        slots=column(draw, U32, len(members)),
        head_port=draw(PORT),
        index=draw(U32),
        cancel_grace=draw(SECONDS),
        max_payload=draw(U64),
        accelerators=draw(st.lists(NAME, max_size=3)),
        retries=draw(U32),
        timeout=draw(SECONDS),
        shared=draw(st.booleans()),
    )
    return message, []


@st.composite
def outputs(draw: st.DrawFn) -> Sample:
    """Give `Output`."""
    text = b"\n".join(draw(st.lists(st.binary(max_size=30), max_size=5)))
    count = text.count(b"\n") + 1
    return wire.Output(draw(U64), draw(U64), draw(st.integers(1, 2)), count, draw(U64)), [text]


def bare(kind: type[wire.Message], *fields: SearchStrategy[Any]) -> SearchStrategy[Sample]:
    """Give messages without a body; there is a strategy for every field."""
    return built(kind, *fields).map(lambda message: (message, []))


def with_frame(kind: type[wire.Message], *fields: SearchStrategy[Any]) -> SearchStrategy[Sample]:
    """Give messages with one opaque frame."""
    return st.tuples(built(kind, *fields), st.binary(max_size=30)).map(lambda pair: (pair[0], [pair[1]]))


def built(kind: type[wire.Message], *fields: SearchStrategy[Any]) -> SearchStrategy[wire.Message]:
    """Give messages of a type."""
    assert len(fields) == len(kind.__struct_fields__), f"{kind.__name__} has fields without a strategy"
    make: Callable[..., wire.Message] = kind
    return st.builds(make, *fields)


HELLO: Final = (
    *(U32, NAME, VERSIONS, KEY, U64, U64, SECONDS, SECONDS, SECONDS, U64, NAME, NAME),
    *(INDEX, SECONDS, U64, st.booleans(), st.booleans()),
)
WELCOME: Final = (
    *(U32, NAME, VERSIONS, KEY, U64, U32, st.sampled_from(["process", "thread"]), NAME, NAME, U32),
    *(st.lists(NAME, max_size=3), st.booleans(), U64, U64, st.booleans(), st.booleans(), st.binary(max_size=64)),
    *(st.booleans(), st.booleans()),
)

BY_TYPE: Final[dict[type[wire.Message], SearchStrategy[Sample]]] = {
    wire.Hello: bare(wire.Hello, *HELLO),
    wire.Tasks: tasks(),
    wire.Function: with_frame(wire.Function, U64, KEY, KEYS, NAME),
    wire.Module: with_frame(wire.Module, U64, KEY, NAME),
    wire.Cancel: bare(wire.Cancel, U64, IDS, st.booleans()),
    wire.Beat: bare(wire.Beat, U64, U64, SECONDS, U64, U64),
    wire.Credit: bare(wire.Credit, U64, U64, U32, U64, U64, U64, U64, U64),
    wire.Items: items(),
    wire.Answer: answers(),
    wire.Roster: rosters(),
    wire.Drain: bare(wire.Drain, U64, SECONDS),
    wire.Bye: bare(wire.Bye, U64, U64, NAME),
    wire.Release: bare(wire.Release, U64, IDS),
    wire.Part: with_frame(wire.Part, U64, U64, U64, U64),
    wire.Parcels: parcels(),
    Call: bare(Call, U64, U64, KEY, U64, SMALL, INDEX, SECONDS),
    Reply: bare(Reply, U64, U64, U64, BYTE, U64, SMALL),
    Interim: bare(Interim, U64, U64, st.binary(max_size=100)),
    Admit: bare(Admit, U64, st.text(max_size=64), NAME, NAME),
    Clients: listings(),
    wire.Welcome: bare(wire.Welcome, *WELCOME),
    wire.Progress: bare(wire.Progress, U64, IDS, IDS),
    wire.Results: results(),
    wire.Returned: bare(wire.Returned, U64, IDS),
    wire.Need: bare(wire.Need, U64, KEYS, KEYS),
    wire.Submit: submits(),
    wire.Revoke: bare(wire.Revoke, U64, U64, IDS, U64),
    wire.Output: outputs(),
    wire.Pulse: bare(wire.Pulse, U64, U64, U64, SECONDS, U64),
    wire.Slots: bare(wire.Slots, U64, U32),
    wire.Draining: bare(wire.Draining, U64, SECONDS, NAME),
    wire.Refused: bare(wire.Refused, NAME, NAME, NAME, U32),
}
# Those that never leave a node.
INSIDE: Final[dict[type[wire.Message], SearchStrategy[Sample]]] = {
    pipe.Context: contexts(),
    pipe.Waiting: bare(pipe.Waiting, U64, st.booleans(), st.booleans()),
    pipe.Deadlock: bare(pipe.Deadlock, U64, NAME),
    pipe.Forget: bare(pipe.Forget, st.lists(KEY, max_size=5), st.lists(KEY, max_size=5)),
}


def messages(*types: type[wire.Message]) -> SearchStrategy[Sample]:
    """Give good messages of these types, or of any."""
    every = BY_TYPE | INSIDE
    return st.one_of([every[kind] for kind in types or BY_TYPE])


# --- damage --------------------------------------------------------------------------------

# Any value that MessagePack knows, also such as no field has.
VALUES: Final[SearchStrategy[Any]] = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), NAME, st.binary(max_size=20)),
        *(st.just("x" * 70_000), st.just([0] * 20_000), st.datetimes(timezones=st.timezones())),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAME, inner, max_size=3)),
    max_leaves=6,
)


def _fields(header: bytes) -> list[Any]:
    fields: list[Any] = msgspec.msgpack.decode(header[2:])
    return fields


@st.composite
def with_other_bytes(draw: st.DrawFn, header: bytes) -> bytes:
    """Cut, insert or overwrite somewhere in the bytes."""
    start = draw(st.integers(0, len(header)))
    stop = draw(st.integers(start, len(header)))
    return header[:start] + draw(st.binary(max_size=8)) + header[stop:]


@st.composite
def with_other_field(draw: st.DrawFn, header: bytes) -> bytes:
    """Put any value in the place of one field, or of one element of a column."""
    fields = _fields(header)
    target, index = fields, draw(st.integers(0, len(fields) - 1))
    if isinstance(fields[index], list) and fields[index] and draw(st.booleans()):
        target = fields[index]
        index = draw(st.integers(0, len(target) - 1))
    target[index] = draw(VALUES)
    return header[:2] + msgspec.msgpack.encode(fields)


def _other_lengths(values: list[Any]) -> SearchStrategy[list[Any]]:
    several: tuple[list[Any], ...] = (values, values[:-1], [*values, values[0]], values[:1], [])
    return st.sampled_from(several)


@st.composite
def with_other_length(draw: st.DrawFn, header: bytes) -> bytes:
    """Leave out fields, add some, or make a column shorter or longer."""
    fields = _fields(header)
    columns: list[list[Any]] = [field for field in fields if isinstance(field, list) and field]
    if draw(st.booleans()) and columns:
        index = draw(st.integers(0, len(columns) - 1))
        columns[index][:] = draw(_other_lengths(columns[index]))
    else:
        fields = draw(_other_lengths([*fields, draw(VALUES)]))
    return header[:2] + msgspec.msgpack.encode(fields)


DAMAGES: Final = (with_other_bytes, with_other_field, with_other_length)


@st.composite
def damaged_headers(draw: st.DrawFn, source: SearchStrategy[Sample] | None = None) -> bytes:
    """Give bytes that are nearly a frame 0."""
    message, _ = draw(source or messages())
    return draw(draw(st.sampled_from(DAMAGES))(encode(message)))


@st.composite
def damaged_bodies(draw: st.DrawFn, source: SearchStrategy[Sample] | None = None) -> Sample:
    """Give a good message whose body lacks a frame, has one too many, or one of another length."""
    message, body = draw(source or messages())
    place = draw(st.integers(0, max(len(body) - 1, 0)))
    frame = draw(st.binary(max_size=10))
    damaged = [[*body[:place], *body[place + 1 :]], [*body[:place], frame, *body[place:]], [*body]]
    if body:
        damaged[2][place] = frame
    return message, draw(st.sampled_from(damaged))


def varied(frames: list[Buffer]) -> SearchStrategy[list[Buffer]]:
    """Give the same frames as different kinds of buffer."""
    return st.tuples(*[st.sampled_from([bytes(frame), bytearray(frame), memoryview(frame)]) for frame in frames]).map(
        list
    )
