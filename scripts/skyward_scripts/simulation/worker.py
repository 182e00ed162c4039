"""A worker process: runs what it is given, one task at a time, and does with results what `skyward_node.child` does.

Tasks come in chunks; a chunk that comes while a task runs is not read before that has ended. Results are sent when
all that was read is done, or a millisecond after the last were. While others wait behind it, a task that takes
longer than two milliseconds is reported.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from skyward.wire.codec import pack_body
from skyward.wire.frames import Payload
from skyward.wire.messages import Progress, Results, Returned
from skyward.wire.statuses import OK
from skyward_node.executors.events import Received

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skyward_scripts.simulation.node import SimulatedNode

LONG: Final = 0.002  # seconds, as in skyward_node.worker.control
GATHER: Final = 0.001  # seconds, as in skyward_node.child
NOTHING: Final = Payload(b"", ())


class SimulatedWorker:
    """One worker of a simulated node."""

    def __init__(self, id: int, node: SimulatedNode) -> None:
        self.id = id
        self._node = node
        self._unread: list[Sequence[int]] = []
        self._pending: deque[int] = deque()
        self._done: list[tuple[int, int]] = []  # ids and µs
        self._current: int | None = None
        self._gathered_since = 0.0

    def take(self, ids: Sequence[int]) -> None:
        """Have tasks arrive on the data pipe."""
        if not self._node.alive:
            return
        self._unread.append(ids)
        if self._current is None:
            self._read()

    def cancel(self, ids: Iterable[int]) -> None:
        """Have the control thread hand back what has not started."""
        if not self._node.alive:
            return
        wanted = set(ids)
        back = [id for id in self._pending if id in wanted]
        self._pending = deque(id for id in self._pending if id not in wanted)
        back += [id for chunk in self._unread for id in chunk if id in wanted]
        self._unread = [[id for id in chunk if id not in wanted] for chunk in self._unread]
        if back:
            self._flush()
            self._say(Returned(0, back))

    def _read(self) -> None:
        for chunk in self._unread:
            self._pending.extend(chunk)
        self._unread.clear()
        self._gathered_since = self._node.clock.now
        self._next()

    def _next(self) -> None:
        if not self._pending:
            self._current = None
            self._flush()
            if self._unread:
                self._read()
            return
        self._current = id = self._pending.popleft()
        node = self._node
        node.watch.started(id)
        elapsed = node.durations[id] + node.costs.worker_task
        now = node.clock.now
        if elapsed > LONG and (self._pending or self._done):
            node.clock.at(now + LONG, self._report, id)
        node.clock.at(now + elapsed, self._end, id, elapsed)

    def _end(self, id: int, elapsed: float) -> None:
        node = self._node
        if not node.alive:
            return
        self._done.append((id, int(elapsed * 1e6)))
        node.watch.ended(node.life, id)
        now = node.clock.now
        if now - self._gathered_since > GATHER:
            self._flush()
            self._gathered_since = now
        self._next()

    def _report(self, id: int) -> None:
        if self._node.alive and self._current == id:
            self._flush()
            self._say(Progress(0, [], [id]))

    def _flush(self) -> None:
        if not self._done:
            return
        done, self._done = self._done, []
        ids, elapsed = [id for id, _ in done], [time for _, time in done]
        sizes, buffers, body = pack_body([NOTHING] * len(ids))
        self._say(Results(0, 0, ids, [OK] * len(ids), sizes, buffers, elapsed), body)

    def _say(self, message: Any, body: Sequence[Any] = ()) -> None:
        node = self._node
        node.clock.at(node.clock.now + node.costs.pipe, node.hear, Received(self.id, message, body))
