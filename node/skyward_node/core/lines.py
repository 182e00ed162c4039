"""Bytes that workers print, cut into lines; and how many lines may wait for a slow reader.

PURE: bytes and numbers.
"""

from __future__ import annotations

from collections import deque
from typing import Final

LONGEST: Final = 65_536  # bytes of one line; longer ones are cut
PATIENCE: Final = 0.1  # seconds a line without an end is held back
ROOM: Final = 1_048_576  # bytes of lines that wait for a slow reader; what comes on top is counted and dropped
BATCH: Final = 1_024  # lines in one message


class Lines:
    """One output stream of one worker."""

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial = b""

    @property
    def partial(self) -> bool:
        """Return whether a line has begun and not ended."""
        return bool(self._partial)

    def feed(self, data: bytes) -> list[bytes]:
        """Take in bytes; return the lines they complete, without their ends."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) >= LONGEST:
            lines.append(self._partial)
            self._partial = b""
        return [piece for line in lines for piece in _cut(line)]

    def flush(self) -> list[bytes]:
        """Return the line that has begun, as if it had ended."""
        line, self._partial = self._partial, b""
        return _cut(line) if line else []


def _cut(line: bytes) -> list[bytes]:
    if line.endswith(b"\r"):
        line = line[:-1]
    if len(line) <= LONGEST:
        return [line]
    return [line[start : start + LONGEST] for start in range(0, len(line), LONGEST)]


class Backlog:
    """Lines of a session that cannot be sent for now."""

    __slots__ = ("_lines", "_size", "dropped")

    def __init__(self) -> None:
        self._lines: deque[tuple[int, int, bytes]] = deque()  # task, stream, line
        self._size = 0
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._lines) or self.dropped > 0

    def add(self, task: int, stream: int, lines: list[bytes]) -> None:
        """Keep the lines while there is room; the oldest make room for the newest."""
        for line in lines:
            self._lines.append((task, stream, line))
            self._size += len(line) + 1
        while self._size > ROOM:
            self._size -= len(self._lines.popleft()[2]) + 1
            self.dropped += 1

    def take(self) -> list[tuple[int, int, int, list[bytes]]]:
        """Return (task, stream, dropped before, lines) in order, and empty the backlog."""
        batches: list[tuple[int, int, int, list[bytes]]] = []
        for task, stream, line in self._lines:
            if batches and batches[-1][:2] == (task, stream) and len(batches[-1][3]) < BATCH:
                batches[-1][3].append(line)
            else:
                batches.append((task, stream, 0 if batches else self.dropped, [line]))
        self._lines.clear()
        self._size = self.dropped = 0
        return batches
