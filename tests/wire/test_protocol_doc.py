"""``docs/protocol.md`` and the code say the same, to the byte."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import pytest
from msgspec import inspect

from skyward.wire import bundles, clients, lone, statuses
from skyward.wire import messages as wire
from skyward.wire.bundles import State
from skyward.wire.codec import Decoder, check_body, encode
from skyward.wire.frames import REF_SIZE
from skyward.wire.kinds import CLIENT_MESSAGES, NODE_MESSAGES
from skyward.wire.lone import Small
from skyward.wire.parcels import LARGEST, SIZE
from skyward.wire.pipe import MAX_COUNT, Unpacker, pack
from skyward_node.core.intake import BESIDE
from skyward_node.pipe_messages import MAX_UP

DOC: Final = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
ALL: Final = tuple(dict.fromkeys(CLIENT_MESSAGES + NODE_MESSAGES))
BY_NAME: Final = {kind.__name__.upper(): kind for kind in ALL}
_MODULES: Final = vars(wire) | vars(lone) | vars(bundles) | vars(clients) | vars(statuses)
NAMES: Final = {name: value for name, value in _MODULES.items() if isinstance(value, type)}


def examples(language: str) -> list[tuple[str, str]]:
    """Return each Python expression of the document that is followed by bytes in ``language``."""
    return re.findall(rf"```python\n([^`]*)\n```\n\n```{language}\n([^`]*)\n```", DOC)


def frames_of(text: str) -> list[bytes]:
    """Return the frames of a hex block: a number starts a frame, other lines continue it."""
    frames: list[bytes] = []
    for line in text.splitlines():
        number, colon, rest = line.partition(":")
        if colon:
            assert int(number) == len(frames)
            frames.append(bytes.fromhex(rest))
        else:
            frames[-1] += bytes.fromhex(line)
    return frames


def value_of(expression: str) -> Any:
    """Return the message that an example of the document shows."""
    return eval(expression, {"__builtins__": {}}, NAMES)  # noqa: S307 (the text is our own documentation)


def rows_of(section: str) -> list[tuple[str, ...]]:
    """Return the cells of the table rows of a section that begin with a number."""
    lines = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)
    rows = [tuple(cell.strip() for cell in line.split("|")) for line in lines]
    return [row for row in rows if row[0].isdigit()]


def section(title: str) -> str:
    """Return what stands under a heading, up to the next one."""
    match = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", DOC, re.DOTALL | re.MULTILINE)
    assert match is not None, f"{title} is not in the document"
    return match[1]


@pytest.mark.parametrize(("expression", "hexes"), examples("hex"))
def test_example_has_the_bytes_of_the_codec(expression: str, hexes: str) -> None:
    """An example of the document encodes to its bytes, and these decode to it."""
    message, (header, *body) = value_of(expression), frames_of(hexes)
    assert encode(message).hex(" ") == header.hex(" ")
    assert Decoder(ALL).decode(header) == message
    check_body(message, body)


@pytest.mark.parametrize("name", BY_NAME)
def test_every_message_has_an_example(name: str) -> None:
    """The section of a message shows it."""
    kind = BY_NAME[name]
    (expression,) = re.findall(r"```python\n(.*?)\n```", section(f"{kind.TYPE} {name}"), re.DOTALL)
    assert type(value_of(expression)) is kind


@pytest.mark.parametrize("name", BY_NAME)
def test_fields_are_those_of_the_code(name: str) -> None:
    """The section of a message lists its fields in the order of the header."""
    kind = BY_NAME[name]
    fields = [f"`{field}`" for field in kind.__struct_fields__]
    rows = rows_of(section(f"{kind.TYPE} {name}"))
    assert [(int(row[0]), row[1]) for row in rows] == list(enumerate(fields, 1))
    optional = [row[1] for row in rows if row[3].startswith("optional")]
    assert optional == fields[len(fields) - len(kind.__struct_defaults__) :]


# What a word of the tables' third column is in the code.
WORDS: Final[dict[str, Any]] = {
    "u64": wire.U64,
    "u32": wire.U32,
    "byte": wire.Byte,
    "count": Annotated[int, msgspec.Meta(ge=0, le=65_536)],
    "index": Annotated[int, msgspec.Meta(ge=0, lt=16_384)],
    "seconds": Annotated[float, msgspec.Meta(ge=0.0, le=1e9)],
    "bool": bool,
    "small": Small,
    "state": State,
    "key": Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)],
    "name": Annotated[str, msgspec.Meta(max_length=1_024)],
    "public key": wire.PublicKey,
    "text": Annotated[str, msgspec.Meta(max_length=65_536)],
    "bin": bytes,
    "bin, at most 64": Annotated[bytes, msgspec.Meta(max_length=64)],
    "member": wire.Member,
    "1 or 2": Annotated[int, msgspec.Meta(ge=1, le=2)],
    "1 … 1,048,576": Annotated[int, msgspec.Meta(ge=1, le=1_048_576)],
    "0 … 128": Annotated[int, msgspec.Meta(ge=0, le=128)],
    "\N{MINUS SIGN}1 … 2³¹": Annotated[int, msgspec.Meta(ge=-1, le=2**31)],
    "\N{MINUS SIGN}1 … 16,383": Annotated[int, msgspec.Meta(ge=-1, lt=16_384)],
    "{name: name}, at most 256": wire.Versions,
}


def type_of(words: str, note: str) -> inspect.Type:
    """Return the type that a row of a table says a field has."""
    if words == "u32" and "(below 65,536)" in note:
        return inspect.IntType(ge=0, lt=65_536)
    if not words.startswith("["):
        return inspect.type_info(WORDS[words])
    element = words[1:-1]
    bound = re.search(r"at most ([\d,]+)$", note)
    most = int(bound[1].replace(",", "")) if bound else 65_536 if element == "key" else 16_384
    return inspect.ListType(inspect.type_info(WORDS[element]), max_length=most)


def test_types_of_fields_are_those_of_the_code() -> None:
    """What the tables say that a field may be is what is checked when it comes."""
    kinds = {f"{kind.TYPE} {name}": kind for name, kind in BY_NAME.items()} | {"13. Failures": statuses.Failure}
    for title, kind in kinds.items():
        described = inspect.type_info(kind)
        assert isinstance(described, inspect.StructType)
        rows = [row for row in rows_of(section(title)) if row[1].startswith("`")]
        found = {field.name: field.type for field in described.fields}
        assert found == {row[1].strip("`"): type_of(row[2], row[3]) for row in rows}, title


def test_table_of_types_is_that_of_the_code() -> None:
    """Numbers, names, directions and bodies of all types are in the table."""
    rows = [row[:4] for row in rows_of(section("5. Types"))]
    assert rows == [(str(kind.TYPE), name, sender(kind), body(kind)) for name, kind in by_number()]


def by_number() -> list[tuple[str, type[wire.Message]]]:
    """Return names and types in the order of their numbers."""
    return sorted(BY_NAME.items(), key=lambda item: item[1].TYPE)


def sender(kind: type[wire.Message]) -> str:
    """Return who may send a message."""
    ends = [end for end, kinds in (("client", CLIENT_MESSAGES), ("node", NODE_MESSAGES)) if kind in kinds]
    return "both" if len(ends) == 2 else ends[0]


def body(kind: type[wire.Message]) -> str:
    """Return what kind of body a message has."""
    if "buffers" in kind.__struct_fields__:
        return "batch"
    if kind is wire.Output:
        return "lines"
    return "one" if kind in (wire.Function, wire.Module, wire.Part) else "none"


def test_failure_is_that_of_the_code() -> None:
    """Statuses, fields and the bytes of a failure are as documented."""
    rows = rows_of(section("13. Failures"))
    names = ["OK", "RAISED", "CRASHED", "TIMED_OUT", "CANCELLED", "TOO_LARGE", "UNSERIALIZABLE", "IMPORT_FAILED"]
    names += ["NODE_LOST", "REFUSED", "MIXED"]
    assert [(int(row[0]), row[1]) for row in rows[: len(names)]] == [(getattr(statuses, name), name) for name in names]
    assert [row[1].strip("`") for row in rows[len(names) :]] == list(statuses.Failure.__struct_fields__)
    ((expression, hexes),) = examples("msgpack")
    failure, data = value_of(expression), bytes.fromhex(hexes)
    assert msgspec.msgpack.encode(failure).hex(" ") == data.hex(" ")
    assert msgspec.msgpack.decode(data, type=statuses.Failure) == failure


def test_pipe_has_the_bytes_of_the_code() -> None:
    """The framing of pipes is as documented."""
    ((expression, hexes),) = examples("pipe")
    data = bytes.fromhex(hexes)
    frames = [encode(value_of(expression))]
    assert b"".join(pack(frames)) == data
    unpacker = Unpacker(1000)
    unpacker.feed(data)
    assert unpacker.messages() == [frames]


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (wire.PROTOCOL, "| 0 | protocol version: {} |"),
        (wire.MAX_BATCH, "| [type] | array | at most {} elements"),
        (wire.MAX_BATCH - 1, "| index | integer | 0 … {} |"),
        (wire.MAX_BUFFERS, "a message at most {} buffers"),
        (REF_SIZE, "a reference of {} bytes"),
        (SIZE // 2**20, "a piece has at most {} MiB"),
        (LARGEST // 2**20, "frame of more than {} MiB"),
        (wire.MAX_BUFFERS, "| count | integer | 0 … {} |"),
        (wire.MAX_MODULES, "[key]: {} |"),
        (wire.MAX_TEXT, "| text | UTF-8 str | at most {} characters |"),
        (wire.MAX_HEADER // 2**20, "A header has at most {} MiB"),
        (BESIDE // 2**10, "MUST leave {} KiB of the 4 MiB"),
        (wire.MAX_HEADER - MAX_UP, "at most 4 MiB less {} bytes"),
        (wire.HINT, "A type below {} that"),
        (MAX_COUNT, "number of frames, 1 … {} |"),
    ],
)
def test_bounds_are_those_of_the_code(number: int, sentence: str) -> None:
    """Every bound of the protocol stands in the document."""
    assert sentence.format(f"{number:,}") in DOC
