"""Lines at the bottom of a terminal, in a terminal that can be read."""

from __future__ import annotations

import io
import os
import sys
import threading
from contextlib import suppress
from typing import Any

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
    assert terminal.rows == ["one", "two", "bad", "", "status", "more"]
    area.show(["other"])
    assert terminal.rows == ["one", "two", "bad", "", "other"]
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
    assert terminal.rows == ["20%", "", "later"]
    area.clear()


def test_line_that_was_there_before_is_kept(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the cursor is in it; what comes next goes on there."""
    terminal.write("12345\r67")
    area = take_over(terminal, monkeypatch)
    area.show(["status", "more"])
    assert terminal.rows == ["67345", "status", "more"]
    print("8", end="")
    assert terminal.rows == ["67845"]
    area.clear()
    assert terminal.rows == ["67845"]


@pytest.mark.parametrize("known", [True, False])
def test_what_comes_past_the_streams_is_kept(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """At the bottom of the terminal, too; nothing of the lines stays, if a whole line came through the streams."""
    terminal.write("\n" * 9)
    area = take_over(terminal, monkeypatch)
    area.hold()
    if known:
        print("begin")
    area.show(["status", "more"])
    terminal.write("past\n")
    area.show(["status", "more"])
    rows = terminal.rows
    area.clear()
    area.let_go()
    assert "past" in rows and rows[-2:] == ["status", "more"]
    assert [row for row in terminal.rows if row] == (["begin", "past"] if known else ["past", "status"])


@pytest.mark.parametrize("ask", [lambda stream: stream.fileno(), lambda stream: stream.buffer])
def test_who_may_write_past_the_streams_has_the_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, ask: Any
) -> None:
    """Until the same thread prints a whole line; another's is shown, and brings nothing back."""
    area = take_over(terminal, monkeypatch)
    area.show(["status"])
    assert terminal.rows == ["", "status"]
    with suppress(OSError, AttributeError):  # this terminal has no such thing
        ask(sys.stdout)
    area.show(["later"])
    other = threading.Thread(target=print, args=("other",))
    other.start()
    other.join()
    print("prompt", end="")
    area.show(["later"])
    assert terminal.rows == ["other", "prompt"]
    print()
    assert terminal.rows == ["other", "prompt", "", "later"]
    area.clear()


def test_own_lines_wait_until_a_line_has_ended(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then they come first; at the latest when the streams are given back, or else by whoever has them."""
    area = take_over(terminal, monkeypatch)
    assert not area.say("nobody listens")
    area.hold()
    assert area.say("one")
    area.show(["status"])
    print("begun", end="")
    assert area.say("two")
    assert terminal.rows == ["one", "begun"]
    print()
    assert terminal.rows == ["one", "begun", "two", "", "status"]
    print(end="again ")
    area.say("three")
    area.clear()
    area.let_go()
    assert terminal.rows == ["one", "begun", "two", "again three"]


def test_streams_are_ours_while_somebody_listens(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """With lines or without; the last one who lets go gives them back, also if they were put back meanwhile."""
    area = take_over(terminal, monkeypatch)
    area.hold()
    area.hold()
    kept = sys.stdout
    assert kept is not terminal
    area.show(["status"])
    area.clear()
    area.let_go()
    assert sys.stdout is kept
    area.let_go()
    assert sys.stdout is terminal
    monkeypatch.setattr(sys, "stdout", kept)
    area.show(["status"])
    print("text")
    assert terminal.rows == ["text", "", "status"]
    area.clear()
    assert sys.stdout is terminal


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
