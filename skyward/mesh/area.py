"""Lines at the bottom of a terminal, below everything else that is printed.

While they are there ``sys.stdout`` and ``sys.stderr`` are `_Above`: what is written to them comes above the lines, in
the same write. A line that has begun and not ended, such as a prompt or somebody's own progress bar, has the
terminal for itself: the lines come back with its end. The cursor is never hidden, so that a program that is killed
leaves a terminal that works.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

UP: Final = "\x1b[1A\x1b[2K"  # to the line above, and wipe it


class Area:
    """Some lines of the terminal that stderr is."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may print
        self._lines = ""  # each with its end
        self._height = 0  # of the lines that are on the screen
        self._begun = False  # somebody's line has not ended
        self._streams: dict[str, tuple[_Above, TextIO]] = {}  # by name in `sys`: ours, and what was there
        _areas.add(self)

    def show(self, lines: Sequence[str]) -> None:
        """Show these lines instead of those before."""
        with self._lock:
            if not self._streams:
                self._install()
            self._lines = "".join([f"{line}\n" for line in lines])
            if not self._begun:
                self._write("")

    def clear(self) -> None:
        """Leave nothing on the screen."""
        with self._lock:
            self._lines = ""
            if self._streams:
                self._write("")
            for name, (ours, before) in self._streams.items():
                if getattr(sys, name) is ours:  # else somebody has put something else there
                    setattr(sys, name, before)
            self._streams.clear()
            self._begun = False

    def _install(self) -> None:
        for name in ("stderr", "stdout"):
            stream: TextIO | None = getattr(sys, name)
            if stream is not None and stream.isatty():
                self._streams[name] = above, _ = _Above(self, stream), stream
                setattr(sys, name, above)

    def _write(self, text: str) -> None:
        _, stream = self._streams["stderr"]
        stream.write(self.around(text))
        stream.flush()

    def around(self, text: str) -> str:
        """Return what puts text above the lines."""
        before = "\r" + UP * self._height if self._height else ""
        self._height = 0
        if text:
            self._begun = not text.endswith("\n")
        if self._begun:
            return before + text
        self._height = self._lines.count("\n")
        return before + text + self._lines

    def put(self, stream: TextIO, text: str) -> int:
        """Write somebody's text to one of the streams."""
        with self._lock:
            if not text or not self._streams:  # nothing of ours is there any more
                return stream.write(text)
            stream.write(self.around(text))
            return len(text)

    def forget(self) -> None:
        """In a forked child: the lock may be held by a thread that is not there, and the screen is the parent's."""
        self._lock = threading.RLock()
        self._lines, self._height = "", 0
        for name, (ours, before) in self._streams.items():
            if getattr(sys, name) is ours:
                setattr(sys, name, before)
        self._streams = {}


class _Above:
    """A stream of the user's whose text comes above the area; all else is the stream's own."""

    def __init__(self, area: Area, stream: TextIO) -> None:
        self._area = area
        self._stream = stream

    def write(self, text: str) -> int:
        return self._area.put(self._stream, text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_areas: Final[WeakSet[Area]] = WeakSet()


def _forget_all() -> None:
    for area in list(_areas):
        area.forget()


os.register_at_fork(after_in_child=_forget_all)
