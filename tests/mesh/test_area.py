"""Lines at the bottom of a terminal, in a terminal that can be read."""

from __future__ import annotations

import io
import os
import sys

import pyte
import pytest

from skyward.mesh.area import Area


class Terminal(io.StringIO):
    """A stream that is a terminal of 40 columns and 10 rows."""

    def __init__(self) -> None:
        super().__init__()
        self.screen = pyte.Screen(40, 10)
        self._reader = pyte.Stream(self.screen)

    def isatty(self) -> bool:
        """Say so."""
        return True

    def write(self, text: str) -> int:
        """Show text, as a terminal in its usual mode does."""
        self._reader.feed(text.replace("\n", "\r\n"))
        return len(text)

    @property
    def rows(self) -> list[str]:
        """Return what is on the screen, without what is blank below."""
        return "\n".join(row.rstrip() for row in self.screen.display).rstrip().split("\n")


@pytest.fixture
def terminal() -> Terminal:
    """Return a terminal."""
    return Terminal()


def take_over(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Area:
    """Let both streams lead to the terminal; not in a fixture, because pytest sets its own streams after these."""
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    return Area()


def test_lines_stay_below_what_is_printed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are replaced in place, and leave nothing behind."""
    area = take_over(terminal, monkeypatch)
    print("one")
    area.show(["status", "more"])
    print("two")
    print("bad", file=sys.stderr)
    assert terminal.rows == ["one", "two", "bad", "status", "more"]
    area.show(["other"])
    assert terminal.rows == ["one", "two", "bad", "other"]
    sys.stdout.writelines(["three\n", "four\n"])
    area.clear()
    assert terminal.rows == ["one", "two", "bad", "three", "four"]
    assert sys.stdout is terminal and sys.stderr is terminal
    assert (terminal.screen.cursor.x, terminal.screen.cursor.y) == (0, 5)


def test_line_that_has_begun_has_the_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt or a progress bar is not torn; the lines come back with its end."""
    area = take_over(terminal, monkeypatch)
    area.show(["status"])
    for percent in ("10%", "20%"):
        print(f"\r{percent}", end="", file=sys.stderr, flush=True)
        area.show(["later"])
        assert terminal.rows == [percent]
    print(file=sys.stderr)
    assert terminal.rows == ["20%", "later"]
    area.clear()


def test_stream_that_was_kept_goes_on(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has got hold of it while the lines were there may write to it ever after; it is the user's in all else."""
    area = take_over(terminal, monkeypatch)
    area.show(["status"])
    kept = sys.stdout
    assert kept is not terminal
    assert kept.isatty()
    area.clear()
    kept.write("after\n")
    assert terminal.rows == ["after"]


def test_stream_of_somebody_else_is_left_alone(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user has put in its place meanwhile stays, and what is no terminal is not touched."""
    area = take_over(terminal, monkeypatch)
    pipe, other = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    area.show(["status"])
    assert sys.stdout is pipe
    monkeypatch.setattr(sys, "stderr", other)
    area.clear()
    assert sys.stderr is other
    assert terminal.rows == [""]


def test_forked_child_has_the_streams_as_they_were(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the other threads of the parent were doing."""
    area = take_over(terminal, monkeypatch)
    area.show(["status"])
    child = os.fork()
    if not child:
        os._exit(0 if sys.stdout is terminal and sys.stderr is terminal else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sys.stdout is not terminal
    area.clear()
