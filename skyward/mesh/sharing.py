"""Large buffers in memory that client and workers share, where they are processes of one machine.

What is decided here is when memory may be used again; how it is read and written is `skyward.machine.memory`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from skyward.errors import ProtocolError
from skyward.machine.memory import EXHAUSTED, LEAST, Arena, Files, Lease
from skyward.wire.frames import Payload, Ref
from skyward.wire.messages import MAX_BATCH
from skyward.wire.statuses import IMPORT_FAILED, OK, RAISED, TOO_LARGE, UNSERIALIZABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from skyward.dispatch.tasks import Task
    from skyward.machine.memory import File
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


class Sharing:
    """The memory that one pool shares with its nodes."""

    def __init__(self, limit: int) -> None:
        """``limit``: bytes of arguments that wait for their tasks to end."""
        self._arena = Arena(limit)
        self._files = Files()
        self.waiting: dict[int, deque[int]] = {}  # regions that nobody reads any more, by rank; nodes wait for them
        self._lent: dict[int, int] = {}  # regions that were not said to be released, by rank

    # --- arguments -------------------------------------------------------------------------

    def place(self, packed: Payload) -> Payload:
        """Return a payload whose large buffers lie in shared memory, as far as there is room (any thread)."""
        buffers = [
            (self._arena.put(buffer) if memoryview(buffer).nbytes >= LEAST else None) or buffer
            for buffer in packed.buffers
        ]
        return Payload(packed.data, tuple(buffers))

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
