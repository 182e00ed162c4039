"""Regions that are written in place, and files that stay as long as they are."""

from __future__ import annotations

import gc
import mmap
import os
from typing import TYPE_CHECKING

import pytest

from skyward.machine import memory
from skyward.machine.memory import Arena, File
from tests.regions import MIB, offset_of, put, read

if TYPE_CHECKING:
    from collections.abc import Iterator


PAGE = mmap.PAGESIZE


@pytest.fixture
def arena() -> Iterator[Arena]:
    """Return an arena of 16 MiB."""
    arena = Arena(16 * MIB)
    yield arena
    arena.retire()


@pytest.mark.rule("R20")
def test_reserved_region_is_written_in_place(arena: Arena) -> None:
    """A reader sees what was put into its view; the region is used again when nobody has it, or a mapping of it."""
    ref = arena.reserve(MIB)
    assert ref is not None
    ref.owner.view[:MIB] = b"a" * MIB
    assert read(ref) == b"a" * MIB
    offset, opened = offset_of(ref), ref.owner.open(ref)
    del ref
    gc.collect()
    assert offset_of(put(arena, b"b" * MIB)) != offset
    assert bytes(opened) == b"a" * MIB
    del opened
    assert offset_of(put(arena, b"c" * MIB)) == offset


@pytest.mark.rule("F18")
def test_nobody_takes_pages_away_from_those_who_read_them(arena: Arena) -> None:
    """A file that has become shorter would kill whoever has mapped it."""
    ref = put(arena, b"a" * PAGE)
    segment = arena._segment
    assert segment is not None
    with pytest.raises(PermissionError):
        os.ftruncate(segment.fd, 0)
    assert read(ref) == b"a" * PAGE


@pytest.mark.rule("F18")
def test_reader_cannot_write(arena: Arena) -> None:
    """A task that writes rubbish to all descriptors it finds harms nobody else's arguments."""
    ref = put(arena, b"a" * PAGE)
    pid, number, name, *_ = ref.fields
    file = File(pid, number, name)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(file.fd, b"rubbish")
    assert read(ref) == b"a" * PAGE


@pytest.mark.rule("R50")
def test_forked_child_takes_no_pages_from_its_parent(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it lets go of is the parent's all the same."""
    ref = put(arena, b"a" * MIB)
    monkeypatch.setattr(memory, "WARM", 0)
    child = os.fork()
    if child == 0:
        try:
            del ref
            gc.collect()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert read(ref) == b"a" * MIB
