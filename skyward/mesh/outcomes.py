"""What became of tasks, as their nodes say: each outcome once, to whom it belongs, and what may go on then."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from skyward.errors import ProtocolError
from skyward.wire.codec import mark_refs, split_body
from skyward.wire.frames import size_of
from skyward.wire.statuses import MIXED, OK

if TYPE_CHECKING:
    from skyward.mesh.engine import Engine
    from skyward.mesh.mate import Mate
    from skyward.transport.links import Link
    from skyward.wire.frames import Buffer
    from skyward.wire.lone import Reply
    from skyward.wire.messages import Results

_WELL: Final = frozenset((OK, MIXED))  # of mixed ones the failures are counted by whoever tells them apart
SHOWN: Final = 10  # ids in a line of the log

_logger: Final = logging.getLogger("skyward")


class Outcomes:
    """Takes in outcomes for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def on_results(self, mate: Mate, link: Link, message: Results, body: list[Buffer]) -> None:
        """Take in a batch of outcomes."""
        if not _is_next(link, message.seq):
            return
        engine = self._engine
        rank = mate.rank
        if message.shared:
            if engine.sharing is None:
                raise ProtocolError("shared memory that was not agreed upon")
            engine.sharing.receive(rank, mark_refs(message, body))
        tasks = engine.scheduler.on_results(rank, message.ids, message.elapsed)
        if engine.closing:
            engine.stopping.ended(rank, message.ids)
        elif not all(tasks):
            _note_foreign(rank, [id for id, task in zip(message.ids, tasks, strict=True) if task is None])
        rows = split_body(message.sizes, message.buffers, body)
        nested, settled = engine.nesting.parents, engine.settled
        try:
            engine.console.settle(rank, message.ids)
            for task, status, (data, buffers) in zip(tasks, message.statuses, rows, strict=True):
                if task is not None:
                    if status not in _WELL:
                        engine.failed += task.count
                    settled(task, (status, data, buffers, rank, task.id, task.name))
                    if nested:
                        engine.ended(rank, task.id)
        except Exception:
            engine.strand(tasks)
            raise
        engine.after_settling()
        engine.talk.took(mate, size_of(body))

    def on_reply(self, mate: Mate, link: Link, message: Reply) -> None:
        """Take in one outcome; as `on_results`."""
        if not _is_next(link, message.seq):
            return
        engine, rank, id, data = self._engine, mate.rank, message.id, message.data
        task = engine.scheduler.on_result(rank, id, message.elapsed)
        if not link.level:
            link.note_end(id)
        try:
            engine.console.settle(rank, (id,))
            if task is not None:
                status = message.status
                if status not in _WELL:
                    engine.failed += task.count
                engine.settled(task, (status, data, (), rank, id, task.name))
                if engine.nesting.parents:
                    engine.ended(rank, id)
            elif engine.closing:
                engine.stopping.ended(rank, [id])
            else:
                _note_foreign(rank, [id])
        except Exception:
            engine.strand([task])
            raise
        engine.after_settling()
        engine.talk.took(mate, len(data))


def _is_next(link: Link, seq: int) -> bool:
    """Return whether results are the next ones, and note it; those that were sent again we have."""
    if seq > link.seen + 1:
        raise ProtocolError(f"results {link.seen + 1} to {seq - 1} are missing")
    new = seq > link.seen
    if new:
        link.seen = seq
    return new


def _note_foreign(rank: int, ids: list[int]) -> None:
    _logger.warning("node %d sent results of tasks that it does not hold, %s: dropped", rank, ids[:SHOWN])
