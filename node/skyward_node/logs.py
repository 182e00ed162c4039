"""The daemon's log: events with fields, one a line, on stderr; and never a reason to wait.

structlog is imported at the first event that passes the level: it costs some 90 ms, which a daemon
must not spend before it serves. A reader that does not read loses lines, and is told how many once
it reads again.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

LINE: Final = 4_096  # bytes: what a pipe that is said to be writable takes at once (PIPE_BUF)
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

Format = Literal["console", "json"]


class Sink:
    """Writes lines to a descriptor that may be blocked."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.dropped = 0

    def write(self, line: str) -> bool:
        """Write the line, cut to `LINE` bytes, unless that would block; return whether it was written."""
        data = line.encode(errors="replace")[: LINE - 1] + b"\n"
        try:
            _, writable, _ = select.select([], [self._fd], [], 0)
            if writable and os.write(self._fd, data) == len(data):
                return True
        except (OSError, ValueError):  # closed, or its reader is gone
            pass
        self.dropped += 1
        return False


class Logger:
    """Logs events of one daemon. ``fields`` stand on each line."""

    def __init__(self, level: str, format: Format, sink: Sink, **fields: Any) -> None:
        self._level = LEVELS[level.lower()]
        self._format: Format = format
        self._sink = sink
        self._fields = fields
        self._render: Callable[[str, dict[str, Any]], str] | None = None

    def log(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """Write the event, if its level passes."""
        if LEVELS[level.lower()] < self._level:
            return
        if self._render is None:
            self._render = _renderer(self._format)
        dropped = self._sink.dropped
        if dropped:
            lost = self._render("warning", {"event": "log lines were dropped", "count": dropped, **self._fields})
            if not self._sink.write(lost):
                return
            self._sink.dropped = 0
        self._sink.write(self._render(level, {"event": event, **self._fields, "task": None, **fields}))


def _renderer(format: Format) -> Callable[[str, dict[str, Any]], str]:
    import structlog

    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    name_level = structlog.processors.add_log_level
    show: Callable[..., Any] = (
        structlog.processors.JSONRenderer(default=repr)
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )

    def render(level: str, fields: dict[str, Any]) -> str:
        return str(show(None, level, stamp(None, level, name_level(None, level, fields))))

    return render
