"""What is kept of a worker's stderr for the error that tells of its end. PURE."""

from __future__ import annotations

from typing import Final

STDERR_LINES: Final = 20  # last lines kept for the error of a crash: a Python traceback's end
STDERR_LINE: Final = 1000  # characters of each
TAIL: Final = 4 * STDERR_LINES * STDERR_LINE  # bytes that may hold them: UTF-8 takes at most 4 a character
_FATAL: Final = "Fatal Python error: "


def last_lines(tail: bytes) -> tuple[str, ...]:
    """Return the last lines of what was printed, each cut to a bearable length."""
    lines = tail.decode(errors="replace").splitlines()
    end = len(lines)
    for index, line in enumerate(lines):
        if line.startswith(_FATAL):  # faulthandler's stack has the crash on top, and may be long
            end = max(STDERR_LINES, index + STDERR_LINES)
    return tuple(line[:STDERR_LINE] for line in lines[:end][-STDERR_LINES:])
