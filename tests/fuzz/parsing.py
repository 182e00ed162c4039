"""Targets that parse: headers and bodies of messages, streams of pipes, failures.

Each does what its user in the source does with bytes from a peer, and checks what the source promises: the
only exception is `ProtocolError`, and what was let through means the same on the way back.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from skyward.errors import ProtocolError
from skyward.wire import failures, pipe
from skyward.wire import messages as wire
from skyward.wire.codec import Decoder, check_body, encode, mark_refs, pack_body, split_body
from skyward.wire.frames import Payload, shared_among
from skyward.wire.kinds import CLIENT_MESSAGES, NODE_MESSAGES
from skyward.wire.pipe import Unpacker
from skyward_node.pipe_messages import CONTROL_MESSAGES, DATA_MESSAGES, WORKER_MESSAGES
from tests.fuzz.samples import ALL_TYPES, failure, sample

if TYPE_CHECKING:
    from random import Random

    from skyward.wire.frames import Buffer
    from tests.fuzz.script import Step

Sharing = wire.Tasks | wire.Results | wire.Items
Batch = wire.Tasks | wire.Results | wire.Submit | wire.Answer | wire.Items

DECODERS: Final = (
    Decoder(CLIENT_MESSAGES),
    Decoder(NODE_MESSAGES),
    Decoder(DATA_MESSAGES),
    Decoder(CONTROL_MESSAGES),
    Decoder(WORKER_MESSAGES),
)


def views(frames: list[bytes]) -> list[Buffer]:
    """Return the frames of a body as they come from a socket: the blob as bytes, the rest as views."""
    rest: list[Buffer] = [memoryview(bytearray(frame)) for frame in frames[1:]]
    return [*frames[:1], *rest]


# --- messages ------------------------------------------------------------------------------


def make_message(random: Random) -> Step:
    """Return a step for `run_messages`."""
    return [bytes([random.randrange(len(DECODERS))]), *sample(random.choice(ALL_TYPES), random)]


def run_messages(steps: list[Step]) -> None:
    """Take in messages as a node, a client or a worker does."""
    for control, *frames in steps:
        if frames:
            number = control[0] if control else 0
            take_message(DECODERS[number % len(DECODERS)], frames[0], views(frames[1:]))


def take_message(decoder: Decoder, header: bytes, body: list[Buffer]) -> wire.Message | None:
    """Take in one message; None if it is refused or ignored."""
    try:
        message = decoder.decode(header)
        if message is None:
            return None
        check_body(message, body)
    except ProtocolError as error:
        check_refusal(error)
        return None
    check_message(decoder, message, body)
    return message


def check_refusal(error: ProtocolError) -> None:
    """Check that the other side can be told."""
    assert len(str(error)) < wire.MAX_TEXT


def check_message(decoder: Decoder, message: wire.Message, body: list[Buffer]) -> None:
    """Check what the codec promises of a message that it let through."""
    assert decoder.decode(encode(message)) == message
    if not isinstance(message, Batch):
        return
    if isinstance(message, Sharing):
        mark_refs(message, body)
    rows = split_body(message.sizes, message.buffers, body)
    assert sum(len(data) + sum(map(len, buffers)) for data, buffers in rows) == sum(map(len, body))
    columns: Any = message
    for name in ("ids", "calls", "statuses", "fns", "ranks", "elapsed", "names"):
        assert len(getattr(columns, name, rows)) == len(rows)
    if isinstance(message, wire.Tasks | wire.Submit):
        assert all(fn < len(message.functions) for fn in message.fns)
    sizes, buffers, again = pack_body([Payload(*row) for row in rows])
    refs = {"shared": shared_among(again)} if isinstance(message, Sharing) else {}
    check_body(replace(message, sizes=sizes, buffers=buffers, **refs), again)
    assert split_body(sizes, buffers, again) == rows


# --- streams -------------------------------------------------------------------------------

PACKED, RAW, ZEROS, CLAIM = range(4)  # what a step of a stream does with its frames
COPIED: Final = 128  # added to it in the first step: large frames, too, come through `feed`
COUNTS: Final = (1, 1, 1, 2, 0, pipe.MAX_COUNT, pipe.MAX_COUNT + 1, 2**32 - 1)  # frames that a message claims
LIMITS: Final = (2**40, 1_000, 70_000, 2**64)  # bytes of a frame; the first is a daemon's
CHUNKS: Final = (1, 3, 8, 17, 1_000, 65_536, 10**7)  # bytes that come at once
MOST_ZEROS: Final = 4_300_000  # bytes: just above what makes a frame a mapping of its own


def make_stream(random: Random) -> Step:
    """Return a step for `run_stream`."""
    kind = random.choice((PACKED, PACKED, PACKED, RAW, ZEROS, CLAIM))
    control = bytes([kind + random.choice((0, COPIED)), *random.randbytes(3)])
    if kind in (ZEROS, CLAIM):
        size = random.choice(
            (0, 1, 65_535, 65_536, pipe.MAPPED - 1, pipe.MAPPED, 2**40, 2**63, random.randrange(10**5))
        )
        return [control, size.to_bytes(8, "big"), random.choice(COUNTS).to_bytes(4, "big")]
    return [control, *sample(random.choice(WORKER_MESSAGES), random)]


def stream_of(steps: list[Step]) -> bytes:
    """Return the bytes that the steps of a script put on a pipe."""
    stream: list[Buffer] = []
    for control, *frames in steps:
        kind = control[0] % 4 if control else RAW
        joined = b"".join(frames).ljust(12, b"\x00")
        number, count = int.from_bytes(joined[:8], "big"), joined[8:12]
        if kind == PACKED:
            with suppress(ProtocolError):  # without a frame it is no message
                stream += pipe.pack(frames)
        elif kind == ZEROS:
            stream.append(bytes(number % MOST_ZEROS))
        elif kind == CLAIM:  # the prefix of a message with a frame of so many bytes
            stream.append(pipe.MAGIC + count + number.to_bytes(8, "big"))
        else:
            stream += frames
    return b"".join(stream)


def run_stream(steps: list[Step]) -> None:
    """Take in a stream as a daemon does, in chunks, and as a whole: it means the same."""
    control = steps[0][0].ljust(4, b"\x00") if steps else bytes(4)
    limit = LIMITS[control[1] % len(LIMITS)]
    stream = stream_of(steps)
    chunks = [CHUNKS[byte % len(CHUNKS)] for byte in control[2:]]
    if len(stream) > 100_000:  # a byte at a time shows nothing more, and takes for ever
        chunks = [max(chunk, 1_000) for chunk in chunks]
    pieces = read(Unpacker(limit), stream, chunks, in_place=control[0] < COPIED)
    assert read(Unpacker(limit), stream, [len(stream) + 1], in_place=False) == pieces


def read(unpacker: Unpacker, stream: bytes, chunks: list[int], *, in_place: bool) -> tuple[list[list[bytes]], bool]:
    """Return the messages of a stream, and whether there was rubbish after them."""
    rest = memoryview(stream)
    for size in cycle(chunks):
        if not rest:
            break
        place = unpacker.want() if in_place else None
        try:
            if place is None:
                unpacker.feed(bytes(rest[:size]))
            else:
                size = min(size, len(place), len(rest))  # noqa: PLW2901 - what the socket has given
                place[:size] = rest[:size]
                unpacker.filled(size)
        except ProtocolError:
            assert_broken(unpacker)
            return whole(unpacker), True
        rest = rest[size:]
    return whole(unpacker), False


def whole(unpacker: Unpacker) -> list[list[bytes]]:
    """Return the messages that are complete, in a form that can be compared."""
    return [[bytes(frame) for frame in message] for message in unpacker.messages()]


def assert_broken(unpacker: Unpacker) -> None:
    """Check that nothing is accepted after rubbish."""
    try:
        unpacker.feed(b"".join(pipe.pack([b"message"])))
    except ProtocolError:
        return
    raise AssertionError("a message is taken after rubbish")


# --- failures ------------------------------------------------------------------------------


def make_failure(random: Random) -> Step:
    """Return a step for `run_failures`."""
    return [b"", failure(random)]


def run_failures(steps: list[Step]) -> None:
    """Take in failures as a client does. What they carry is never unpickled."""
    for _, *frames in steps:
        for frame in frames:
            found = failures.decode(frame)
            data = failures.encode(replace(found, exception=b""))
            assert failures.decode(data) == replace(found, exception=b"")
            error = failures.to_exception(data, function="f", node=1, task=2)
            assert isinstance(error, BaseException)
            assert str(error) or repr(error)
