"""Good messages of every type as frames, from a seed: what a correct peer could send, thousands a second.

Ids, keys and epochs come from a small world, so that messages made independently of each other are about the
same tasks, functions and calls. Values come from the definitions (`values`); what is written here is only
what fields say about each other.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import inspect, msgpack

from skyward.wire import messages as wire
from skyward.wire import statuses
from skyward.wire.clients import Clients
from skyward.wire.kinds import CLIENT_MESSAGES, NODE_MESSAGES
from skyward_node.pipe_messages import CONTROL_MESSAGES, DATA_MESSAGES, WORKER_MESSAGES
from tests.fuzz import values

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

Frames = list[bytes]  # of a message: its header, then its body

EPOCH: Final = 7  # of the small world's node
SESSIONS: Final = tuple(bytes([number]) * 16 for number in range(3))
PICKLE: Final = b"\x80\x05N."  # of None
PYTHON: Final = platform.python_version()
LARGE: Final = 33_000  # bytes: a pickle above `codec.OWN_FRAME`

WIRE_TYPES: Final[tuple[type[wire.Message], ...]] = tuple(dict.fromkeys(CLIENT_MESSAGES + NODE_MESSAGES))
ALL_TYPES: Final[tuple[type[wire.Message], ...]] = tuple(
    dict.fromkeys([*WIRE_TYPES, *DATA_MESSAGES, *CONTROL_MESSAGES, *WORKER_MESSAGES])
)
BY_NUMBER: Final[dict[int, type[wire.Message]]] = {kind.TYPE: kind for kind in ALL_TYPES}

# What most messages of the small world say, so that most are not refused for one and the same reason.
USUAL: Final[dict[str, Callable[[Random], Any]]] = {
    "epoch": lambda _: EPOCH,
    "protocol": lambda _: wire.PROTOCOL,
    "python": lambda _: PYTHON,
    "channel": lambda _: "data",
    "session": lambda random: random.choice(SESSIONS),
    "ack": lambda random: random.choice((0, 0, 0, 0, 0, 0, 1, 2)),
    "seq": lambda random: random.randrange(1, 5),
    "lease": lambda random: random.choice((0.0, 30.0)),
    "heartbeat": lambda random: random.choice((0.0, 0.25)),
    "deadline": lambda _: 30.0,
    "slots": lambda random: random.randrange(4),
    "code": lambda random: random.choice(("version", "session", "full", "protocol", "auth")),
}
USUALLY: Final = 0.97  # how often it does say so
UNIQUE: Final = ("ids", "calls")  # columns whose entries differ
OPTIONAL: Final = ("retries", "timeouts", "counts", "crashes")  # columns that may be left out
BATCHES: Final = (wire.Tasks, wire.Items, wire.Answer, wire.Results, wire.Submit)


class Payloads(NamedTuple):
    """The body of a batch, and the columns that describe it."""

    sizes: list[int]
    buffers: list[int]
    body: list[bytes]


def sample(kind: type[wire.Message], random: Random, epoch: int = EPOCH) -> Frames:
    """Return a good message of a type, most often for the node of this epoch."""
    fields = {field.name: _value(field.name, field.type, random) for field in values.fields_of(kind)}
    if fields.get("epoch") == EPOCH:
        fields["epoch"] = epoch
    body: list[bytes] = []
    if kind in BATCHES:
        body = _fill_batch(fields, kind, random)
    elif kind in (wire.Function, wire.Module, wire.Part):
        body = [random.randbytes(random.randrange(12))]
    elif kind is wire.Output:
        fields["lines"] = random.randrange(1, 4)
        body = [b"\n".join([b"line %d" % number for number in range(fields["lines"])])]
    elif kind is wire.Parcels:
        fields["numbers"] = [random.randrange(1, 5) for _ in fields["frames"]]
    elif kind is Clients:
        fields["labels"] = ["ada" for _ in fields["keys"]]
    elif "members" in fields:
        fields["slots"] = [random.randrange(5) for _ in fields["members"]]
    return [header_of(kind, list(fields.values())), *body]


def header_of(kind: type[wire.Message], fields: list[Any]) -> bytes:
    """Return a frame 0 with these fields, whether or not they are allowed."""
    return bytes((wire.PROTOCOL, kind.TYPE)) + msgpack.encode(fields)


def failure(random: Random) -> bytes:
    """Return a good failure that carries no exception: nothing here is ever unpickled."""
    fields = {field.name: values.good(field.type, random) for field in values.fields_of(statuses.Failure)}
    fields["exception"] = b""
    fields["status"] = random.randrange(12)
    return msgpack.encode(list(fields.values()))


def _value(name: str, type_: inspect.Type, random: Random) -> Any:
    usual = USUAL.get(name)
    if usual is not None and not isinstance(type_, inspect.ListType) and random.random() < USUALLY:
        return usual(random)
    return values.good(type_, random)


# --- batches -------------------------------------------------------------------------------


def _fill_batch(fields: dict[str, Any], kind: type[wire.Message], random: Random) -> list[bytes]:
    """Give all columns of a batch the same length, and the blob and buffers that they describe; return these."""
    count = random.choice((0, 1, 1, 1, 2, 3, 5)) or int(fields.get("failed", False))
    functions = fields.get("functions")
    if functions is not None and count and not functions:
        functions.append(bytes([random.randrange(3)]) * 16)
    for field in values.fields_of(kind):
        if field.name == "shared":
            fields["shared"] = []
        elif isinstance(field.type, inspect.ListType) and field.name != "functions":
            fields[field.name] = _column(field.name, field.type.item_type, count, random)
    if "counts" in fields:
        fields["counts"] = [] if fields.get("stream") else [max(1, count) for count in fields["counts"]]
    if functions is not None:
        fields["fns"] = [random.randrange(len(functions)) for _ in range(count)]
    statuses = fields.get("statuses")
    if statuses is not None and random.random() < USUALLY:
        statuses = fields["statuses"] = [random.choice((0, 0, 0, random.randrange(10))) for _ in range(count)]
    payloads = _payloads(statuses or [0] * count, random)
    fields["sizes"], fields["buffers"] = payloads.sizes, payloads.buffers
    return payloads.body


def _column(name: str, item: inspect.Type, count: int, random: Random) -> list[Any]:
    if name in OPTIONAL and random.random() < 0.5:
        return []
    if name in UNIQUE:
        return random.sample(range(1, 12), count)
    return [values.good(item, random) for _ in range(count)]


def _payloads(statuses: list[int], random: Random) -> Payloads:
    """Return a body with a pickle for each status that is 0, and a failure for each that is not."""
    blob, payloads = bytearray(), Payloads([], [], [b""])
    for status in statuses:
        data = failure(random) if status else PICKLE
        if random.random() < 0.01:
            data = data.ljust(LARGE, b".")
        extra = [random.randbytes(random.randrange(6)) for _ in range(random.choice((0, 0, 0, 1, 2)))]
        if random.random() < 0.2:
            extra.insert(0, data)
            payloads.sizes.append(0)
        else:
            blob += data
            payloads.sizes.append(len(data))
        payloads.buffers.append(len(extra))
        payloads.body.extend(extra)
    payloads.body[0] = bytes(blob)
    return payloads
