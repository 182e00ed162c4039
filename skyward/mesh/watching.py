"""A thread that looks at a pool a few times a second and shows how it stands.

In a terminal it keeps a few lines at the bottom, drawn by rich, as long as the pool has something to do; else it
prints a line now and then. It reads counters without owning the loop: a look costs the loop nothing, and a number may
be that of a moment ago. Nobody ever waits for this thread but `close`, for a moment.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from skyward.mesh.area import Area, is_interactive
from skyward.mesh.console import print_lines
from skyward.mesh.view import Rate, Sight, Tally, count_of, report, status, summary, timing, waits_for
from skyward.model import NodeState
from skyward.task.wishes import STDERR

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from skyward.mesh.engine import Engine

TICK: Final = 0.25  # seconds between two looks: what moves four times a second looks live
SOON: Final = 0.5  # seconds a pool is busy before that is shown: what is over by then does not flash
FIRST_LINE: Final = 10.0  # seconds a pool is busy before a line says so where there is no terminal
LAST_LINE: Final = 60.0  # seconds between such lines at most; each takes twice as long as the one before
SAMPLED: Final = 64  # running tasks that are looked at for their names
BAR: Final = 30  # columns

_area: Final = Area()
_screen: Final = threading.Lock()  # held by the one who shows: of several pools the first


class Watching:
    """Shows one pool."""

    def __init__(self, engine: Engine, *, enabled: bool) -> None:
        self._engine = engine
        self._enabled = enabled
        self._tallies: list[Tally] = []
        self._rate = Rate()
        self._showing = False
        self._console: Console | None = None
        self._busy_since: float | None = None
        self._next_line = 0.0
        self._pause = FIRST_LINE
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()  # finalizers put into it, too: it takes no lock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        if self._enabled:
            self._thread = threading.Thread(target=self._run, name="skyward-view", daemon=True)
            self._thread.start()

    def close(self, timeout: float) -> None:
        """Leave nothing on the screen; give up after ``timeout`` seconds."""
        self._stop.set()
        self._wakes.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    def tell(self, line: str) -> None:
        """Show lines about a node that comes up; from any thread."""
        if self._enabled and not self._stop.is_set():
            _say(line.splitlines())

    def track(self, label: str, total: int | None) -> Tally | None:
        """Show how far a group is, until its tally is over."""
        if not self._enabled or self._stop.is_set():
            return None
        tally = Tally(label, total, time.monotonic(), partial(self._wakes.put, None))
        self._tallies.append(tally)
        return tally

    # --- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        holding = False
        due = time.monotonic() + TICK
        try:
            if is_terminal(sys.stderr) and not is_interactive():
                _area.hold()
                holding = True
            while not self._stop.is_set():
                with suppress(queue.Empty):
                    self._wakes.get(timeout=max(0.0, due - time.monotonic()))
                    self._sum_up(time.monotonic())
                if time.monotonic() >= due:
                    self._look(time.monotonic())
                    due = time.monotonic() + TICK
        except (AttributeError, OSError, ValueError):  # stderr is closed, or None: there is nobody to tell
            return
        finally:
            self._hide()
            if holding:
                _area.let_go()
        self._sum_up(time.monotonic())

    def _look(self, now: float) -> None:
        sight = look(self._engine)
        rate = self._rate.note(now, sight.done)
        self._sum_up(now)
        if not sight.is_busy:
            self._busy_since = None
            self._hide()
            return
        if self._busy_since is None:
            self._busy_since, self._pause = now, FIRST_LINE
            self._next_line = now + FIRST_LINE
        if now - self._busy_since < SOON:
            return
        if is_terminal(sys.stderr):
            if is_interactive():
                self._hide()
            else:
                self._show(sight, rate, now)
        elif now >= self._next_line:
            self._pause = min(2 * self._pause, LAST_LINE)
            self._next_line = now + self._pause
            _say(report(sight, rate, self._tallies, now))

    def _sum_up(self, now: float) -> None:
        for tally in [tally for tally in self._tallies if tally.over]:
            self._tallies.remove(tally)
            _say([summary(tally, now)])

    def _show(self, sight: Sight, rate: float, now: float) -> None:
        if not self._showing:
            if not _screen.acquire(blocking=False):
                return
            self._showing = True
        if self._console is None:
            self._console = _new_console()
        lines = draw(self._console, sight, rate, list(self._tallies), now)
        _area.show(lines)

    def _hide(self) -> None:
        if self._showing:
            try:
                _area.clear()
            finally:
                self._showing = False
                _screen.release()


def look(engine: Engine) -> Sight:
    """Return how a pool stands, from any thread."""
    scheduler, membership = engine.scheduler, engine.crew.membership
    states = list(membership.states.items())
    nodes = list(scheduler.nodes.values())
    running = sum(min(len(node.in_flight), node.slots) for node in nodes)
    names: list[str] = []
    for node in nodes:
        try:
            names += [
                task.name.rpartition(".<locals>.")[2]
                for task in islice(node.in_flight.values(), min(node.slots, SAMPLED - len(names)))
            ]
        except RuntimeError:  # it changed meanwhile; a few names are missing this time
            continue
    causes = membership.causes
    return Sight(
        ready=sum(state is NodeState.READY for _, state in states),
        target=membership.target,
        starting=tuple(sorted(rank for rank, state in states if state is NodeState.STARTING)),
        queued=max(0, scheduler.unsettled - running),
        running=running,
        done=scheduler.done,
        failed=engine.failed,
        names=tuple(names),
        cause=causes[-1] if causes else "",
    )


def is_terminal(stream: Any) -> bool:
    """Return whether lines on a stream can be wiped out again."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def _say(lines: list[str]) -> None:
    text = "\n".join([f"skyward: {line}" for line in lines])
    if not _area.say(text):
        print_lines(None, STDERR, text)


# --- drawing -----------------------------------------------------------------------------------


def _new_console() -> Console:
    from rich.console import Console  # 50 ms: only who has a terminal pays

    return Console(file=sys.stderr, force_terminal=True, legacy_windows=False)


def draw(console: Console, sight: Sight, rate: float, tallies: list[Tally], now: float) -> list[str]:
    """Return the lines of the live view, no wider and fewer than the terminal's."""
    from rich.text import Text

    head = Text.assemble(("skyward ", "bold"), status(sight, rate))
    rows: list[RenderableType] = [head, *[_row(tally, now) for tally in tallies]]
    if waiting := waits_for(sight):
        rows.append(Text(waiting, style="dim"))
    with console.capture() as captured:
        for row in rows:
            console.print(row, no_wrap=True, overflow="ellipsis", crop=True, highlight=False)
    return captured.get().splitlines()[: max(0, console.height - 2)]  # the cursor's row stays on the screen


def _row(tally: Tally, now: float) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    row = Table.grid(padding=(0, 1))
    for _ in range(4):
        row.add_column(no_wrap=True)
    total, pulse = (tally.total, False) if tally.total else (1, tally.total is None)
    bar = ProgressBar(total=total, completed=tally.ended, width=BAR, pulse=pulse, animation_time=now)
    row.add_row(tally.label, bar, count_of(tally), timing(tally, now))
    return row
