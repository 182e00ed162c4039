"""Memory that processes of one machine share: large buffers are written once, and read where they lie.

A process writes into an *arena*, a file without a name (memfd) that it cuts into *regions*. A reader opens the file
by way of the writer's descriptors in ``/proc`` and maps a region copy-on-write: it may change what it sees, and the
writer does not. So nothing of an arena can be left behind when its processes are gone, however they end.

A region is used again, with pages that are warm, when nobody can be reading it any more. Both ends see to that:

- What a client has written for a task is free when the task has ended on its worker: the worker makes copies of the
  pages that are still in use then (`Mappings.let_go`). If the task ended in any other way its worker may still read,
  and the arena is given up as a whole (`Arena.retire`): the kernel frees it when the last mapping is gone.
- What a worker has written for a result is free when the client says so, having dropped its last mapping (`Lease`), or
  when its daemon has sent the bytes and knows that they have come.
- What a daemon has put together for a task is free when nobody refers to it any more: it knows how each worker ends.

Whoever runs out of room, or of descriptors, does without: the bytes then travel as other bytes do.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from skyward.machine.mapped_files import forget, map_file
from skyward.wire.frames import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.machine.mapped_files import Mapping
    from skyward.wire.frames import Buffer

HEAD: Final = mmap.PAGESIZE  # bytes at the begin of an arena, of which the first eight are its id
LEAST: Final = 128 * 1024  # bytes from which a buffer is shared: opening a mapping costs what copying this does
WARM: Final = 256 * 2**20  # bytes of free regions that keep their pages: fresh ones cost eight times a copy
FILES: Final = 64  # arenas whose files a process keeps open, so that opening one is rare; see `Files`
EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE))


def create_file(size: int) -> int:
    """Return the descriptor of memory without a name, of ``size`` bytes for ever; raises `OSError`.

    Nobody who has it open can take bytes away under those who have it mapped: they would die of it.
    """
    fd = os.memfd_create("skyward-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


class Segment:
    """One memfd, mapped as a whole, and which parts of it are free."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, size)
        self.view = memoryview(self._map)
        self._free: list[tuple[int, int]] = [(HEAD, size - HEAD)]  # (offset, size), by offset; what touches is joined
        self._freed: deque[tuple[int, int]] = deque()  # by finalizers, which may run in the middle of anything
        self._lock = threading.Lock()
        self._warm = 0  # bytes of free regions that have pages
        self._pid = os.getpid()

    def take(self, size: int) -> int | None:
        """Return the offset of ``size`` free bytes, the lowest: pages are warm there. None if there are none."""
        with self._lock:
            self._join_freed()
            offset = self._cut(size)
        self._tidy()
        return offset

    def _cut(self, size: int) -> int | None:
        for index, (offset, room) in enumerate(self._free):
            if room >= size:
                self._free[index : index + 1] = [(offset + size, room - size)] if room > size else []
                self._warm = max(0, self._warm - size)
                return offset
        return None

    def give_back(self, offset: int, size: int) -> None:
        """Free a region, from any thread at any moment."""
        self._freed.append((offset, size))
        self._tidy()

    def _tidy(self) -> None:
        """Join what was freed, unless somebody is at it: whoever is looks again afterwards. Never waits."""
        while self._freed and self._lock.acquire(blocking=False):
            try:
                self._join_freed()
            finally:
                self._lock.release()

    def _join_freed(self) -> None:
        while self._freed:
            self._join(*self._freed.popleft())

    def _join(self, offset: int, size: int) -> None:
        self._warm += size
        if self._warm > WARM:
            self._cool(offset, size)
        spans = sorted([*self._free, (offset, size)])
        joined = [spans[0]]
        for start, length in spans[1:]:
            last, room = joined[-1]
            if last + room == start:
                joined[-1] = (last, room + length)
            else:
                joined.append((start, length))
        self._free = joined

    def _cool(self, offset: int, size: int) -> None:
        """Return the pages to the system; in a forked child they are not ours."""
        if os.getpid() != self._pid:
            return
        with suppress(OSError):
            self._map.madvise(mmap.MADV_REMOVE, offset, size)
            self._warm -= size

    def __del__(self) -> None:
        # The map goes when its last view does; whoever has the file mapped keeps the pages alive.
        with suppress(OSError, AttributeError):
            os.close(self.fd)


class Region:
    """A part of a segment that is in use, for as long as somebody refers to it."""

    __slots__ = ("_kept", "_offset", "_segment", "_size")

    def __init__(self, segment: Segment, offset: int, size: int) -> None:
        self._segment = segment
        self._offset = offset
        self._size = size
        self._kept = False

    @property
    def view(self) -> memoryview:
        """Return its memory, to be written; the view does not keep it."""
        return self._segment.view[self._offset : self._offset + self._size]

    def open(self, ref: Ref) -> Buffer:
        """Return what lies here as memory of our own, which keeps the region; raises `OSError`."""
        return _map(self._segment, ref, self)[0]

    def __del__(self) -> None:
        if not self._kept:
            self._segment.give_back(self._offset, self._size)

    def keep(self) -> None:
        """Never use this region again: somebody unknown may be reading it."""
        self._kept = True


class Arena:
    """What this process writes for others."""

    def __init__(self, limit: int, *, fd: int = -1, seen_as: tuple[int, int] | None = None, worker: int = 0) -> None:
        """``limit`` is in bytes, `HEAD` more than there is room; ``fd`` a memfd of that size.

        Others know that as ``seen_as`` (pid, descriptor). ``worker`` is the upper half of the regions' numbers.
        """
        self._limit = max(mmap.PAGESIZE, limit // mmap.PAGESIZE * mmap.PAGESIZE)
        self._lock = threading.Lock()
        self._seen_as = seen_as
        self._id = 0
        self._count = worker << 32
        self._segment: Segment | None = None
        if fd >= 0:
            self._adopt(fd)

    def put(self, buffer: Buffer) -> Ref | None:
        """Copy a buffer into a free region and return a reference, which keeps the region; None if there is no room."""
        view = memoryview(buffer)
        ref = self.reserve(view.nbytes)
        if ref is not None:
            ref.owner.view[: view.nbytes] = view
        return ref

    def reserve(self, length: int) -> Ref | None:
        """Return a reference to ``length`` bytes that are to be written into the region that owns it; None as above."""
        size = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        with self._lock:
            segment = self._segment
            if segment is None and self._seen_as is None:
                segment = self._open()
            offset = segment.take(size) if segment is not None else None
            if segment is None or offset is None:
                return None
            self._count += 1
            number, (pid, fd), arena = self._count, self._seen_as or (os.getpid(), segment.fd), self._id
        ref = Ref.make(pid, fd, arena, number, offset, length)
        ref.owner = Region(segment, offset, size)
        return ref

    def _open(self) -> Segment | None:
        try:
            return self._adopt(create_file(self._limit))
        except OSError:
            return None

    def _adopt(self, fd: int) -> Segment | None:
        try:
            self._segment = Segment(fd, self._limit)
        except (OSError, ValueError):  # no address space for it
            os.close(fd)
            return None
        name = os.urandom(8)
        self._segment.view[: len(name)] = name
        self._id = int.from_bytes(name, "big")
        return self._segment

    def retire(self) -> None:
        """Write nothing into this segment again: somebody unknown may be reading it."""
        with self._lock:
            self._segment = None


# --- reading -------------------------------------------------------------------------------


class File:
    """An arena of another process, open for as long as somebody refers to it."""

    __slots__ = ("__weakref__", "fd")

    def __init__(self, pid: int, number: int, arena: int) -> None:
        # To be read only: a task may write rubbish to every descriptor that its process has.
        self.fd = os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY | os.O_CLOEXEC)
        # A task that was given up may look for its arguments when the descriptor has another file already.
        if os.pread(self.fd, 8, 0) != arena.to_bytes(8, "big"):
            raise OSError(errno.ESTALE, f"descriptor {number} of process {pid} is not the shared memory any more")

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            os.close(self.fd)


class Files:
    """The arenas this process reads; those not read for long are forgotten.

    They are kept by the place where they are found. A descriptor that has another arena now says that the one
    before is gone: to keep that open would keep its memory.
    """

    def __init__(self) -> None:
        self._files: dict[tuple[int, int], tuple[int, File]] = {}
        self._lock = threading.Lock()

    def of(self, ref: Ref) -> File:
        """Return the file of a reference; raises `OSError`."""
        pid, number, arena, _, _, _ = ref.fields
        place = pid, number
        with self._lock:
            known, file = self._files.pop(place, (arena, None))
            if file is None or known != arena:
                file = self._open(pid, number, arena)
            self._files[place] = arena, file  # the last one is the one used last
            if len(self._files) > FILES:
                del self._files[next(iter(self._files))]
        return file

    def _open(self, pid: int, number: int, arena: int) -> File:
        try:
            return File(pid, number, arena)
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
        self._files.clear()  # out of descriptors: those we keep for speed only are the first to go
        return File(pid, number, arena)

    def close(self) -> None:
        """Keep no file open; those that are being read close with their last reader."""
        with self._lock:
            for _, file in self._files.values():
                forget(file)
            self._files.clear()


def _map(file: File | Segment, ref: Ref, keep: object) -> tuple[memoryview, Mapping] | tuple[bytearray, None]:
    """Return what a reference refers to, as memory of our own, and the mapping; ``keep`` lives as long as both do."""
    _, _, arena, _, offset, length = ref.fields
    size = os.fstat(file.fd).st_size
    if not 0 < length <= size - offset:  # a claim: it costs nothing before it is found to be true
        raise OSError(f"shared memory of {size} bytes has no {length} bytes at {offset}")
    return map_file(file, (arena, offset, length), keep) or (read_copy(file.fd, ref), None)


def read_copy(fd: int, ref: Ref) -> bytearray:
    """Return a copy of what a reference refers to; raises `OSError`."""
    _, _, _, _, offset, length = ref.fields
    copied = bytearray(length)
    view = memoryview(copied)
    at = 0
    while at < length:
        count = os.preadv(fd, [view[at:]], offset + at)
        if not count:
            raise OSError(f"shared memory of {length} bytes ends after {at}")
        at += count
    return copied


class Lease:
    """The right to read a result's region; the writer is told when it ends, whether or not it was used."""

    __slots__ = ("_file", "_pid", "_released", "number")

    def __init__(self, file: File | OSError, number: int, released: Callable[[int], object]) -> None:
        """``file`` may be the reason why there is none: whoever asks for the bytes is told."""
        self._file = file
        self._pid = os.getpid()
        self._released = released  # called in any thread at any moment
        self.number = number

    def open(self, ref: Ref) -> Buffer:
        """Return the bytes, as memory of our own; raises `OSError`."""
        if isinstance(self._file, OSError):
            raise OSError(self._file.errno, self._file.strerror)
        if os.getpid() != self._pid:  # the region may be used again by now: the lease is our parent's
            raise OSError("a result that was not fetched before a fork cannot be fetched in the child")
        return _map(self._file, ref, self)[0]

    def __del__(self) -> None:
        self._released(self.number)


class Mappings:
    """What one task at a time reads of its client's arena."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._open: list[Mapping] = []

    def open(self, ref: Ref) -> Buffer:
        """Return the bytes that a reference in an argument stands for; raises `OSError`."""
        memory, mapping = _map(self._files.of(ref), ref, None)
        if mapping is not None:
            self._open.append(mapping)
        return memory

    def let_go(self) -> None:
        """The task has ended: what of its memory is still in use becomes ours, page by page."""
        for mapping in self._open:
            if mapping.is_lent:
                mapping.make_own()
        self._open.clear()


def opened(buffers: Sequence[Buffer], open_ref: Callable[[Ref], Buffer]) -> tuple[Buffer, ...]:
    """Return buffers with what references stand for in place of these."""
    return tuple([open_ref(buffer) if type(buffer) is Ref else buffer for buffer in buffers])
