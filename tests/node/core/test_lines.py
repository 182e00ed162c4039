"""Lines out of bytes, and lines that wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward_node.core.lines import BATCH, ENTRY, LONGEST, ROOM, Backlog, Block, Lines

ALL = 100 * ROOM  # room for whatever there is


def split(block: Block | None) -> list[bytes]:
    """Return the lines of a block."""
    if block is None:
        return []
    lines = block.text.split(b"\n")
    assert len(lines) == block.number
    return lines


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\r", b""))))
def test_lines_do_not_depend_on_how_bytes_arrive(pieces: list[bytes]) -> None:
    """However the bytes are cut, the same lines come out."""
    lines = Lines()
    found = [line for piece in pieces for line in split(lines.feed(piece))] + split(lines.flush())
    whole = b"".join(pieces)
    expected = whole.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert found == expected


def test_partial_line_is_held_until_flushed() -> None:
    """A line without an end is kept back."""
    lines = Lines()
    assert split(lines.feed(b"one\r\ntw")) == [b"one"]
    assert lines.partial
    assert split(lines.flush()) == [b"tw"]
    assert lines.flush() is None


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_end_of_a_line_that_was_flushed_is_no_line(end: bytes) -> None:
    """What has been shown and then ends is not followed by an empty line, unless it was another's."""
    lines = Lines()
    lines.feed(b"name? ")
    lines.flush()
    assert split(lines.feed(end + b"next\n")) == [b"next"]
    lines.feed(b"name? ")
    lines.flush()
    lines.flush(ended=True)
    assert split(lines.feed(b"\nnext\n")) == [b"", b"next"]


def test_line_that_begins_is_counted() -> None:
    """So that whoever wants to flush a line later knows whether it is still the same."""
    lines = Lines()
    seen: list[int] = []
    for data in (b"a", b"b", b"\nc", b"\n", b"d"):
        lines.feed(data)
        seen.append(lines.begun)
    assert seen[0] == seen[1] < seen[2] < seen[4]


@pytest.mark.rule("R28")
def test_long_line_is_cut() -> None:
    """A line without end cannot fill the memory; one of just 64 KiB is one."""
    lines = Lines()
    assert [len(line) for line in split(lines.feed(b"x" * (2 * LONGEST + 5) + b"\n"))] == [LONGEST, LONGEST, 5]
    assert [len(line) for line in split(lines.feed(b"one\n" + b"x" * (LONGEST + 1)))] == [3, LONGEST]
    assert split(lines.feed(b"\n")) == [b"x"]
    assert split(lines.feed(b"y" * LONGEST)) == []
    assert [len(line) for line in split(lines.feed(b"\n"))] == [LONGEST]


def test_long_line_is_cut_between_characters() -> None:
    """Text stays text."""
    lines = split(Lines().feed(("é" * LONGEST + "a" + "é" * LONGEST + "\n").encode()))
    assert all(LONGEST - 4 < len(line) <= LONGEST for line in lines[:-1])
    assert [line.decode() for line in lines]


def block(*lines: bytes) -> Block:
    """Return a block."""
    return Block(len(lines), b"\n".join(lines))


def test_backlog_groups_lines_by_task_and_stream() -> None:
    """What belongs together leaves together, in order."""
    backlog = Backlog()
    backlog.add(1, 1, block(b"a", b"b"))
    backlog.add(1, 2, block(b"c"))
    backlog.add(1, 2, block(b"d"))
    assert not backlog.isdisjoint([1])
    assert backlog.isdisjoint([2])
    assert backlog.take(ALL) == [(1, 1, 0, block(b"a", b"b")), (1, 2, 0, block(b"c", b"d"))]
    assert not backlog


def test_backlog_drops_the_oldest_and_counts() -> None:
    """A reader that does not read costs a bounded amount of memory, and learns what it missed."""
    backlog = Backlog()
    lines = block(b"x" * 500, b"x" * (523 - ENTRY))
    for _ in range(ROOM // 1024 + 3):
        backlog.add(1, 1, lines)
    ((task, stream, dropped, first), *_rest) = backlog.take(ALL)
    assert (task, stream, dropped) == (1, 1, 6)
    assert first.text.startswith(lines.text)
    assert backlog.take(ALL) == []


def test_backlog_gives_as_much_as_there_is_room_for() -> None:
    """The rest waits, or is dropped and counted."""
    backlog = Backlog()
    for number in range(8):
        backlog.add(1, 1, block(b"%d" % number * 1000))
    ((_, _, dropped, first),) = backlog.take(2500)
    assert (dropped, first.number) == (0, 3)
    backlog.add(1, 1, block(b"one", b"last"))
    backlog.drop()
    assert backlog.take(0) == []
    assert backlog.take(1) == [(1, 1, 6, block(b"last"))]
    backlog.drop()
    assert not backlog


def test_backlog_makes_messages_of_bearable_size() -> None:
    """However much there is."""
    backlog = Backlog()
    for _ in range(ROOM // 70_000):
        backlog.add(1, 1, block(b"x" * 60_000))
    assert all(len(taken.text) < BATCH + LONGEST for _, _, _, taken in backlog.take(ALL))
