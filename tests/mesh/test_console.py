"""What tasks print, on the client's own stdout and stderr."""

from __future__ import annotations

import io
import sys
import threading
import time

import pytest

from skyward.mesh import console as module
from skyward.mesh.console import Console
from skyward.task.output import redirect_output
from skyward.wire.messages import Output
from tests.mesh.scripted import LONG


def output(stream: int = 1, lines: int = 1) -> Output:
    """Return a header."""
    return Output(7, 1, stream, lines, 0)


def shown(*chunks: tuple[int, Output, bytes]) -> None:
    """Show lines and wait until they are written."""
    console = Console(enabled=True)
    for rank, message, lines in chunks:
        console.show(rank, message, lines)
    console.close(LONG)


@pytest.mark.rule("R28")
def test_lines_are_marked_with_their_node(capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout goes to stdout and stderr to stderr, in order."""
    shown((0, output(lines=2), b"one\ntwo"), (3, output(2), b"bad"), (1, output(), b"three"))
    captured = capsys.readouterr()
    assert captured.out == "[node 0] one\n[node 0] two\n[node 1] three\n"
    assert captured.err == "[node 3] bad\n"


def test_bytes_that_are_no_text_are_shown_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """What is no UTF-8 is replaced."""
    shown((0, output(), b"a\xffb"))
    assert capsys.readouterr().out == "[node 0] a\N{REPLACEMENT CHARACTER}b\n"


def test_text_that_the_stream_cannot_encode_is_shown_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal without the letters still gets the line."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    shown((0, output(lines=2), "é\nplain".encode()))
    assert written.getvalue() == b"[node 0] \\xe9\n[node 0] plain\n"


def test_disabled_console_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """With ``console=False`` there is no thread either."""
    before = threading.active_count()
    console = Console(enabled=False)
    console.show(0, output(), b"one")
    assert threading.active_count() == before
    console.close(LONG)
    assert capsys.readouterr().out == ""


def test_closed_stream_is_nobody_to_tell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A stream that the user has closed, or a missing one, loses its own lines only."""
    closed = io.StringIO()
    closed.close()
    console = Console(enabled=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed)
        patch.setattr(sys, "stderr", None)
        console.show(0, output(1), b"lost")
        console.show(0, output(2), b"lost")
        console.close(LONG)
    shown((0, output(), b"heard"))
    assert capsys.readouterr() == ("[node 0] heard\n", "")


def test_blocked_terminal_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever shows lines does not wait for them, and neither does close for ever."""
    let = threading.Event()

    class Blocked(io.StringIO):
        def write(self, text: str) -> int:
            let.wait(LONG)
            return super().write(text)

    stream = Blocked()
    monkeypatch.setattr(sys, "stdout", stream)
    console = Console(enabled=True)
    console.show(0, output(), b"line")
    console.close(0.01)
    assert stream.getvalue() == ""
    let.set()
    console.close(LONG)
    assert stream.getvalue() == "[node 0] line\n"


# --- tags ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.mark.rule("R28")
def test_tag_is_coloured_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nowhere else, and not for those who want no colours."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal, pipe = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", pipe)
    shown((0, output(lines=2), b"one\ntwo"), (1, output(), b"three"), (0, output(2), b"bad"))
    assert terminal.getvalue() == (
        "\x1b[36m[node 0]\x1b[0m one\n\x1b[36m[node 0]\x1b[0m two\n\x1b[32m[node 1]\x1b[0m three\n"
    )
    assert pipe.getvalue() == "[node 0] bad\n"
    monkeypatch.setenv("NO_COLOR", "1")
    shown((0, output(), b"plain"))
    assert terminal.getvalue().endswith("\n[node 0] plain\n")


def test_progress_bar_keeps_its_tag(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a line that was written over again and again the last state is shown."""
    shown((0, output(lines=2), b"\r 10%\r 20%\r\nnext"))
    assert capsys.readouterr().out == "[node 0]  20%\n[node 0] next\n"


# --- slow readers ----------------------------------------------------------------------------


class Gate(io.StringIO):
    """A stream that takes nothing before it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.opened = threading.Event()

    def write(self, text: str) -> int:
        """Write when that is allowed."""
        self.reached.set()
        assert self.opened.wait(LONG)
        return super().write(text)


def shut(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Return the gate that stdout is now."""
    gate = Gate()
    monkeypatch.setattr(sys, "stdout", gate)
    return gate


@pytest.mark.rule("R28")
def test_what_a_slow_reader_misses_is_counted_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory is bounded: the oldest lines make room; nodes that have dropped some say so, too."""
    gate = shut(monkeypatch)
    console = Console(enabled=True)
    console.show(0, output(), b"first")
    assert gate.reached.wait(LONG)
    line = b"x" * (module.ROOM // 4 - 2 * module.ENTRY)
    for number in range(6):
        console.show(0, Output(7, 1, 1, 2, 10 if number == 0 else 0), b"%d\n" % number + line)
    gate.opened.set()
    console.close(LONG)
    assert [text[:10] for text in gate.getvalue().splitlines()[::2]] == ["[node 0] f", *["[node 0] x"] * 4]
    assert gate.getvalue().splitlines()[1] == "[node 0] 2"
    told = capsys.readouterr().err
    assert told == "skyward: 14 lines were dropped: they came faster than they were read\n"
    shown((3, Output(7, 1, 1, 1, 5), b"next"))
    assert capsys.readouterr().err == "[node 3] skyward: 5 lines were dropped: they came faster than they were sent\n"


@pytest.mark.rule("R28")
def test_results_wait_for_the_lines_of_their_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result is handed over after what its task has printed is shown; others do not wait."""
    gate = shut(monkeypatch)
    monkeypatch.setattr(module, "PATIENCE", LONG)
    console = Console(enabled=True)
    console.show(0, output(), b"line")
    assert gate.reached.wait(LONG)
    console.settle(0, [2])
    console.settle(1, [1])
    settled = threading.Event()

    def settle() -> None:
        console.settle(0, [2, 1])
        settled.set()

    thread = threading.Thread(target=settle)
    thread.start()
    assert not settled.is_set()
    gate.opened.set()
    thread.join(LONG)
    assert settled.is_set()
    assert gate.getvalue() == "[node 0] line\n"
    console.close(LONG)


def test_results_wait_in_vain_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocked terminal costs a moment; after that results do not wait until it has caught up."""
    gate = shut(monkeypatch)
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    console = Console(enabled=True)
    console.show(0, output(), b"line")
    console.settle(0, [1])
    monkeypatch.setattr(module, "PATIENCE", LONG)
    console.settle(0, [1])
    assert gate.getvalue() == ""
    gate.opened.set()
    console.wait(LONG + time.monotonic())
    assert gate.getvalue() == "[node 0] line\n"
    console.close(LONG)


def test_callback_takes_lines_of_a_silent_pool(capsys: pytest.CaptureFixture[str]) -> None:
    """All that came while the redirection stood is handed over before its end, and nothing of it is shown."""
    lines: list[tuple[str, int, str, int]] = []
    console = Console(enabled=False)
    with redirect_output(lambda line: lines.append((line, line.node, line.stream, line.task))):
        console.show(2, output(2, lines=2), b"one\ntwo")
        console.show(0, Output(7, 1, 1, 1, 4), b"three")
    assert lines == [
        ("one", 2, "stderr", 1),
        ("two", 2, "stderr", 1),
        ("skyward: 4 lines were dropped: they came faster than they were sent", 0, "stderr", 0),
        ("three", 0, "stdout", 1),
    ]
    console.show(0, output(), b"four")
    console.close(LONG)
    assert len(lines) == 4
    assert capsys.readouterr() == ("", "")


@pytest.mark.rule("R28")
def test_callback_gets_what_a_return_would_wipe_out() -> None:
    """Lines are whole, but for their ends, which may be those of another system."""
    lines: list[str] = []
    console = Console(enabled=True)
    with redirect_output(lines.append):
        console.show(0, output(lines=3), b"data\rmore\r\nnext\n\r 10%\r 20%")
    console.close(LONG)
    assert lines == ["data\rmore", "next", "\r 10%\r 20%"]


@pytest.mark.rule("R28")
@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_callback_that_fails_is_told_of_once(capsys: pytest.CaptureFixture[str], kind: type[BaseException]) -> None:
    """In one line with its place, once per redirection; it gets the next lines all the same."""
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line)
        raise kind("bad\nmore")

    console = Console(enabled=True)
    for _ in range(2):
        with redirect_output(take):
            console.show(0, output(lines=2), b"one\ntwo")
            console.show(0, Output(7, 1, 1, 1, 3), b"three")
    console.close(LONG)
    lost = "skyward: 3 lines were dropped: they came faster than they were sent"
    assert lines == ["one", "two", lost, "three"] * 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert all(
        line.startswith(f"skyward: the callback of redirect_output raised {kind.__name__}: bad (") for line in told
    )
    assert "test_console.py:" in told[0] and told[0].endswith("; said once")


def test_callback_does_not_wait_for_itself() -> None:
    """It may use the pool, and end its redirection."""
    console = Console(enabled=True)
    done: list[str] = []

    def take(line: str) -> None:
        console.settle(0, [1])
        redirection.close()
        done.append(line)

    redirection = redirect_output(take)
    console.show(0, output(), b"line")
    console.close(LONG)
    assert done == ["line"]
