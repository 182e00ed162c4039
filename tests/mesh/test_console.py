"""What tasks print, on the client's own stdout and stderr."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from skyward.mesh.console import Console
from skyward.wire.messages import Output
from tests.mesh.scripted import LONG


def output(stream: int = 1, lines: int = 1) -> Output:
    """Return a header."""
    return Output(7, 1, stream, lines, 0)


def shown(*chunks: tuple[int, Output, list[bytes]]) -> None:
    """Show lines and wait until they are written."""
    console = Console(enabled=True)
    for rank, message, lines in chunks:
        console.show(rank, message, lines)
    console.close(LONG)


@pytest.mark.rule("R28")
def test_lines_are_marked_with_their_node(capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout goes to stdout and stderr to stderr, in order."""
    shown((0, output(lines=2), [b"one", b"two"]), (3, output(2), [b"bad"]), (1, output(), [b"three"]))
    captured = capsys.readouterr()
    assert captured.out == "[node 0] one\n[node 0] two\n[node 1] three\n"
    assert captured.err == "[node 3] bad\n"


def test_bytes_that_are_no_text_are_shown_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """What is no UTF-8 is replaced."""
    shown((0, output(), [b"a\xffb"]))
    assert capsys.readouterr().out == "[node 0] a\N{REPLACEMENT CHARACTER}b\n"


def test_text_that_the_stream_cannot_encode_is_shown_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal without the letters still gets the line."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    shown((0, output(lines=2), ["é".encode(), b"plain"]))
    assert written.getvalue() == b"[node 0] \\xe9\n[node 0] plain\n"


def test_disabled_console_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """With ``console=False`` there is no thread either."""
    before = threading.active_count()
    console = Console(enabled=False)
    console.show(0, output(), [b"one"])
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
        console.show(0, output(1), [b"lost"])
        console.show(0, output(2), [b"lost"])
        console.close(LONG)
    shown((0, output(), [b"heard"]))
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
    console.show(0, output(), [b"line"])
    console.close(0.01)
    assert stream.getvalue() == ""
    let.set()
    console.close(LONG)
    assert stream.getvalue() == "[node 0] line\n"
