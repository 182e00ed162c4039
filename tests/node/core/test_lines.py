"""Lines out of bytes, and lines that wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skyward_node.core.lines import LONGEST, ROOM, Backlog, Lines


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\r", b""))))
def test_lines_do_not_depend_on_how_bytes_arrive(pieces: list[bytes]) -> None:
    """However the bytes are cut, the same lines come out."""
    lines = Lines()
    found = [line for piece in pieces for line in lines.feed(piece)] + lines.flush()
    whole = b"".join(pieces)
    expected = whole.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert found == expected


def test_partial_line_is_held_until_flushed() -> None:
    """A line without an end is kept back."""
    lines = Lines()
    assert lines.feed(b"one\r\ntw") == [b"one"]
    assert lines.partial
    assert lines.flush() == [b"tw"]
    assert not lines.partial


def test_long_line_is_cut() -> None:
    """A line without end cannot fill the memory."""
    lines = Lines()
    assert [len(line) for line in lines.feed(b"x" * (2 * LONGEST + 5) + b"\n")] == [LONGEST, LONGEST, 5]
    assert [len(line) for line in lines.feed(b"x" * LONGEST)] == [LONGEST]


def test_backlog_groups_lines_by_task_and_stream() -> None:
    """What belongs together leaves together, in order."""
    backlog = Backlog()
    backlog.add(1, 1, [b"a", b"b"])
    backlog.add(1, 2, [b"c"])
    backlog.add(1, 2, [b"d"])
    assert backlog.take() == [(1, 1, 0, [b"a", b"b"]), (1, 2, 0, [b"c", b"d"])]
    assert not backlog


def test_backlog_drops_the_oldest_and_counts() -> None:
    """A reader that does not read costs a bounded amount of memory, and learns what it missed."""
    backlog = Backlog()
    line = b"x" * 1023
    backlog.add(1, 1, [line] * (ROOM // 1024 + 3))
    ((task, stream, dropped, lines), *_rest) = backlog.take()
    assert (task, stream, dropped) == (1, 1, 3)
    assert lines[0] == line
    assert backlog.take() == []
