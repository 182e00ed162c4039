"""What is kept of a worker's stderr for the error that tells of its end. PURE."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

STDERR_LINES: Final = 20  # last lines kept for the error of a crash: a Python traceback's end
STDERR_LINE: Final = 1000  # characters of each
TAIL: Final = 4 * STDERR_LINES * STDERR_LINE  # bytes that may hold them: UTF-8 takes at most 4 a character
OWN_LINES: Final = STDERR_LINES // 2  # of these at least were printed before a fatal error, however long its stack
_FATAL: Final = "Fatal Python error: "
_FRAME: Final = '  File "'
_BELOW: Final = re.compile(r'  File "(.*/skyward_node/.*", line \d+ in |<string>", line \d+ in <module>)')  # a task


def last_lines(tail: bytes) -> tuple[str, ...]:
    """Return the last lines of what was printed, each cut to a bearable length."""
    lines = tail.decode(errors="replace").splitlines()
    end = len(lines)
    fatal = max((index for index, line in enumerate(lines) if line.startswith(_FATAL)), default=end)
    if fatal < end:  # faulthandler's stack has the crash on top, and may be long
        lines[fatal:] = _of_the_user(lines[fatal:])
        end = max(STDERR_LINES, fatal + STDERR_LINES - min(fatal, OWN_LINES))
    return tuple(line[:STDERR_LINE] for line in lines[:end][-STDERR_LINES:])


def _of_the_user(dump: Sequence[str]) -> list[str]:
    """Return a dump without the frames below the task and the list of modules, which are the same in each."""
    told = [line for line in dump if not line.startswith("Extension modules: ")]
    while told and not told[-1]:
        told.pop()
    end = len(told)
    while end and _BELOW.match(told[end - 1]):
        end -= 1
    in_a_task = end and told[end - 1].startswith((_FRAME, "  ..."))
    return told[:end] if in_a_task else told  # a crash of our own shows where it was
