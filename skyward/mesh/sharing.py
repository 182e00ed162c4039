"""Large buffers in memory that client and workers share, where they are processes of one machine.

What is decided here is when memory may be used again; how it is read and written is `skyward.machine.memory`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from skyward.errors import ProtocolError
from skyward.machine.copies import Copies
from skyward.machine.memory import EXHAUSTED, LEAST, Arena, Files, Lease
from skyward.wire.frames import Payload, Ref
from skyward.wire.messages import MAX_BATCH
from skyward.wire.statuses import IMPORT_FAILED, OK, RAISED, TOO_LARGE, UNSERIALIZABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from skyward.dispatch.tasks import Task
    from skyward.machine.memory import File, Region
    from skyward.results import Outcome
    from skyward.wire.frames import Buffer

ARENA_SHARE: Final = 4  # of the available memory may hold arguments: the rest is for those who read them
# Ends of a task after which its worker reads nothing of its arguments any more.
_SAFE: Final = frozenset((OK, RAISED, UNSERIALIZABLE, TOO_LARGE, IMPORT_FAILED))


def _read_by(task: Task) -> Iterator[Buffer]:
    """Yield the buffers that the worker of a task may be reading."""
    yield from task.buffers
    for feed in task.feeds:
        for packed in feed.kept:
            yield from packed.buffers


class Copied:
    """A copy of a buffer in shared memory, for as long as a task refers to it.

    It has no finalizer: who finds it by a weak reference has it before its region can be used again.
    """

    __slots__ = ("__weakref__", "_ref", "_region")

    def __init__(self, ref: Ref) -> None:
        """Take the place of the region that owns a reference."""
        self._ref = Ref(ref)
        self._region: Region = ref.owner
        ref.owner = self

    def bytes(self) -> memoryview:
        """Return what it holds."""
        return self._region.view[: self._ref.length]

    def refer(self) -> Ref:
        """Return another reference to it."""
        ref = Ref(self._ref)
        ref.owner = self
        return ref

    def keep(self) -> None:
        """Never use its region again: somebody unknown may be reading it."""
        self._region.keep()


class Sharing:
    """The memory that one pool shares with its nodes."""

    def __init__(self, limit: int) -> None:
        """``limit``: bytes of arguments that wait for their tasks to end."""
        self._arena = Arena(limit)
        self._copies = Copies(Copied.bytes)
        self._files = Files()
        self.waiting: dict[int, deque[int]] = {}  # regions that nobody reads any more, by rank; nodes wait for them
        self._lent: dict[int, int] = {}  # regions that were not said to be released, by rank

    # --- arguments -------------------------------------------------------------------------

    def place(self, packed: Payload) -> Payload:
        """Return a payload whose large buffers lie in shared memory, as far as there is room (any thread)."""
        return Payload(packed.data, tuple([self._put(buffer) for buffer in packed.buffers]))

    def _put(self, buffer: Buffer) -> Buffer:
        """Return a reference to the bytes; if a task has the same from the same memory, these are not copied again."""
        view = memoryview(buffer)
        if view.nbytes < LEAST:
            return buffer
        copies = self._copies
        if (known := copies.find(view)) is not None:
            return known.refer()
        ref = self._arena.put(view)
        if ref is None:
            return buffer
        copies.add(view, Copied(ref))
        return ref

    def ended(self, task: Task, outcome: Outcome) -> None:
        """A task has ended: unless its worker ended it, nobody knows who still reads its arguments."""
        sent = task.node >= 0
        safe = isinstance(outcome, tuple) and outcome[0] in _SAFE and not task.losses
        if sent and not safe:
            refs = [buffer for buffer in _read_by(task) if type(buffer) is Ref]
            for ref in refs:
                ref.owner.keep()
            if refs:
                self._arena.retire()
                self._copies = Copies(Copied.bytes)  # else a copy that is used again and again would keep it

    # --- results ---------------------------------------------------------------------------

    def receive(self, rank: int, refs: Iterable[Buffer]) -> None:
        """Make sure that results of a node can be read for as long as somebody refers to them."""
        released = self.waiting.setdefault(rank, deque())
        for ref in refs:
            if type(ref) is Ref:
                ref.owner = Lease(self._file_of(ref), ref.number, released.append)
                self._lent[rank] = self._lent.get(rank, 0) + 1

    def lends(self, rank: int) -> bool:
        """Return whether somebody may still read what lies in the memory of a node."""
        return self._lent.get(rank, 0) > len(self.waiting.get(rank, ()))

    def _file_of(self, ref: Ref) -> File | OSError:
        try:
            return self._files.of(ref)
        except OSError as error:
            if error.errno in EXHAUSTED:  # we are to blame, not the node
                return error
            raise ProtocolError(f"the memory of a result cannot be opened: {error}") from error

    def released(self, rank: int) -> list[int]:
        """Return regions of a node that nobody reads any more, each once; at most as many as fit a message."""
        waiting = self.waiting.get(rank)
        regions: list[int] = []
        while waiting and len(regions) < MAX_BATCH:
            regions.append(waiting.popleft())
        if regions:
            self._lent[rank] = self._lent.get(rank, 0) - len(regions)
        return regions

    def close(self) -> None:
        """Let go of all memory, as far as nobody reads it."""
        self._arena.retire()
        self._files.close()

    def forget(self, rank: int) -> None:
        """The node is gone, and its memory with it."""
        self.waiting.pop(rank, None)
        self._lent.pop(rank, None)
