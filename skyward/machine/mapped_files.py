"""Files that processes of one machine share, seen as memory of our own; and mappings that are used again.

What is mapped is copy-on-write: whoever has it may change what it sees, and the writer does not. To map a hundred
megabytes, to touch each page for the first time and to unmap them takes as long as to read them twice. So a mapping
that nobody refers to any more is kept for the next reader of the same place. It shows what the file holds by then, as
far as no page of it has been changed: the kernel says so page by page, and a mapping in which one has is not kept. It
is asked in the next quiet moment (`tidy`), for whoever lets go may be in the middle of anything.

Knows no arenas: a file is a descriptor and a name that is unique for ever.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import deque
from contextlib import suppress
from typing import Final, Protocol

MAPPINGS: Final = 256  # mappings in use that a process has at a time: each takes a descriptor
KEPT: Final = 16  # mappings that wait for their next reader, for the same reason
KEPT_BYTES: Final = 256 * 2**20  # in them: as much as a writer keeps warm (`memory.WARM`)
POPULATE_WRITE: Final = 23  # MADV_POPULATE_WRITE, since Linux 5.14; Python does not name it

PAGEMAP: Final = "/proc/self/pagemap"  # what the kernel says of the pages of this process
CHUNK: Final = 512  # pages that the kernel is asked about at once: what it says stays in a processor's cache
ENTRY: Final = 8  # bytes for each page, the flags in the last one
# Flags of a page that is none of ours: it is the file's (0x20), or neither there (0x80) nor swapped out (0x40).
AS_THE_FILE: Final = bytes(flags for flags in range(256) if flags & 0x20 or not flags & 0xC0)

Place = tuple[int, int, int]  # the file's name, where it begins, and how many bytes it has


class File(Protocol):
    """What is mapped; while it lives, mappings of it are kept."""

    @property
    def fd(self) -> int:
        """Return its descriptor."""
        ...


class Mapping:
    """Some bytes of a file as memory of this process."""

    __slots__ = ("_address", "_pages", "is_clean", "is_own", "place")

    def __init__(self, fd: int, place: Place) -> None:
        """Raises `OSError`."""
        _, offset, length = self.place = place
        self._pages = mmap.mmap(fd, length, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)
        self._address = 0
        self.is_own = False  # its pages are copies, or are about to be
        self.is_clean = False  # since somebody used it last, it was found to be as the file is

    def lend(self, file: File, keep: object) -> memoryview:
        """Return its memory; when nobody refers to that any more ``keep`` goes, and it may be used again."""
        import ctypes  # a millisecond, which only those pay who share memory

        # Views of the pages themselves cannot be told apart, and do not say when the last one goes.
        memory = (ctypes.c_ubyte * len(self._pages)).from_buffer(self._pages)
        self._address = ctypes.addressof(memory)
        self.is_clean = False
        _lent[id(self)] = self
        weakref.finalize(memory, _returned, self, file, keep).atexit = False
        return memoryview(memory).cast("B")

    @property
    def is_lent(self) -> bool:
        """Return whether somebody uses it."""
        return id(self) in _lent

    def shows_the_file(self) -> bool:
        """Return whether no page of it is a copy, while nobody uses it."""
        if self.is_own or self.is_clean:
            return self.is_clean
        self.is_clean = _all_as_the_file(self._address, len(self._pages))
        return self.is_clean

    def make_own(self) -> None:
        """Give every page its copy, without changing a byte."""
        self.is_own, self.is_clean = True, False  # first: from here on nobody finds it fit to be used again
        pages = self._pages
        try:
            pages.madvise(POPULATE_WRITE)
        except OSError:  # an older kernel: writing a byte onto itself does it
            for at in range(0, len(pages), mmap.PAGESIZE):
                pages[at] = pages[at]


# Any thread touches these, at any moment: a mapping returns in the middle of whatever lets go of it.
_lent: Final[dict[int, Mapping]] = {}  # those in use, by their ids
_idle: Final[dict[Place, tuple[weakref.ref[File], Mapping]]] = {}  # those that are kept; the last was used last
_late: Final[deque[Place]] = deque(maxlen=KEPT)  # returned since `tidy`


def map_file(file: File, place: Place, keep: object) -> tuple[memoryview, Mapping] | None:
    """Return a place as memory of our own, which keeps ``keep``; None if there is no room for it."""
    if len(_lent) >= MAPPINGS:
        return None
    _, mapping = _idle.pop(place, (None, None))
    if mapping is None or not mapping.shows_the_file():
        try:
            mapping = Mapping(file.fd, place)
        except OSError:  # out of descriptors or of address space: those that nobody uses are the first to go
            _idle.clear()
            return None
    return mapping.lend(file, keep), mapping


def tidy() -> None:
    """Let go of what has been returned of late and is of no use."""
    while _late:
        place = _late.popleft()
        kept = _idle.pop(place, None)  # nobody takes it meanwhile
        if kept is not None and kept[1].shows_the_file():
            _idle[place] = kept
            if kept[0]() is None:
                _idle.pop(place, None)


def forget(file: File) -> None:
    """Keep no mapping of a file that nobody uses."""
    for place, (reference, _) in list(_idle.items()):
        if reference() is file:
            _idle.pop(place, None)


def _returned(mapping: Mapping, file: File, _keep_alive: object) -> None:
    _lent.pop(id(mapping), None)
    place = mapping.place
    if mapping.is_own:
        return
    _idle[place] = weakref.ref(file, lambda _: _idle.pop(place, None)), mapping
    _late.append(place)
    kept = list(_idle)
    while len(kept) > KEPT or sum([length for _, _, length in kept]) > KEPT_BYTES:
        _idle.pop(kept.pop(0), None)


def _all_as_the_file(address: int, length: int) -> bool:
    """Return whether no page from an address on is a copy."""
    flags = bytearray(CHUNK * ENTRY)
    first = address // mmap.PAGESIZE
    end = first - -length // mmap.PAGESIZE
    with suppress(OSError):  # not everybody may know
        fd = os.open(PAGEMAP, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for at in range(first, end, CHUNK):
                size = min(CHUNK, end - at) * ENTRY
                if os.preadv(fd, [memoryview(flags)[:size]], at * ENTRY) < size:
                    return False
                if flags[ENTRY - 1 : size : ENTRY].translate(None, AS_THE_FILE):
                    return False
        finally:
            os.close(fd)
        return True
    return False


def _own_all() -> None:
    """Before a fork: the child has its own copies of our mappings, and nobody waits until it has let go of them."""
    _idle.clear()
    for mapping in _lent.copy().values():
        mapping.make_own()


os.register_at_fork(before=_own_all)
