"""Shared memory: regions used again only when nobody reads them, and nothing left behind."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import resource
from typing import TYPE_CHECKING, Any

import pytest

from skyward.machine import mapped_files, memory
from skyward.machine.memory import HEAD, Arena, File, Files, Lease, Mappings
from skyward.wire.frames import Ref
from tests.regions import MIB, offset_of, put, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = mmap.PAGESIZE


def pages_of(arena: Arena) -> int:
    """Return the bytes that its file takes."""
    segment = arena._segment
    assert segment is not None
    return os.fstat(segment.fd).st_blocks * 512


@pytest.fixture
def arena() -> Iterator[Arena]:
    """Return an arena of 16 MiB."""
    arena = Arena(16 * MIB)
    yield arena
    arena.retire()


@pytest.mark.rule("R20")
def test_reader_sees_what_was_written(arena: Arena) -> None:
    """A reference stands for the bytes, whatever kind of buffer they came in."""
    for data in (b"x" * 300_000, bytearray(b"y" * PAGE), memoryview(b"z" * (PAGE + 1))):
        ref = arena.put(data)
        assert ref is not None
        assert ref.length == len(data)
        assert read(ref) == bytes(data)


def test_writer_does_not_see_what_a_reader_changes(arena: Arena) -> None:
    """Each reader has its own copy of what it changes."""
    ref = put(arena, b"a" * PAGE)
    first: Any = Mappings(Files()).open(ref)
    first[0] = ord("b")
    assert first[0] == ord("b")
    assert read(ref) == b"a" * PAGE


def test_region_is_used_again_when_its_reference_is_gone(arena: Arena) -> None:
    """The lowest free region comes first: its pages are warm."""
    ref = put(arena, b"a" * PAGE)
    offset, number = offset_of(ref), ref.number
    del ref
    again = put(arena, b"b" * PAGE)
    assert offset_of(again) == offset
    assert again.number != number


def test_region_is_not_used_again_while_a_reference_lives(arena: Arena) -> None:
    """Copies of the reference's bytes do not count, the reference does."""
    ref = put(arena, b"a" * PAGE)
    other = put(arena, b"b" * PAGE)
    assert offset_of(other) != offset_of(ref)
    assert read(ref) == b"a" * PAGE


def test_free_neighbours_are_joined() -> None:
    """Room that was given back in pieces, in any order, is one piece again."""
    arena = Arena(HEAD + 4 * PAGE)
    refs = [put(arena, bytes([n]) * PAGE) for n in range(4)]
    assert arena.put(b"x") is None
    for index in (2, 0, 3, 1):
        refs[index] = put(Arena(2 * PAGE), b"x")
    whole = put(arena, b"w" * 4 * PAGE)
    assert offset_of(whole) == HEAD


def test_full_arena_gives_no_room(arena: Arena) -> None:
    """Whoever finds no room sends the bytes."""
    kept = put(arena, bytes(10 * MIB))
    assert arena.put(bytes(10 * MIB)) is None
    del kept
    assert arena.put(bytes(10 * MIB)) is not None


def test_pages_beyond_the_warm_ones_go_back_at_once(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that nobody uses is the system's, also if nothing is ever put again."""
    monkeypatch.setattr(memory, "WARM", 2 * MIB)
    refs = [put(arena, b"x" * MIB) for _ in range(8)]
    assert pages_of(arena) == HEAD + 8 * MIB
    refs.clear()
    assert pages_of(arena) <= HEAD + 2 * MIB


def test_retired_arena_is_not_written_again(arena: Arena) -> None:
    """What comes next lies in another file, and what is there stays as it is."""
    old = put(arena, b"a" * PAGE)
    old_arena, offset = old.fields[2], offset_of(old)
    files = Files()
    mapped = Mappings(files).open(old)
    arena.retire()
    del old
    new = put(arena, b"b" * PAGE)
    assert new.fields[2] != old_arena
    assert offset_of(new) == offset
    assert bytes(mapped) == b"a" * PAGE


def test_region_that_is_kept_is_not_used_again(arena: Arena) -> None:
    """Nobody knows who reads it, so its pages stay until the arena's file is gone."""
    ref = put(arena, b"a" * PAGE)
    offset = offset_of(ref)
    ref.owner.keep()
    del ref
    assert offset_of(put(arena, b"b" * PAGE)) != offset


def test_worker_writes_into_the_memory_that_it_was_given() -> None:
    """Readers open it at its owner, and a region's number names the worker."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    os.truncate(fd, MIB)
    seen = os.dup(fd)
    arena = Arena(MIB, fd=fd, seen_as=(os.getpid(), seen), worker=7)
    ref = put(arena, b"a" * PAGE)
    assert ref.fields[:2] == (os.getpid(), seen)
    assert ref.number >> 32 == 7
    assert read(ref) == b"a" * PAGE
    arena.retire()
    assert arena.put(b"b" * PAGE) is None  # others would look for it in the old place
    os.close(seen)


def test_mapping_that_fails_leaves_a_worker_without_an_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without address space nothing is shared, now or later."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    with monkeypatch.context() as patch:
        patch.setattr(memory, "Segment", _raise(OSError(errno.ENOMEM, "no")))
        arena = Arena(MIB, fd=fd, seen_as=(os.getpid(), fd))
        assert arena.put(bytes(PAGE)) is None
    assert arena.put(bytes(PAGE)) is None


def _raise(error: BaseException) -> Any:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def test_without_descriptors_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of descriptors or of memory: the bytes travel as other bytes do, and later calls may have more luck."""
    arena = Arena(MIB)
    with monkeypatch.context() as patch:
        patch.setattr(os, "memfd_create", _raise(OSError(errno.EMFILE, "no")))
        assert arena.put(bytes(PAGE)) is None
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", _raise(OSError(errno.ENOSPC, "no")))
        assert arena.put(bytes(PAGE)) is None
    assert arena.put(bytes(PAGE)) is not None


# --- reading -------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", [(0, 0), (0, 2 * MIB), (MIB, 1), (2**63, PAGE), (0, 2**62)])
@pytest.mark.rule("R43")
def test_claim_beyond_the_memory_is_refused(claim: tuple[int, int]) -> None:
    """A reference is checked against the file before anything is mapped or copied."""
    arena = Arena(MIB)
    pid, fd, name, number, _, _ = put(arena, b"a").fields
    ref = Ref.make(pid, fd, name, number, *claim)
    with pytest.raises(OSError, match="has no"):
        read(ref)


def test_descriptor_of_another_arena_replaces_the_file(arena: Arena) -> None:
    """When a place has another arena now, the file of the old one is let go of: it would keep its memory."""
    files = Files()
    first = put(arena, b"a" * PAGE)
    pid, fd, name, number, offset, length = first.fields
    old = files.of(first)
    assert files.of(first) is old
    segment = arena._segment
    assert segment is not None
    segment.view[:8] = (name ^ 1).to_bytes(8, "big")
    later = Ref.make(pid, fd, name ^ 1, number, offset, length)
    assert files.of(later) is not old
    assert len(files._files) == 1


def test_descriptor_that_is_something_else_by_now_is_refused(arena: Arena, tmp_path: Path) -> None:
    """Whoever comes too late, when the descriptor has another file, never takes that for its arguments."""
    ref = put(arena, b"a" * PAGE)
    pid, _, name, number, offset, length = ref.fields
    other = Arena(MIB)
    for late in (put(other, b"b" * PAGE).fields[1], os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)):
        with pytest.raises(OSError, match="not the shared memory any more"):
            read(Ref.make(pid, late, name, number, offset, length))
    os.close(late)


def test_files_not_read_for_long_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process does not keep the files of all arenas it has ever read."""
    monkeypatch.setattr(memory, "FILES", 2)
    arenas = [Arena(MIB) for _ in range(3)]
    files = Files()
    refs = [put(arena, b"a" * PAGE) for arena in arenas]
    before = len(os.listdir("/proc/self/fd"))
    for ref in refs:
        files.of(ref)
    assert len(os.listdir("/proc/self/fd")) == before + 2
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_out_of_descriptors_closes_files_that_are_kept_for_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of other arenas are the first to go."""
    arenas = [Arena(MIB), Arena(MIB)]
    refs = [put(arena, b"a" * PAGE) for arena in arenas]
    files = Files()
    files.of(refs[0])
    real, failures = File, iter([OSError(errno.EMFILE, "no")])

    def scarce(pid: int, number: int, arena: int) -> File:
        error = next(failures, None)
        if error is not None:
            raise error
        return real(pid, number, arena)

    monkeypatch.setattr(memory, "File", scarce)
    assert files.of(refs[1]) is not None
    assert [name for name, _ in files._files.values()] == [refs[1].fields[2]]


def test_many_mappings_fall_back_to_copies(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mapping takes a descriptor, so there is a bound; what comes beyond it is read into memory."""
    monkeypatch.setattr(mapped_files, "MAPPINGS", len(mapped_files._lent) + 2)
    ref, files = put(arena, b"abc" * PAGE), Files()
    opened_ones = [Mappings(files).open(ref) for _ in range(4)]
    assert [type(one) for one in opened_ones] == [memoryview, memoryview, bytearray, bytearray]
    assert {bytes(one) for one in opened_ones} == {b"abc" * PAGE}
    opened_ones.clear()
    assert type(Mappings(files).open(ref)) is memoryview


def test_mapping_without_descriptors_is_a_copy(arena: Arena) -> None:
    """The task gets its bytes all the same."""
    ref, files = put(arena, b"abc" * PAGE), Files()
    files.of(ref)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        copied = Mappings(files).open(ref)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert type(copied) is bytearray
    assert copied == b"abc" * PAGE


@pytest.mark.parametrize("kernel", ["new", "old"])
def test_own_pages_keep_their_bytes_and_leave_the_file(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    """After that the writer may use the region again, and the reader keeps what it had."""
    if kernel == "old":
        monkeypatch.setattr(mapped_files, "POPULATE_WRITE", 12345)
    ref = put(arena, b"a" * (3 * PAGE + 5))
    reader = Mappings(Files())
    mapped: Any = reader.open(ref)
    mapped[1] = ord("!")
    reader.let_go()
    segment = arena._segment
    assert segment is not None
    segment.view[offset_of(ref) : offset_of(ref) + ref.length] = b"z" * ref.length
    assert bytes(mapped) == b"a!" + b"a" * (3 * PAGE + 3)


def test_what_nobody_uses_any_more_is_not_copied(arena: Arena) -> None:
    """Only what a task has kept costs a copy when it ends."""
    reader = Mappings(Files())
    reader.open(put(arena, b"a" * PAGE))
    gc.collect()
    [mapping] = reader._open
    reader.let_go()
    assert (reader._open, mapping.is_own) == ([], False)


def test_forked_child_keeps_what_its_parent_had_mapped(arena: Arena) -> None:
    """Nobody waits until a child has let go, so its mappings are its own from the fork on."""
    ref = put(arena, b"a" * PAGE)
    mapped = Mappings(Files()).open(ref)
    go, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ready)
        os.read(go, 1)
        os._exit(0 if bytes(mapped) == b"a" * PAGE else 1)
    os.close(go)
    segment = arena._segment
    assert segment is not None
    segment.view[offset_of(ref) : offset_of(ref) + PAGE] = b"z" * PAGE
    os.close(ready)
    assert os.waitpid(pid, 0)[1] == 0


# --- leases --------------------------------------------------------------------------------


def leased(arena: Arena, released: list[int]) -> Ref:
    """Return a reference as a client has it."""
    ref = put(arena, b"a" * PAGE)
    ref.owner = ref.owner, Lease(Files().of(ref), ref.number, released.append)
    return ref


def test_lease_is_released_once_the_last_mapping_is_gone(arena: Arena) -> None:
    """Not before, and not twice, however often it was opened."""
    released: list[int] = []
    ref = leased(arena, released)
    number, (_, lease) = ref.number, ref.owner
    first, second = lease.open(ref), lease.open(ref)
    view = memoryview(first)[5:10]
    del ref, lease, first
    assert released == []
    del second
    assert released == []
    del view
    assert released == [number]


def test_lease_that_was_never_opened_is_released(arena: Arena) -> None:
    """A result that nobody asked for frees its region, too."""
    released: list[int] = []
    ref = leased(arena, released)
    number = ref.number
    del ref
    assert released == [number]


def test_lease_on_a_copy_is_released_with_its_reference(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy does not keep the region."""
    monkeypatch.setattr(mapped_files, "MAPPINGS", 0)
    released: list[int] = []
    ref = leased(arena, released)
    copied = ref.owner[1].open(ref)
    number = ref.number
    del ref
    assert released == [number]
    assert copied == b"a" * PAGE


def test_lease_without_a_file_tells_why() -> None:
    """A client out of descriptors says so to whoever asks for the value, and to nobody else."""
    released: list[int] = []
    lease = Lease(OSError(errno.EMFILE, "Too many open files"), 5, released.append)
    with pytest.raises(OSError, match="Too many open files"):
        lease.open(Ref.make(1, 2, 3, 5, 0, PAGE))
    del lease
    gc.collect()
    assert released == [5]


def test_lease_belongs_to_the_process_that_has_it(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a forked child the region may be used again at any time."""
    ref = leased(arena, [])
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(OSError, match="fork"):
        ref.owner[1].open(ref)
