"""The output of tasks on the client's own stdout and stderr, each line marked with its node, or in a callback.

Lines are written by a thread of their own, so that a blocked terminal or callback holds up nothing. `settle` makes
them come before the results of their tasks all the same: it waits for those lines, a moment at most, and not again
until the reader has caught up. Of lines that a slow reader has not taken a bounded number waits; the oldest are
dropped, counted, and the number is said in their place.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakSet

from skyward.answers.hand import Hand
from skyward.task import output
from skyward.task.wishes import STDERR, STDOUT
from skyward.wire.payload import safe_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skyward.task.output import OutputLine, Redirection
    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Output

ROOM: Final = 4 * 2**20  # bytes of lines that wait for a slow terminal or callback: a second of a fast one
ENTRY: Final = 200  # bytes of memory that an entry takes beside its text
PATIENCE: Final = 0.2  # seconds a result waits for the lines of its task to be shown: less than a heartbeat
LAST: Final = 5.0  # seconds that the end of a redirection waits for its lines, as the end of a pool does
unwritable: Final[list[Callable[[OSError], None]]] = []  # told when a line cannot be written; a program just goes on
COLOURS: Final = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)  # of tags in a terminal, by rank: none is red, which is bad


class Entry(NamedTuple):
    """Lines of one stream that came at once."""

    rank: int
    task: int
    stream: int
    dropped: int  # lines lost before these
    lines: int
    text: bytes
    taker: Redirection | None


class Console:
    """Where the output of one pool goes."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._hand = Hand("skyward-console")
        self._entries: deque[Entry] = deque()
        self._size = 0  # bytes of these
        self._changed = threading.Condition()
        self._came = 0  # entries so far
        self._gone = 0  # those that were shown or dropped
        self._dropped = 0  # lines, by ourselves, since we said so
        self._pending: dict[tuple[int, int], int] = {}  # the last entry of a rank and task that was not shown
        self._behind = False  # a result has waited in vain
        self._writing = False
        _consoles.add(self)

    def show(self, rank: int, message: Output, text: Buffer) -> None:
        """Show lines that came from a node; ``text`` is all of them."""
        taker = output.taker()
        if self._enabled or taker is not None:
            self._put(Entry(rank, message.id, message.stream, message.dropped, message.lines, bytes(text), taker))

    def tell(self, rank: int, lines: Sequence[str]) -> None:
        """Show lines about a node."""
        if self._enabled and lines:
            text = "\n".join(lines).encode("utf-8", "backslashreplace")
            self._put(Entry(rank, 0, STDERR, 0, len(lines), text, None))

    def _put(self, entry: Entry) -> None:
        with self._changed:
            self._entries.append(entry)
            self._came += 1
            self._pending[entry.rank, entry.task] = self._came
            self._size += len(entry.text) + ENTRY
            while self._size > ROOM and len(self._entries) > 1:
                oldest = self._entries.popleft()
                self._size -= len(oldest.text) + ENTRY
                self._dropped += oldest.lines + oldest.dropped
                self._gone += 1
            start, self._writing = not self._writing, True
        if start:
            self._hand.do(self._write_all)

    def settle(self, rank: int, tasks: Iterable[int]) -> None:
        """Wait until what these tasks have printed is shown, a moment at most; their results are handed over next."""
        if not self._pending or self._behind or self._hand.is_current():
            return
        with self._changed:
            last = max(self._pending.get((rank, task), 0) for task in (0, *tasks))
            if last > self._gone:
                self._behind = not self._changed.wait_for(lambda: self._gone >= last, PATIENCE)

    def wait(self, deadline: float) -> None:
        """Wait until all that has come so far is shown."""
        if not self._hand.is_current():
            with self._changed:
                last = self._came
                self._changed.wait_for(lambda: self._gone >= last, max(0.0, deadline - time.monotonic()))

    def close(self, timeout: float) -> None:
        """Write what is left; give up after ``timeout`` seconds."""
        self._hand.close(timeout)
        _consoles.discard(self)

    # --- the thread --------------------------------------------------------------------------

    def _write_all(self) -> None:
        while (taken := self._take()) is not None:
            entry, dropped, number = taken
            try:
                if dropped:
                    say_dropped(entry.taker, None, dropped)
                write(entry)
            except BaseException:  # the user's stream: whoever runs us tells of it, and then the rest
                self._hand.do(self._write_all)
                raise
            finally:
                with self._changed:
                    self._gone = max(self._gone, number)
                    if self._pending.get((entry.rank, entry.task), 0) <= self._gone:
                        self._pending.pop((entry.rank, entry.task), None)
                    self._changed.notify_all()

    def _take(self) -> tuple[Entry, int, int] | None:
        with self._changed:
            if not self._entries:
                self._pending.clear()  # also what was dropped
                self._behind = self._writing = False
                return None
            entry = self._entries.popleft()
            self._size -= len(entry.text) + ENTRY
            dropped, self._dropped = self._dropped, 0
            return entry, dropped, self._came - len(self._entries)


_consoles: Final[WeakSet[Console]] = WeakSet()  # of all pools


def wait_for_all() -> None:
    """Wait until all that has come to any pool is shown."""
    deadline = time.monotonic() + LAST
    for console in list(_consoles):
        console.wait(deadline)


# --- writing -----------------------------------------------------------------------------------


def write(entry: Entry) -> None:
    """Hand lines to whom they are meant for."""
    if entry.dropped:
        say_dropped(entry.taker, entry.rank, entry.dropped)
    text = entry.text.decode("utf-8", "replace")
    if entry.taker is None:
        if "\r" in text:  # a progress bar's: what the last return has not wiped out, for the tag stands before it
            text = "\n".join([line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")])
        print_lines(entry.rank, entry.stream, text)
        return
    for line in text.split("\n"):  # each whole: what a return would wipe out in a terminal is not lost here
        _hand_over(entry.taker, output.line_of(line.removesuffix("\r"), entry.rank, entry.stream, entry.task))


def _hand_over(taker: Redirection, line: OutputLine) -> None:
    """Hand a line to a callback; one that fails is told of once, and gets the next line all the same."""
    try:
        taker.take(line)
    except BaseException as error:  # its SystemExit ends no thread of ours either
        if not taker.has_failed:
            taker.has_failed = True
            what = f"{type(error).__name__}: {safe_text(error)}".splitlines()[0]
            print_lines(
                None, STDERR, f"skyward: the callback of redirect_output raised {what}{_place(error)}; said once"
            )


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"


def say_dropped(taker: Redirection | None, rank: int | None, count: int) -> None:
    """Say that lines are missing here: ``rank`` has dropped them, or we have."""
    text = (
        f"skyward: {count} lines were dropped: they came faster than they were {'sent' if rank is not None else 'read'}"
    )
    if taker is not None:
        _hand_over(taker, output.line_of(text, -1 if rank is None else rank, STDERR, 0))
    else:
        print_lines(rank, STDERR, text)


def print_lines(rank: int | None, stream: int, text: str) -> None:
    """Print lines with their tag, coloured in a terminal."""
    target = sys.stdout if stream == STDOUT else sys.stderr
    try:
        mark = "" if rank is None else tag(rank, coloured=wants_colour(target))
        text = mark + text.replace("\n", "\n" + mark) + "\n"
        try:
            target.write(text)
        except UnicodeEncodeError:
            target.write(text.encode(target.encoding, "backslashreplace").decode(target.encoding))
        target.flush()
    except OSError as error:
        for told in unwritable:
            told(error)
    except (AttributeError, ValueError):  # the user's stream is closed, or None: there is nobody to tell
        pass


def tag(rank: int, *, coloured: bool) -> str:
    """Return what stands before each line of a node."""
    return f"\x1b[{COLOURS[rank % len(COLOURS)]}m[node {rank}]\x1b[0m " if coloured else f"[node {rank}] "


def wants_colour(stream: Any) -> bool:
    """Return whether a stream is a terminal, and its user has not asked for no colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
