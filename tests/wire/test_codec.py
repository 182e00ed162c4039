"""Headers and bodies: good ones survive the way through bytes, everything else is a `ProtocolError`."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import Phase, example, find, given, settings
from hypothesis import strategies as st

from skyward.errors import ProtocolError
from skyward.wire import codec, statuses
from skyward.wire import messages as wire
from skyward.wire.codec import Decoder, check_body, encode, split_body
from skyward.wire.kinds import CLIENT_MESSAGES, NODE_MESSAGES
from skyward_node.pipe_messages import CONTROL_MESSAGES, DATA_MESSAGES, WORKER_MESSAGES, Context, Waiting
from tests.fuzz import values
from tests.wire import strategies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.wire.frames import Buffer
    from tests.wire.strategies import Sample

ALL = tuple(dict.fromkeys(CLIENT_MESSAGES + NODE_MESSAGES))
INSIDE = (Context, Waiting)
DECODER = Decoder(ALL + INSIDE)
KEY = bytes(16)


def raw(kind: type[wire.Message], *fields: Any) -> bytes:
    """Return a frame 0 with these fields, whether or not they are allowed."""
    return bytes((wire.PROTOCOL, kind.TYPE)) + msgspec.msgpack.encode(fields)


def take(header: Buffer, body: Sequence[Buffer]) -> wire.Message | None:
    """Do what a receiver does with every message."""
    message = DECODER.decode(header)
    if message is not None:
        check_body(message, body)
    return message


# --- good messages -------------------------------------------------------------------------


def test_strategies_cover_every_message() -> None:
    """There is a strategy for each type of both directions, and of the pipes inside a node."""
    assert set(strategies.BY_TYPE) == set(ALL)
    assert set(strategies.INSIDE) == {*DATA_MESSAGES, *CONTROL_MESSAGES, *WORKER_MESSAGES} - set(ALL)


@pytest.mark.parametrize("kind", [*ALL, *INSIDE, statuses.Failure])
def test_strategies_fill_optional_fields(kind: type[msgspec.Struct]) -> None:
    """No field that may be left out is left out always, or only ever has its default."""
    names = kind.__struct_fields__[len(kind.__struct_fields__) - len(kind.__struct_defaults__) :]
    plain = plainest(kind)
    quickly = settings(phases=[Phase.generate], database=None, max_examples=5_000)  # any such message; some are rare
    for name in names:
        found = find(samples_of(kind), differs(name, getattr(plain, name)), settings=quickly)
        assert isinstance(found, kind)


def differs(name: str, value: object) -> Callable[[Any], bool]:
    """Return whether a field has another value than this."""
    return lambda message: getattr(message, name) != value


def plainest(kind: type[msgspec.Struct]) -> msgspec.Struct:
    """Return a message whose optional fields are left out."""
    required = [field for field in values.fields_of(kind) if field.required]
    return msgspec.convert([values.simplest(field.type) for field in required], kind)


def samples_of(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Give messages of a type, or failures."""
    if kind is statuses.Failure:
        return strategies.FAILURE
    assert issubclass(kind, wire.Message)
    return strategies.messages(kind).map(lambda sample: sample[0])


@pytest.mark.parametrize("direction", [CLIENT_MESSAGES, NODE_MESSAGES])
def test_types_have_numbers_of_their_own(direction: tuple[type[wire.Message], ...]) -> None:
    """No two messages of one direction share a number, and none is a hint."""
    numbers = [kind.TYPE for kind in direction]
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < wire.HINT


@pytest.mark.parametrize("kind", [*ALL, *INSIDE])
@given(data=st.data())
def test_message_survives_the_way_through_bytes(kind: type[wire.Message], data: st.DataObject) -> None:
    """What is decoded equals what was encoded, and its body fits."""
    message, body = data.draw(strategies.messages(kind))
    decoded = take(encode(message), body)
    assert decoded == message
    assert type(decoded) is kind


@given(strategies.messages())
def test_header_may_be_any_buffer(sample: Sample) -> None:
    """Bytes, bytearrays and memoryviews decode alike."""
    message, _ = sample
    header = encode(message)
    assert DECODER.decode(bytearray(header)) == DECODER.decode(memoryview(header)) == message


@pytest.mark.rule("R25")
def test_decoders_are_made_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several that decode their first message of a type at once, as both of a worker may; else they crash."""
    frame, real, locked = encode(wire.Cancel(0, [1], running=True)), codec._kind, list[bool]()

    def make(kind: type[wire.Message]) -> Any:
        locked.append(codec._making.locked())
        return real(kind)

    monkeypatch.setattr(codec, "_kind", make)
    decode = Decoder((wire.Cancel,)).decode
    assert decode(frame) == decode(frame) == wire.Cancel(0, [1], running=True)
    assert locked == [True]
    assert not codec._making.locked()


def test_decoder_knows_only_its_own_types() -> None:
    """A message out of place is refused."""
    assert Decoder((wire.Beat,)).decode(encode(wire.Beat(1, 2, 3.0))) == wire.Beat(1, 2, 3.0)
    with pytest.raises(ProtocolError, match="out of place"):
        Decoder((wire.Beat,)).decode(encode(wire.Slots(1, 2)))


# --- versions ------------------------------------------------------------------------------


def test_unknown_types_below_64_are_errors() -> None:
    """What must be understood and is not ends the session."""
    with pytest.raises(ProtocolError, match="63 is unknown"):
        DECODER.decode(b"\x01\x3f\x90")


@pytest.mark.parametrize("kind", [64, 127, 255])
def test_unknown_types_from_64_are_ignored(kind: int) -> None:
    """Hints that we do not know are not even looked into."""
    assert DECODER.decode(bytes((wire.PROTOCOL, kind)) + b"\xc1rubbish") is None


@given(strategies.messages(), st.lists(strategies.VALUES, min_size=1, max_size=3))
def test_fields_of_later_revisions_are_ignored(sample: Sample, more: list[Any]) -> None:
    """Trailing fields that we do not know do not matter."""
    message, _ = sample
    fields = [*msgspec.msgpack.decode(encode(message)[2:]), *more]
    assert DECODER.decode(raw(type(message), *fields)) == message


def test_optional_fields_may_be_missing() -> None:
    """Trailing fields with a default need not be sent."""
    assert DECODER.decode(raw(wire.Tasks, 1, 2, [], [], [], [], [])) == wire.Tasks(1, 2, [], [], [], [], [])
    with pytest.raises(ProtocolError):
        DECODER.decode(raw(wire.Tasks, 1, 2, [], [], [], []))


@pytest.mark.rule("R35")
@pytest.mark.parametrize("kind", [wire.Hello, wire.Refused])
@given(data=st.data())
def test_greetings_of_other_versions_are_understood(kind: type[wire.Message], data: st.DataObject) -> None:
    """Whoever speaks another version can be told so, with both versions named."""
    message, _ = data.draw(strategies.messages(kind))
    assert DECODER.decode(b"\x09" + encode(message)[1:]) == message


@given(strategies.messages(*(kind for kind in ALL if kind not in (wire.Hello, wire.Refused))))
def test_other_messages_of_other_versions_are_refused(sample: Sample) -> None:
    """Nothing but a greeting is read from a peer with another version."""
    with pytest.raises(ProtocolError, match="the peer speaks 9, we speak 1"):
        DECODER.decode(b"\x09" + encode(sample[0])[1:])


# --- rubbish -------------------------------------------------------------------------------


@pytest.mark.rule("R43")
@given(st.binary(max_size=200), st.lists(st.binary(max_size=20), max_size=4))
@example(b"", [])
@example(b"\x01", [])
@example(b"\x01\x06", [])
def test_any_bytes_are_refused_or_understood(header: bytes, body: list[Buffer]) -> None:
    """Whatever comes, nothing but a `ProtocolError` is raised."""
    with suppress(ProtocolError):
        take(header, body)


@pytest.mark.rule("R43")
@given(strategies.damaged_headers(), st.lists(st.binary(max_size=20), max_size=4))
def test_damaged_headers_are_refused_or_understood(header: bytes, body: list[Buffer]) -> None:
    """What is nearly right neither, and what is let through keeps its promises."""
    try:
        message = DECODER.decode(header)
        if message is None:
            return
        again = DECODER.decode(encode(message))
    except ProtocolError:
        return
    assert again == message
    try:
        check_body(message, body)
    except ProtocolError:
        return
    if isinstance(message, wire.Tasks):
        rows = split_body(message.sizes, message.buffers, body)
        assert len(rows) == len(message.ids) == len([message.functions[index] for index in message.fns])
        assert all(len(data) for data, _ in rows)


@pytest.mark.rule("R43")
@given(strategies.damaged_bodies())
def test_damaged_bodies_are_refused_or_fit(sample: Sample) -> None:
    """A body is let through only if the header describes it to the last byte."""
    message, body = sample
    try:
        check_body(message, body)
    except ProtocolError:
        return
    match message:
        case wire.Tasks() | wire.Results() | wire.Submit() | wire.Answer() | wire.Items():
            rows = split_body(message.sizes, message.buffers, body)
            used = sum(len(data) + sum(map(len, buffers)) for data, buffers in rows)
            assert used == sum(map(len, body))
        case wire.Output(lines=lines):
            assert [bytes(text).count(b"\n") + 1 for text in body] == [lines]
        case wire.Function() | wire.Module() | wire.Part():
            assert len(body) == 1
        case _:
            assert not body


BAD_HEADERS = [
    ("too long", raw(wire.Beat, 1, 2, 3.0, bytes(wire.MAX_HEADER))),
    ("nothing in it", b"\x01\x06"),
    ("not MessagePack", b"\x01\x06\xc1"),
    ("not an array", b"\x01\x06\x80"),
    ("more than one value", encode(wire.Beat(1, 2, 3.0)) + b"\xc0"),
    ("field missing", raw(wire.Beat, 1, 2)),
    ("negative", raw(wire.Beat, -1, 2, 3.0)),
    *[("bool for a number", raw(wire.Beat, *(True, 2, 3.0))), ("number for a bool", raw(wire.Cancel, 1, [], 1))],
    ("float for an integer", raw(wire.Beat, 1.0, 2, 3.0)),
    ("over 32 bits", raw(wire.Slots, 1, 2**32)),
    ("not a number", raw(wire.Beat, 1, 2, float("nan"))),
    ("endless", raw(wire.Beat, 1, 2, float("inf"))),
    ("negative time", raw(wire.Beat, 1, 2, -1.0)),
    ("long time", raw(wire.Beat, 1, 2, 1.1e9)),
    ("short key", raw(wire.Module, 1, bytes(15), "m")),
    ("long key", raw(wire.Module, 1, bytes(17), "m")),
    ("long name", raw(wire.Module, 1, KEY, "m" * 1025)),
    ("long text", raw(wire.Bye, 1, 2, "m" * (wire.MAX_TEXT + 1))),
    ("no UTF-8", b"\x01\x0c\x93\x01\x02\xa2\xff\xff"),
    ("many ids", raw(wire.Returned, 1, [0] * (wire.MAX_BATCH + 1))),
    ("many modules", raw(wire.Need, 1, [], [KEY] * (wire.MAX_MODULES + 1))),
    ("many nodes", raw(wire.Roster, 1, 0, "", [[0, "", ""]] * 16_385, [1] * 16_385)),
    ("stdin", raw(wire.Output, 1, 2, 0, 0, 0)),
    ("deep", b"\x01\x06\x94\x01\x02\x03" + b"\x91" * 1_000_000 + b"\xc0"),
    ("ids longer", raw(wire.Tasks, 1, 2, [KEY], [1, 2], [0], [1], [0])),
    ("fns longer", raw(wire.Tasks, 1, 2, [KEY], [1], [0, 0], [1], [0])),
    ("sizes longer", raw(wire.Tasks, 1, 2, [KEY], [1], [0], [1, 1], [0])),
    ("buffers longer", raw(wire.Tasks, 1, 2, [KEY], [1], [0], [1], [0, 0])),
    ("retries longer", raw(wire.Tasks, 1, 2, [KEY], [1], [0], [1], [0], [1, 1])),
    ("timeouts longer", raw(wire.Tasks, 1, 2, [KEY], [1], [0], [1], [0], [], [1.0, 1.0])),
    ("absent function", raw(wire.Tasks, 1, 2, [KEY], [1], [1], [1], [0])),
    ("statuses shorter", raw(wire.Results, 1, 2, [1], [], [1], [0], [9])),
    ("elapsed shorter", raw(wire.Results, 1, 2, [1], [0], [1], [0], [])),
    ("ranks longer", raw(wire.Answer, 1, 2, [1], [0], [1], [0], [1, 2])),
    ("names shorter", raw(wire.Submit, 1, 2, [KEY], [1], [0], [1], [0], [], [], [-1], [])),
    ("absent nested function", raw(wire.Submit, 1, 2, [], [1], [0], [1], [0], [], [], [-1], ["f"])),
    ("rank of nobody", raw(wire.Submit, 1, 2, [KEY], [1], [0], [1], [0], [], [], [-3], ["f"])),
    ("item without buffers", raw(wire.Items, *(1, 2, 0, 0, [1], [], False))),
    ("failed without failure", raw(wire.Items, *(1, 2, 0, 0, [], [], True, True))),
    ("slots shorter", raw(wire.Roster, 1, 0, "", [[0, "", ""]], [])),
]


@pytest.mark.rule("R43")
@pytest.mark.parametrize("header", [header for _, header in BAD_HEADERS], ids=[name for name, _ in BAD_HEADERS])
def test_bad_header_is_refused(header: bytes) -> None:
    """A field that is wrong by itself, or does not go with another, is a `ProtocolError`."""
    with pytest.raises(ProtocolError):
        DECODER.decode(header)


@pytest.mark.rule("R43")
@pytest.mark.parametrize(
    "claim",
    [
        pytest.param(b"\x01\x24\x92\x01\xdd\xff\xff\xff\xff", id="list"),
        pytest.param(b"\x01\x24\x92\x01\xdd\x00\x00\x40\x00", id="list of the largest length"),
        pytest.param(b"\x01\x01\x9c\x01\xa0\xdf\xff\xff\xff\xff", id="map"),
        pytest.param(b"\x01\x0c\x93\x01\x02\xdb\xff\xff\xff\xff", id="text"),
        pytest.param(b"\x01\x04\x93\x01\xc6\xff\xff\xff\xff", id="bytes"),
        pytest.param(b"\x01\x06\x94\x01\x02\x03\xdd\xff\xff\xff\xff", id="unknown trailing field"),
        pytest.param(b"\x01\x06\xdd\xff\xff\xff\xff\x01\x02\x03", id="fields"),
    ],
)
def test_claimed_lengths_cost_no_memory(claim: bytes) -> None:
    """A header of some bytes that promises gigabytes is refused before anything is allocated."""
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            DECODER.decode(claim)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_header_that_no_peer_takes_is_not_encoded() -> None:
    """Sizes are checked before anything is sent."""
    names = ["n" * 1000] * 5_000
    empty: list[Any] = []
    with pytest.raises(ProtocolError, match="Submit has a header of"):
        encode(wire.Submit(1, 2, empty, empty, empty, empty, empty, empty, empty, empty, names))


# --- bodies --------------------------------------------------------------------------------

TWO = wire.Tasks(1, 2, [KEY], [7, 8], [0, 0], [3, 0], [0, 2])


@pytest.mark.rule("R43")
@pytest.mark.parametrize(
    ("message", "body"),
    [
        pytest.param(TWO, [], id="no blob"),
        pytest.param(TWO, [b"abc", b"d"], id="buffer missing"),
        pytest.param(TWO, [b"abc", b"d", b"e", b"f"], id="buffer too many"),
        pytest.param(TWO, [b"ab", b"d", b"e"], id="blob too short"),
        pytest.param(TWO, [b"abcd", b"d", b"e"], id="blob too long"),
        pytest.param(wire.Tasks(1, 2, [KEY], [7], [0], [0], [0]), [b""], id="no pickle"),
        pytest.param(wire.Results(1, 2, [7], [0], [2**64 - 1], [0], [0]), [b"abc"], id="endless blob"),
        pytest.param(wire.Function(1, KEY, [], "f"), [], id="no code"),
        pytest.param(wire.Module(1, KEY, "f"), [b"a", b"b"], id="two sources"),
        pytest.param(wire.Beat(1, 2, 3.0), [b""], id="beat with a body"),
        pytest.param(wire.Output(1, 2, 1, 2, 0), [b"line"], id="line missing"),
        pytest.param(wire.Output(1, 2, 1, 1, 0), [b"line\n"], id="line too many"),
        pytest.param(wire.Output(1, 2, 1, 2, 0), [b"one", b"two"], id="line a frame"),
        pytest.param(wire.Output(1, 2, 1, 1, 0), [], id="no lines"),
        pytest.param(wire.Output(1, 2, 1, 32, 0), [b"\n".join([bytes(40_000)] * 32)], id="too many bytes of lines"),
        pytest.param(wire.Output(1, 2, 1, 2, 0), [b"\n" + bytes(wire.MAX_TEXT + 1)], id="long second line"),
        pytest.param(wire.Output(1, 2, 1, 1, 0), [bytes(wire.MAX_TEXT + 1)], id="long line"),
    ],
)
def test_body_that_does_not_fit_is_refused(message: wire.Message, body: list[Buffer]) -> None:
    """The header says how many frames follow and how long they are."""
    with pytest.raises(ProtocolError):
        check_body(message, body)
