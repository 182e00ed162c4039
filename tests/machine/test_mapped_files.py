"""Files as memory of our own: mappings that are used again, as long as they show what the file holds."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
from typing import TYPE_CHECKING

import pytest

from skyward.machine import mapped_files
from skyward.machine.mapped_files import KEPT, forget, map_file, tidy
from skyward.machine.memory import create_file

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = mmap.PAGESIZE
PAGES = 8  # of a place


class Shared:
    """A file, and what its writer does with it."""

    def __init__(self, pages: int = 2 * PAGES) -> None:
        self.fd = create_file(pages * PAGE)
        self._map = mmap.mmap(self.fd, pages * PAGE)

    def write(self, data: bytes) -> None:
        """Fill the first place."""
        self._map[: PAGES * PAGE] = data * PAGES * PAGE

    def map(self, *, first: int = 0, pages: int = PAGES, keep: object = None) -> memoryview:
        """Return some pages as memory of our own."""
        mapped = map_file(self, (id(self), first * PAGE, pages * PAGE), keep)
        assert mapped is not None
        return mapped[0]

    def close(self) -> None:
        """Close it."""
        forget(self)
        self._map.close()
        os.close(self.fd)


@pytest.fixture
def shared() -> Iterator[Shared]:
    """Return a file of which nothing is mapped."""
    shared = Shared()
    shared.write(b"a")
    yield shared
    shared.close()


def address(memory: memoryview) -> int:
    """Return where some memory is."""
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(memory))


def idle() -> int:
    """Return how many mappings wait for their next reader, after those of no use are gone."""
    tidy()
    return len(mapped_files._idle)


@pytest.mark.rule("R20")
def test_mapping_is_used_again(shared: Shared) -> None:
    """The next reader of a place has the same memory, without touching its pages for the first time."""
    memory = shared.map()
    assert bytes(memory[:1]) == b"a"
    place = address(memory)
    del memory
    shared.write(b"b")
    for _ in range(2):  # whether or not somebody has looked at it meanwhile
        memory = shared.map()
        assert address(memory) == place
        assert bytes(memory) == b"b" * (PAGES * PAGE)
        del memory
        assert idle() == 1


@pytest.mark.rule("R20")
@pytest.mark.parametrize("looked", [False, True])
def test_changed_mapping_is_not_used_again(shared: Shared, *, looked: bool) -> None:
    """One byte that a reader has changed is enough: the next one sees what was written."""
    memory = shared.map()
    memory[-1] = ord("!")
    del memory
    if looked:
        assert idle() == 0
    shared.write(b"b")
    assert bytes(shared.map()) == b"b" * (PAGES * PAGE)


@pytest.mark.rule("R20")
def test_mapping_is_its_readers_alone(shared: Shared) -> None:
    """Of two readers at a time each has memory of its own; any view keeps it."""
    first = shared.map()
    part = first[PAGE:]
    del first
    second = shared.map()
    second[PAGE] = ord("!")
    assert bytes(part[:1]) == b"a"


@pytest.mark.rule("R20")
def test_mapping_that_was_made_own_is_not_used_again(shared: Shared) -> None:
    """It shows what the file held once."""
    mapped = map_file(shared, (id(shared), 0, PAGES * PAGE), None)
    assert mapped is not None
    memory, mapping = mapped
    del mapped
    mapping.make_own()
    shared.write(b"b")
    assert bytes(memory[:1]) == b"a"
    del memory
    assert not mapping.is_lent
    assert bytes(shared.map()[:1]) == b"b"


@pytest.mark.rule("R20")
def test_fork_leaves_no_mapping_to_be_used_again(shared: Shared) -> None:
    """What is in use becomes the process's own, what is not is let go, in the child too."""
    kept, memory = shared.map(first=PAGES), shared.map()
    assert bytes(memory[:1]) == b"a"
    del kept
    pid = os.fork()
    if pid == 0:
        os._exit(len(mapped_files._idle))
    assert os.waitpid(pid, 0)[1] == 0
    assert idle() == 0
    del memory
    shared.write(b"b")
    assert idle() == 0
    assert bytes(shared.map()[:1]) == b"b"


@pytest.mark.rule("R20")
def test_what_a_mapping_keeps_goes_with_its_last_reader(shared: Shared) -> None:
    """A mapping that waits for its next reader keeps no region from being used."""
    gone: list[int] = []

    class Kept:
        def __del__(self) -> None:
            gone.append(1)

    memory = shared.map(keep=Kept())
    part = memory[:1]
    del memory
    assert gone == []
    del part
    assert gone == [1]
    assert idle() == 1


def test_mappings_that_wait_are_bounded(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """In number, because each has a descriptor, and in bytes."""
    many = [Shared() for _ in range(KEPT + 2)]
    for one in many:
        one.map()
    assert idle() == KEPT
    place = address(many[-1].map())
    monkeypatch.setattr(mapped_files, "KEPT_BYTES", 3 * PAGES * PAGE)
    shared.map()
    assert idle() == 3
    assert address(many[-1].map()) == place  # the oldest go first
    monkeypatch.setattr(mapped_files, "KEPT_BYTES", PAGES * PAGE - 1)
    shared.map()
    assert idle() == 0
    for one in many:
        one.close()


def test_file_that_is_gone_has_no_mappings() -> None:
    """They would keep its memory."""
    shared = Shared()
    shared.map()
    assert idle() == 1
    os.close(shared.fd)
    del shared
    assert idle() == 0


@pytest.mark.parametrize("says", ["nothing", "less"])
def test_where_the_kernel_does_not_tell_nothing_is_used_again(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    """Then every reader has a new mapping."""
    monkeypatch.setattr(mapped_files, "PAGEMAP", "/proc/self/none" if says == "nothing" else os.devnull)
    memory = shared.map()
    memory[0] = ord("!")
    del memory
    assert bytes(shared.map()[:1]) == b"a"
    assert idle() == 0


def test_idle_mappings_make_room_for_others(shared: Shared) -> None:
    """Out of descriptors, those that nobody uses are the first to go."""
    shared.map()
    assert idle() == 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        assert map_file(shared, (id(shared), PAGES * PAGE, PAGE), None) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert idle() == 0
