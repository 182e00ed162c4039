"""One refused mutant for every field of every message: the definitions of the messages are the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
from msgspec import inspect

from skyward.errors import ProtocolError
from skyward.wire import failures, statuses
from skyward.wire import messages as wire
from skyward.wire.codec import Decoder, check_body
from skyward.wire.frames import REF_SIZE
from skyward.wire.kinds import CLIENT_MESSAGES, NODE_MESSAGES
from skyward_node.pipe_messages import DATA_MESSAGES, WORKER_MESSAGES
from tests.fuzz import values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skyward.wire.frames import Buffer

BETWEEN = CLIENT_MESSAGES + NODE_MESSAGES
ALL: tuple[type[wire.Message], ...] = tuple(dict.fromkeys([*BETWEEN, *DATA_MESSAGES, *WORKER_MESSAGES]))
BATCHES = (wire.Tasks, wire.Items, wire.Answer, wire.Results, wire.Submit)
DECODER = Decoder(ALL)
KEY = b"key-of-function1"


class Mutant(NamedTuple):
    """A message with one thing wrong, and the field that is to blame."""

    kind: type[wire.Message]
    field: str
    label: str
    header: bytes
    body: Sequence[Buffer] = ()
    named: bool = True  # the error can say which field it is

    def __str__(self) -> str:
        return f"{self.kind.__name__}-{self.field}-{self.label}".replace(" ", "_")


def raw(kind: type[wire.Message], fields: Sequence[Any]) -> bytes:
    """Return a frame 0 with these fields, whether or not they are allowed."""
    return bytes((wire.PROTOCOL, kind.TYPE)) + msgspec.msgpack.encode(fields)


def row(kind: type[wire.Message]) -> dict[str, Any]:
    """Return the fields of a message; a batch has one entry."""
    fields = dict(zip(kind.__struct_fields__, values.plain(kind), strict=True))
    for name in columns(kind):
        item = next(field.type for field in values.fields_of(kind) if field.name == name)
        assert isinstance(item, inspect.ListType)
        fields[name] = [values.simplest(item.item_type)]
    if "shared" in fields and kind in BATCHES:
        fields["shared"] = []
    if "counts" in fields:
        fields["counts"] = [1]
    if kind in BATCHES:
        fields["sizes"] = [4]
        if "functions" in fields:
            fields["functions"] = [KEY]
    return fields


def body_of(kind: type[wire.Message]) -> list[Buffer]:
    """Return the body that fits `row`."""
    if kind in BATCHES:
        return [b"\x80\x05N."]
    if kind is wire.Output:
        return [b"line"]
    return [b"code"] if kind in (wire.Function, wire.Module, wire.Part) else []


def columns(kind: type[wire.Message]) -> list[str]:
    """Return the fields that have one value for each entry of a batch: all lists but those about the batch."""
    if kind not in (*BATCHES, wire.Roster, wire.Parcels):
        return []
    lists = [field.name for field in values.fields_of(kind) if isinstance(field.type, inspect.ListType)]
    return [name for name in lists if name not in ("functions", "shared", "kept", "dropped")]


# --- the table -----------------------------------------------------------------------------


def wrong_by_themselves(kind: type[wire.Message]) -> Iterator[Mutant]:
    """Give each field each value that its type does not allow."""
    good = row(kind)
    for field in values.fields_of(kind):
        for label, value in values.bad(field.type):
            header = raw(kind, list((good | {field.name: value}).values()))
            yield Mutant(kind, field.name, label, header, named="no UTF-8" not in label)


def wrong_in_length(kind: type[wire.Message]) -> Iterator[Mutant]:
    """Give each column one entry more and one less than the others have; and leave out each field."""
    good = row(kind)
    for name in columns(kind):
        longer, empty = good | {name: good[name] * 2}, good | {name: []}
        yield Mutant(kind, name, "one more", raw(kind, list(longer.values())))
        if name not in ("retries", "timeouts", "counts", "crashes"):  # these may be left out
            yield Mutant(kind, name, "one less", raw(kind, list(empty.values())))
    required = sum(field.required for field in values.fields_of(kind))
    for count in range(required):
        name = kind.__struct_fields__[count]
        yield Mutant(kind, name, "left out", raw(kind, list(good.values())[:count]), named=False)


def wrong_together() -> Iterator[Mutant]:
    """Give fields that contradict each other or the body."""
    for kind in BATCHES:
        good, body = row(kind), body_of(kind)
        for field, label, changes, frames in (
            ("sizes", "blob too short", {"sizes": [5]}, body),
            ("sizes", "blob too long", {"sizes": [3]}, body),
            ("sizes", "no pickle", {"sizes": [0]}, [b""]),
            ("sizes", "endless", {"sizes": [2**64 - 1]}, body),
            ("buffers", "frame missing", {"buffers": [1]}, body),
            ("buffers", "frame too many", {"buffers": [0]}, [*body, b""]),
            ("buffers", "no pickle", {"sizes": [0], "buffers": [0]}, [b""]),
        ):
            yield Mutant(kind, field, label, raw(kind, list((good | changes).values())), frames)
        yield many_buffers(kind)
    for kind in (wire.Tasks, wire.Submit):
        yield Mutant(kind, "fns", "absent function", raw(kind, list((row(kind) | {"fns": [1]}).values())))
        yield Mutant(kind, "fns", "no function", raw(kind, list((row(kind) | {"functions": []}).values())))
    for kind in (wire.Tasks, wire.Results):
        for label, shared in (("the blob", [0]), ("no frame", [2]), ("twice", [1, 1]), ("wrong size", [1])):
            fields = row(kind) | {"buffers": [1], "shared": shared}
            yield Mutant(kind, "shared", label, raw(kind, list(fields.values())), [*body_of(kind), b"buffer"])
        fields = row(kind) | {"sizes": [0], "buffers": [1], "shared": [1]}
        yield Mutant(kind, "shared", "a pickle", raw(kind, list(fields.values())), [b"", bytes(REF_SIZE)])
    none = raw(wire.Tasks, list((row(wire.Tasks) | {"counts": [0]}).values()))
    yield Mutant(wire.Tasks, "counts", "no call", none, body_of(wire.Tasks))
    for stream, count in ((1, 1), (0, 0)):
        fields = row(wire.Items) | {"stream": stream, "counts": [count]}
        header = raw(wire.Items, list(fields.values()))
        yield Mutant(wire.Items, "counts", f"{count} of stream {stream}", header, body_of(wire.Items))
    failed = row(wire.Items) | {"sizes": [], "buffers": [], "counts": [], "failed": True}
    yield Mutant(wire.Items, "failed", "without a failure", raw(wire.Items, list(failed.values())))
    two = raw(wire.Output, list((row(wire.Output) | {"lines": 2}).values()))
    yield Mutant(wire.Output, "lines", "line missing", two, [b"one"])
    yield Mutant(wire.Output, "lines", "line too many", two, [b"one\ntwo\nthree"])


def many_buffers(kind: type[wire.Message]) -> Mutant:
    """Return a batch that has more buffers than a message may have, each of its entries being right by itself."""
    good = row(kind)
    half = wire.MAX_BUFFERS // 2 + 1
    twice = {name: good[name] * 2 for name in columns(kind)} | {"buffers": [half, half]}
    body = [b"\x80\x05N." * 2, *[b""] * (2 * half)]
    return Mutant(kind, "buffers", "too many together", raw(kind, list((good | twice).values())), body)


def mutants(kind: type[wire.Message]) -> Iterator[Mutant]:
    """Give all mutants of a type that are made from its definition."""
    yield from wrong_by_themselves(kind)
    yield from wrong_in_length(kind)


# --- tests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_message_without_the_mutation_is_taken(kind: type[wire.Message]) -> None:
    """What the mutants are made of is good, so that the mutation alone is what is refused."""
    message = DECODER.decode(raw(kind, list(row(kind).values())))
    assert message is not None
    check_body(message, body_of(kind))


@pytest.mark.rule("R43")
@pytest.mark.parametrize("kind", ALL)
def test_mutant_of_each_field_is_refused_by_name(kind: type[wire.Message]) -> None:
    """Whatever the type of a field does not allow is a `ProtocolError` that says which field it is."""
    seen: set[str] = set()
    for mutant in mutants(kind):
        refuse(mutant)
        seen.add(mutant.field)
    assert seen == set(kind.__struct_fields__), "a field without a mutant"


@pytest.mark.rule("R43")
@pytest.mark.parametrize("mutant", list(wrong_together()), ids=str)
def test_mutant_of_fields_that_disagree_is_refused_by_name(mutant: Mutant) -> None:
    """What fields say about each other, or about the body, is checked like what they say by themselves."""
    refuse(mutant)


def refuse(mutant: Mutant) -> None:
    """Take in a mutant as a receiver does; fail unless it is refused for the right reason."""
    with pytest.raises(ProtocolError) as caught:
        take(mutant)
    text = str(caught.value)
    assert mutant.kind.__name__ in text or mutant.body
    assert mutant.field in text or not mutant.named, mutant


def take(mutant: Mutant) -> None:
    """Do what a receiver does with every message."""
    message = DECODER.decode(mutant.header)
    assert message is not None
    check_body(message, mutant.body)


@pytest.mark.parametrize("field", values.fields_of(statuses.Failure), ids=lambda field: field.name)
def test_mutant_of_a_failure_is_reported_as_malformed(field: inspect.Field) -> None:
    """A failure with a field that its type does not allow is a failure that says so, with the field's place."""
    names = statuses.Failure.__struct_fields__
    good = values.plain(statuses.Failure)
    index = names.index(field.name)
    assert failures.decode(msgspec.msgpack.encode(good)).type_name != "ProtocolError"
    for label, value in values.bad(field.type):
        failure = failures.decode(msgspec.msgpack.encode([*good[:index], value, *good[index + 1 :]]))
        assert failure.type_name == "ProtocolError", label
        assert f"$[{index}]" in failure.message or label.endswith("no UTF-8")
