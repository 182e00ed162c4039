"""Bytes that workers print, cut into lines; and how many lines may wait for a slow reader.

Lines travel in blocks, joined by newlines: what ten million short lines cost is their bytes.

PURE: bytes and numbers.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Collection

LONGEST: Final = 65_536  # bytes of one line; longer ones are cut
PATIENCE: Final = 0.1  # seconds a line without an end is held back
ROOM: Final = 1_048_576  # bytes of lines that wait for a slow reader; what comes on top is counted and dropped
WINDOW: Final = 1_048_576  # bytes of lines on their way to a client: results behind them wait for no more than these
BATCH: Final = 262_144  # bytes in one message: what others wait for is short, what it costs is little
ENTRY: Final = 100  # bytes of memory that a block takes beside its text
_CONTINUES: Final = range(0x80, 0xC0)  # bytes that go on with a character of UTF-8


class Block(Struct, frozen=True):
    """Lines, joined by newlines."""

    number: int
    text: bytes


class Lines:
    """One output stream of one worker."""

    __slots__ = ("_partial", "_shown", "begun")

    def __init__(self) -> None:
        self._partial = b""
        self.begun = 0  # how many lines have, that were not whole when they came
        self._shown = False  # the line that goes on has been flushed: a newline that comes now ends just that

    @property
    def partial(self) -> bool:
        """Return whether a line has begun and not ended."""
        return bool(self._partial)

    @property
    def open(self) -> bool:
        """Return whether a line has begun of which the end has not come, shown or not."""
        return bool(self._partial) or self._shown

    def feed(self, data: bytes) -> Block | None:
        """Take in bytes; return the lines they complete."""
        if self._shown and data:
            self._shown = False
            data = data.removeprefix(b"\r\n" if data.startswith(b"\r\n") else b"\n")
        text, end, self._partial = (self._partial + data).rpartition(b"\n")
        if len(self._partial) > LONGEST:
            *full, self._partial = _pieces(self._partial)
            text, end = text + end + b"\n".join(full), b"\n"
        if end or self._partial == data:
            self.begun += 1
        return _block(text) if end else None

    def flush(self, *, ended: bool = False) -> Block | None:
        """Return the line that has begun, as if it had ended; ``ended``: whoever has begun it does not go on."""
        line, self._partial = self._partial, b""
        self._shown = not ended and (bool(line) or self._shown)
        return _block(line) if line else None


def _block(text: bytes) -> Block:
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").removesuffix(b"\r")
    if len(text) > LONGEST and any(len(line) > LONGEST for line in text.split(b"\n")):
        text = b"\n".join([piece for line in text.split(b"\n") for piece in _pieces(line)])
    return Block(text.count(b"\n") + 1, text)


def _pieces(line: bytes) -> list[bytes]:
    """Cut a line that is too long, between characters if it is text."""
    pieces: list[bytes] = []
    start = 0
    while len(line) - start > LONGEST:
        end = start + LONGEST
        while line[end] in _CONTINUES and end > start + LONGEST - 3:
            end -= 1
        pieces.append(line[start:end])
        start = end
    return [*pieces, line[start:]]


class Backlog:
    """Lines of a session that cannot be sent for now."""

    __slots__ = ("_blocks", "_size", "dropped")

    def __init__(self) -> None:
        self._blocks: deque[tuple[int, int, Block]] = deque()  # task, stream, lines
        self._size = 0
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._blocks) or self.dropped > 0

    def add(self, task: int, stream: int, block: Block) -> None:
        """Keep the lines while there is room; the oldest make room for the newest."""
        self._blocks.append((task, stream, block))
        self._size += len(block.text) + ENTRY
        while self._size > ROOM:
            _, _, oldest = self._blocks.popleft()
            self._size -= len(oldest.text) + ENTRY
            self.dropped += oldest.number

    def isdisjoint(self, tasks: Collection[int]) -> bool:
        """Return whether no line of these tasks waits, nor one of a task that is not known."""
        return not any(task in tasks or not task for task, _, _ in self._blocks)

    def drop(self) -> None:
        """Drop and count what waits, but for the last line: with that one the number is said."""
        if self._blocks:
            task, stream, last = self._blocks[-1]
            self.dropped += sum(block.number for _, _, block in self._blocks) - 1
            self._blocks.clear()
            self._size = 0
            self.add(task, stream, Block(1, last.text.rpartition(b"\n")[2]))

    def take(self, room: int) -> list[tuple[int, int, int, Block]]:
        """Remove lines of about ``room`` bytes; return (task, stream, dropped before, lines) in order."""
        batches: list[tuple[int, int, int, Block]] = []
        while self._blocks and room > 0:
            key = self._blocks[0][:2]
            count, texts, size = 0, list[bytes](), 0
            while self._blocks and self._blocks[0][:2] == key and size < min(room, BATCH):
                _, _, block = self._blocks.popleft()
                count += block.number
                size += len(block.text) + 1
                self._size -= len(block.text) + ENTRY
                texts.append(block.text)
            room -= size
            batches.append((*key, self.dropped, Block(count, b"\n".join(texts))))
            self.dropped = 0
        return batches
