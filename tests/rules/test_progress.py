"""What the console shows of a pool while it works, and of groups with progress."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pyte
import pytest

import skyward as sky
from skyward.mesh import watching
from skyward.mesh.area import WIPE, Area
from tests.rules.work import LONG, add, fail, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

GROUPS = """
import skyward as sky
@sky.function
def nap(number):
    import time
    time.sleep(0.1)
    if number == 5:
        raise ValueError(number)
    return number
with sky.Compute(nodes=2{options}) as pool:
    print("begin")
    sky.gather(*[nap(number) for number in range(24)], return_exceptions=True, progress=True) >> pool
    for _ in sky.gather((nap(0) for _ in range(8)), stream=True, progress="others") >> pool:
        pass
    print("end")
print("closed")
"""


def screens(shown: str) -> list[list[str]]:
    """Return what a terminal has shown, at each moment before something was wiped out, and at the end."""
    screen = pyte.Screen(100, 40)
    stream = pyte.Stream(screen)
    found: list[list[str]] = []
    for number, part in enumerate(shown.split(WIPE)):
        stream.feed((WIPE if number else "") + part)
        found.append("\n".join(row.rstrip() for row in screen.display).rstrip().split("\n"))
    return found


@pytest.mark.rule("R32")
def test_terminal_shows_the_pool_while_it_works(in_terminal: Callable[[str], str]) -> None:
    """Nodes, tasks and what is waited for, below what is printed; nothing of it is left."""
    *moments, last = screens(in_terminal(GROUPS.format(options="")))
    text = "\n".join("\n".join(rows) for rows in moments)
    assert re.search(r"^skyward 2 of 2 nodes · \d+ queued · 2 running · \d+ done", text, re.MULTILINE)
    assert re.search(r"^nap ━+.* \d+ of 24.* \d\.\d s, \d\.\d s left$", text, re.MULTILINE)
    assert re.search(r"^others ━+.* of 8 ", text, re.MULTILINE)
    assert "\nwaiting for 2 × nap" in text
    assert [re.sub(r"\d\.\d s", "T", row) for row in last] == [
        "begin",
        "skyward: nap: 24 of 24, 1 failed in T",
        *sorted(["end", "skyward: others: 8 of 8 in T"], key=last_index(last)),
        "closed",
    ]


def last_index(rows: list[str]) -> Callable[[str], int]:
    """Order two lines as they stand there: one comes from another thread."""
    return lambda line: next(number for number, row in enumerate(rows) if row.startswith(line[:15]))


@pytest.mark.rule("R32")
@pytest.mark.parametrize(("options", "told"), [("", True), (", console=False", False)])
def test_pipe_gets_plain_lines(options: str, told: bool) -> None:
    """One for each group that is over; none with ``console=False``."""
    code = GROUPS.format(options=options)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LONG)
    assert done.stdout == "begin\nend\nclosed\n"
    lines = ["skyward: nap: 24 of 24, 1 failed in T\n", "skyward: others: 8 of 8 in T\n"]
    assert re.sub(r"\d\.\d s", "T", done.stderr) == ("".join(lines) if told else "")


WAITING = """
import signal
import skyward as sky
@sky.function
def sleep():
    import time
    time.sleep(300)
with sky.Compute(nodes=1) as pool:
    def raise_error(*_):
        raise RuntimeError("the program's own")
    signal.signal(signal.SIGUSR1, raise_error)
    future = sleep() > pool
    signal.pause()
"""


@pytest.mark.rule("R32")
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGUSR1, "RuntimeError")])
def test_nothing_is_left_of_the_view_when_something_is_raised(
    in_terminal: Callable[..., str], number: signal.Signals, error: str
) -> None:
    """By Ctrl-C, or by the program itself: the traceback stands there, and no status."""
    sent: list[signal.Signals] = []

    def interrupt(program: subprocess.Popen[bytes], shown: bytes) -> None:
        if b"waiting for sleep" in shown and not sent:
            sent.append(number)
            program.send_signal(number)

    *moments, last = screens(in_terminal(WAITING, interrupt, 1))
    assert any("waiting for sleep" in rows for rows in moments)
    assert last[-1].startswith(error)
    assert not any("nodes ·" in row or "waiting for" in row for row in last)


class Listener(io.StringIO):
    """A stream that is no terminal, and wakes whoever waits for words."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words
        self.heard = threading.Event()

    def write(self, text: str) -> int:
        """Write, and listen."""
        count = super().write(text)
        if self._words in text:
            self.heard.set()
        return count


@pytest.mark.rule("R32")
def test_pipe_is_told_of_a_long_wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Now and then a line says how things stand."""
    monkeypatch.setattr(watching, "FIRST_LINE", 0.0)
    monkeypatch.setattr(watching, "SOON", 0.0)
    stderr = Listener("waiting for held")
    monkeypatch.setattr(sys, "stderr", stderr)
    path = str(tmp_path / "go")

    @sky.function
    def held(path: str) -> int:
        import os
        import time

        while not os.path.exists(path):
            time.sleep(0.01)
        return 7

    with sky.Compute(nodes=1) as pool:
        future = sky.gather(held(path), progress="label") > pool
        assert stderr.heard.wait(LONG)
        (tmp_path / "go").touch()
        assert future.result() == (7,)
    lines = stderr.getvalue().splitlines()
    assert "skyward: 1 of 1 nodes · 1 running · 0 done; waiting for" in stderr.getvalue()
    assert lines[-1].startswith("skyward: label: 1 of 1 in ")


class FakeTerminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_blocked_view_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results come and the pool closes, whatever the terminal does."""
    monkeypatch.setattr(watching, "SOON", 0.0)
    monkeypatch.setattr(watching, "TICK", 0.001)
    monkeypatch.setattr(sys, "stderr", FakeTerminal())
    reached, let = threading.Event(), threading.Event()

    def show(area: Area, lines: list[str]) -> None:
        reached.set()
        let.wait(LONG)

    monkeypatch.setattr(Area, "show", show)
    with sky.Compute(nodes=1) as pool:
        until(lambda: (add(1, 2) >> pool) == 3 and reached.is_set())
        sky.gather(*[add(i) for i in range(1000)], progress=True) >> pool
        pool.close(cancel=True)
    let.set()
    until(lambda: not any(thread.name == "skyward-view" for thread in threading.enumerate()))


# --- counting --------------------------------------------------------------------------------


def tallies_of(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list in which all tallies will be."""
    found: list[Any] = []
    track = watching.Watching.track

    def note(self: watching.Watching, label: str, total: int | None) -> Any:
        found.append(track(self, label, total))
        return found[-1]

    monkeypatch.setattr(watching.Watching, "track", note)
    return found


def test_groups_are_counted(pool: sky.Compute, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Tuples, futures and streams; also those that fail, are closed, or are empty."""
    found = tallies_of(monkeypatch)
    sky.gather(*[add(i) for i in range(5)], progress=True) >> pool
    (sky.gather(*[add(i) for i in range(4)], progress="futures") > pool).result()
    with pytest.raises(ValueError, match="bad 1"):
        sky.gather(fail(1), progress=True) >> pool
    sky.gather(*[fail(1), add(2)], return_exceptions=True, progress="mixed") >> pool
    sky.gather(progress=True) >> pool
    list(sky.gather((add(i) for i in range(3)), stream=True, progress=True) >> pool)
    stream = sky.gather(*[add(i) for i in range(3)], stream=True, progress="closed") >> pool
    next(stream)
    stream.close()
    counts = [(tally.label, tally.ended, tally.total, tally.failed, tally.over) for tally in found]
    assert counts[:6] == [
        ("add", 5, 5, 0, True),
        ("futures", 4, 4, 0, True),
        ("fail", 1, 1, 1, True),
        ("mixed", 2, 2, 1, True),
        ("calls", 0, 0, 0, True),
        ("calls", 3, 3, 0, True),
    ]
    assert counts[6][0] == "closed" and counts[6][4]


def test_progress_is_a_word_or_a_label(pool: sky.Compute) -> None:
    """Anything else is a mistake; a group with progress cannot grow."""
    wrong: Any = 3
    with pytest.raises(TypeError, match="progress must be True, False or a label, got 3"):
        sky.gather(add(1), progress=wrong)
    group = sky.gather(add(1), add(2), progress="label")
    assert "progress='label'" in repr(group)
    assert group.with_timeout(5).progress == "label"
    with pytest.raises(TypeError, match="options for the whole group"):
        group & add(3)


def test_group_inside_a_task_shows_nothing(pool: sky.Compute) -> None:
    """There is no console there; it runs as any other."""

    @sky.function
    def outer() -> int:
        return sum(sky.gather(*[add(i) for i in range(3)], progress=True) >> sky.sky)

    assert outer() >> pool == 3


# --- the page about it -----------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "progress.md").read_text(encoding="utf-8")


def shape(line: str) -> str:
    """Return a line without what differs from run to run."""
    line = re.sub(r"━[━╸╺ ]*━", "BAR", line)
    line = re.sub(r" · [\d.,]+/s", "", line)
    return re.sub(r"[\d.,:]*\d( s)?(?!\w)", "N", line)


@pytest.mark.rule("R32")
def test_page_shows_what_is_seen(in_terminal: Callable[..., str]) -> None:
    """Its captures are those of its program, apart from the numbers."""
    (program,) = re.findall(r"in a pipe -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    during, end, _pipe = [text.splitlines() for text in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)]
    *moments, last = [[shape(row) for row in rows] for rows in screens(in_terminal(program))]
    assert [shape(row) for row in during] in moments
    assert sorted(map(shape, end)) == sorted(last)


@pytest.mark.rule("R32")
@pytest.mark.parametrize(
    ("first", "calls"), [(1.0, 24), pytest.param(watching.FIRST_LINE, 120, marks=pytest.mark.slow)]
)
def test_page_shows_what_a_pipe_gets(first: float, calls: int) -> None:
    """Its capture of a pipe is that of its program, with more to do, or told sooner; apart from the numbers."""
    (program,) = re.findall(r"in a pipe -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    *_, told = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    code = f"from skyward.mesh import watching\nwatching.FIRST_LINE = {first}\n{program}"
    code = code.replace("range(24)", f"range({calls})")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LONG)
    *lines, last = [shape(line) for line in done.stderr.splitlines()]
    expected = [shape(line) for line in told.splitlines()]
    assert lines[: len(expected)] == expected
    assert last == shape("skyward: training: 24 of 24 in 2.6 s")
    assert done.stdout.endswith(f"best: {calls - 1}\n")
