"""Lines at the bottom of a terminal, below everything else that is printed. The user's text is sacred, they are not.

They stand below the row of the cursor, which goes back to where it was: whoever writes there past us (a prompt, a
child process, the echo of a key) writes over nothing, and nothing at or above that row is ever wiped out. Of that row
itself only what is right of the cursor is, once a line has ended that came through us.

While a pool is open ``sys.stdout`` and ``sys.stderr`` are `_Above`: what is written to them comes above the
lines. Two things have the terminal for themselves, without lines: a line that has begun and not ended, until
it does, and a thread that has asked for the stream's descriptor or buffer, as `input` and debuggers do, until it has
printed a whole line again. The cursor is never hidden, so that a program that is killed leaves a terminal that works.
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

SAVE: Final = "\x1b7"  # note where the cursor is
RESTORE: Final = "\x1b8"  # put it there
DOWN: Final = "\x1b[1B\r"  # to the row below, at its start
INDEX: Final = "\x1bD"  # one row down in the same column; at the bottom everything moves up
WIPE: Final = "\x1b[J"  # all from the cursor on


class Area:
    """Some lines of the terminal that stderr is."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may print
        self._lines: tuple[str, ...] = ()
        self._shown = False  # they are on the screen
        self._late = ""  # what is to be said when a line has ended
        self._begun = False  # somebody's line has not ended
        self._known = False  # one has, and came through us: what is right of the cursor is nobody's
        self._past: int | None = None  # the thread that may write past us
        self._holds = 0  # those who want the streams to be ours, lines or not
        self._streams: dict[str, tuple[_Above, TextIO]] = {}  # by name in `sys`: ours, and what was there
        _areas.add(self)

    def hold(self) -> None:
        """Listen to what is printed, so that it is known when lines can be shown."""
        with self._lock:
            self._holds += 1
            if not self._streams:
                self._install()

    def let_go(self) -> None:
        """Undo `hold`."""
        with self._lock:
            self._holds -= 1
            self._uninstall_unless_needed()

    def show(self, lines: Sequence[str]) -> None:
        """Show these lines instead of those before."""
        with self._lock:
            if not self._streams:
                self._install()
            self._lines = tuple(lines)
            if self._streams and not self._begun and self._past is None:
                self._write(self._wiped() + self._drawn())

    def say(self, text: str) -> bool:
        """Print a line of our own, when nobody has the terminal for himself; False if the streams are not ours."""
        with self._lock:
            if not self._streams:
                return False
            self._late += f"{text}\n"
            if not self._begun and self._past is None:
                self._known = True
                self._write(self._wiped() + self._taken() + self._drawn())
            return True

    def _taken(self) -> str:
        late, self._late = self._late, ""
        return late

    def clear(self) -> None:
        """Leave nothing on the screen."""
        with self._lock:
            self._lines = ()
            try:
                if self._streams and self._shown:
                    self._write(self._wiped())
            finally:
                self._uninstall_unless_needed()

    def _install(self) -> None:
        self._begun = self._known = False
        self._past = None
        for name in ("stderr", "stdout"):
            stream: TextIO | _Above | None = getattr(sys, name)
            if isinstance(stream, _Above):  # somebody has kept it, and put it back
                if stream.is_of(self):
                    self._streams[name] = stream, stream.stream
            elif stream is not None and stream.isatty():
                self._streams[name] = above, _ = _Above(self, stream), stream
                setattr(sys, name, above)

    def _uninstall_unless_needed(self) -> None:
        if self._holds > 0 or self._lines:
            return
        if self._late and self._streams:  # there will be no better moment
            self._write(self._taken())
        for name, (ours, before) in self._streams.items():
            if getattr(sys, name) is ours:  # else somebody has put something else there
                setattr(sys, name, before)
        self._streams.clear()

    def _write(self, text: str) -> None:
        _, stream = self._streams.get("stderr") or next(iter(self._streams.values()))
        stream.write(text)
        stream.flush()

    def _wiped(self) -> str:
        """Return what wipes the lines out; the cursor stays where it is."""
        if not self._shown:
            return ""
        self._shown = False
        return WIPE if self._known else SAVE + DOWN + WIPE + RESTORE

    def _drawn(self) -> str:
        """Return what shows the lines; the cursor stays where it is, also when everything moves up."""
        if not self._lines:
            return ""
        self._shown = True
        count = len(self._lines)
        return INDEX * count + f"\x1b[{count}A" + SAVE + "".join([DOWN + line for line in self._lines]) + RESTORE

    def put(self, stream: TextIO, text: str) -> int:
        """Write somebody's text to one of the streams."""
        with self._lock:
            if not text or not self._streams:  # nothing of ours is there any more
                return stream.write(text)
            if self._shown:  # at once: the text may stay in the stream's buffer until its line ends
                stream.write(self._wiped())
                stream.flush()
            self._begun = not text.endswith("\n")
            if not self._begun:
                self._known = True
                if self._past == threading.get_ident():
                    self._past = None
            after = "" if self._begun or self._past is not None else self._taken() + self._drawn()
            stream.write(text + after)
            if after:  # what the other stream writes next must find them on the screen
                stream.flush()
            return len(text)

    def step_aside(self) -> None:
        """Somebody may write past us."""
        with self._lock:
            if self._streams:
                self._past = threading.get_ident()
                if self._shown:
                    self._write(self._wiped())

    def forget(self) -> None:
        """In a forked child: the lock may be held by a thread that is not there, and the screen is the parent's."""
        self._lock = threading.RLock()
        self._lines, self._late, self._shown, self._holds = (), "", False, 0
        for name, (ours, before) in self._streams.items():
            if getattr(sys, name) is ours:
                setattr(sys, name, before)
        self._streams = {}


class _Above:
    """A stream of the user's whose text comes above the area; all else is the stream's own."""

    def __init__(self, area: Area, stream: TextIO) -> None:
        self._area = area
        self.stream = stream

    def is_of(self, area: Area) -> bool:
        return self._area is area

    def write(self, text: str) -> int:
        return self._area.put(self.stream, text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self.stream.flush()

    def fileno(self) -> int:
        self._area.step_aside()
        return self.stream.fileno()

    @property
    def buffer(self) -> Any:
        self._area.step_aside()
        return self.stream.buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


_areas: Final[WeakSet[Area]] = WeakSet()


def _forget_all() -> None:
    for area in list(_areas):
        area.forget()


os.register_at_fork(after_in_child=_forget_all)


def is_interactive() -> bool:
    """Return whether somebody types commands: their prompts are written past everything."""
    return bool(sys.flags.interactive) or hasattr(sys, "ps1")
