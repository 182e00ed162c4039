"""The daemon's log: events with fields, one a line, on stderr or in a file; and never a reason to wait.

structlog is imported at the first event that passes the level, and in a thread: it costs 90 ms and more,
which a daemon must spend neither before it serves nor between two heartbeats. Events wait meanwhile. A
reader that does not read loses lines, and is told how many once it reads again.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

LINE: Final = 4_096  # bytes: what a pipe that is said to be writable takes at once (PIPE_BUF)
EARLY: Final = 1_000  # events kept while structlog is imported
AGAIN: Final = 0.2  # seconds until it is tried again, where there were no descriptors for it
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

KEPT: Final = 16 * 2**20  # bytes of a log file; then it becomes the one before, of which one is kept
PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3}  # of syslog: the journal reads them

Format = Literal["console", "json", "journal"]


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


class FileSink(Sink):
    """Writes lines to a file, which is also where our stdout and stderr go from now on; its size is bounded."""

    def __init__(self, path: str, kept: int = KEPT) -> None:
        """Open it; raises `OSError`. What is there already is kept."""
        super().__init__(2)
        self._path = path
        self._kept = kept
        self._size = self._open()

    def _open(self) -> int:
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for ours in (1, 2):
                os.dup2(fd, ours)
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def write(self, line: str) -> bool:
        """Write the line, after a change of files if this one is full."""
        if self._size > self._kept:
            try:
                os.replace(self._path, f"{self._path}.1")
                self._size = self._open()
            except OSError:  # a directory that is gone or not ours any more: this file grows on
                self._size = 0
        written = super().write(line)
        self._size += len(line)
        return written


class Logger:
    """Logs events of one daemon. ``fields`` stand on each line."""

    def __init__(self, level: str, format: Format, sink: Sink, **fields: Any) -> None:
        self._level = LEVELS[level.lower()]
        self._format: Format = format
        self._sink = sink
        self._fields = fields
        self._render: Callable[[str, dict[str, Any]], str] | None = None
        self._lock = threading.Lock()  # of the three below, until there is a renderer
        self._early: deque[tuple[str, dict[str, Any]]] = deque(maxlen=EARLY)
        self._importer: threading.Thread | None = None

    def log(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """Write the event, if its level passes."""
        if LEVELS[level.lower()] < self._level:
            return
        line = {"timestamp": _now(), "event": event, **self._fields, "task": None, **fields}
        render = self._render
        if render is None:
            with self._lock:
                render = self._render
                if render is None:
                    self._early.append((level, line))
                    self._start_importer()
                    return
        self._write(render, level, line)

    def close(self, timeout: float) -> None:
        """Write what waits; give up after ``timeout`` seconds."""
        if self._importer is not None:
            self._importer.join(timeout)

    def _start_importer(self) -> None:
        if self._importer is None:
            self._importer = threading.Thread(target=self._import, name="skyward-log", daemon=True)
            self._importer.start()

    def _import(self) -> None:
        while (render := _renderer_or_none(self._format)) is None:
            time.sleep(AGAIN)
        with self._lock:
            for level, line in self._early:
                self._write(render, level, line)
            self._early.clear()
            self._render = render

    def _write(self, render: Callable[[str, dict[str, Any]], str], level: str, line: dict[str, Any]) -> None:
        dropped = self._sink.dropped
        if dropped:
            notice = {"timestamp": _now(), "event": "log lines were dropped", "count": dropped, **self._fields}
            if not self._sink.write(render("warning", notice)):
                return
            self._sink.dropped = 0
        self._sink.write(render(level, line))


def _renderer_or_none(format: Format) -> Callable[[str, dict[str, Any]], str] | None:
    try:
        return _renderer(format)
    except ModuleNotFoundError:  # it is not installed, and will not come by itself
        raise
    except (OSError, ImportError):  # no descriptor is free to read the modules with, or to load one that is in C
        return None


def _now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"


def _renderer(format: Format) -> Callable[[str, dict[str, Any]], str]:
    if format == "journal":
        return _for_the_journal
    import structlog

    name_level = structlog.processors.add_log_level
    show: Callable[..., Any] = (
        structlog.processors.JSONRenderer(default=repr)
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )

    def render(level: str, fields: dict[str, Any]) -> str:
        return str(show(None, level, name_level(None, level, fields)))

    return render


def _for_the_journal(level: str, fields: dict[str, Any]) -> str:
    """Return a line with its priority in front; it has the time, and says which process it was, by itself."""
    own = ("timestamp", "event", "node")
    words = [f"{name}={value}" for name, value in fields.items() if name not in own and value is not None]
    return f"<{PRIORITIES[level]}>" + " ".join([str(fields["event"]), *words])
