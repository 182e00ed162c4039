"""Outcomes that have not been sent, and the only hand on the data pipe.

Slots append outcomes without a lock; one `flush` sends them as one message. A task's output is flushed
before its result. Everything else that goes up (nested calls, progress) is sent behind the outcomes that
came before it, so that the daemon sees tasks start and end in order.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from skyward.wire.codec import encode, pack_body
from skyward.wire.frames import shared_among
from skyward.wire.lone import MAX_SMALL, REPLIES, Reply
from skyward.wire.messages import MAX_BUFFERS, Results, Returned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.wire.frames import Buffer, Payload
    from skyward.wire.messages import Message
    from skyward_node.worker.pipes import PipeWriter

MOST: Final = 4096  # outcomes in one message

Outcome = tuple[int, int, "Payload", int]  # id, status, value or Failure, microseconds it ran


class Outbox:
    """What a worker sends."""

    __slots__ = ("_flush_output", "_writer", "done", "lock", "looked", "ready")

    def __init__(self, writer: PipeWriter, flush_output: Callable[[], object]) -> None:
        self.done: deque[Outcome] = deque()
        self.lock = threading.Lock()
        self.ready = False  # what the tasks of all outcomes have printed is out: another thread may send them
        self.looked = 0  # when another thread last came by to send them, by perf_counter_ns
        self._writer = writer
        self._flush_output = flush_output

    def flush(self) -> None:
        """Send all outcomes there are."""
        if self.done:
            self._flush_output()
            with self.lock:
                self.write(self.take())

    def tell(self, outcome: Outcome) -> None:
        """Send an outcome at once, behind all that there are."""
        id, status, (data, buffers), spent = outcome
        if self.done or buffers or len(data) > MAX_SMALL:
            self.ready = False
            self.done.append(outcome)
            self.flush()
            return
        self._flush_output()
        packed = REPLIES.to_stream(Reply(0, 0, id, status, spent, bytes(data)))
        with self.lock:
            try:
                self._writer.write_packed(packed)
            except OSError:  # as in `write`
                os._exit(1)

    def make_ready(self) -> None:
        """Let another thread send the outcomes there are (the thread that runs the tasks)."""
        self._flush_output()
        self.ready = True

    def send_ready(self, now: int) -> None:
        """Send outcomes that are ready.

        Output is not touched: who flushes a stream holds its lock, and a task that forks meanwhile keeps it for ever.
        """
        self.looked = now
        with self.lock:
            count = len(self.done)  # asked first: whoever adds one says before that it is not ready
            if count and self.ready:
                self.write(self.take(count))

    def send(self, message: Message, frames: Sequence[Buffer] = ()) -> None:
        """Send a message behind all outcomes there are."""
        if self.done:
            self._flush_output()
        with self.lock:
            self.write([*self.take(), (encode(message), *frames)])

    def hand_back(self, ids: list[int]) -> None:
        """Return tasks that were not started."""
        self.send(Returned(0, ids))

    def take(self, most: int = sys.maxsize) -> list[Sequence[Buffer]]:
        """Remove all outcomes, or so many; return them as messages. The caller holds the lock."""
        if len(self.done) == 1:
            return [_results([self.done.popleft()])]
        messages: list[Sequence[Buffer]] = []
        while self.done and most > 0:
            batch = self._pop(min(most, MOST))
            most -= len(batch)
            messages.append(_results(batch))
        return messages

    def _pop(self, most: int) -> list[Outcome]:
        done = self.done
        batch: list[Outcome] = []
        room = MAX_BUFFERS
        while done and len(batch) < most:  # slots may append meanwhile; only the lock's holder removes
            room -= 1 + len(done[0][2].buffers)  # its pickle may be a frame, too
            if room < 0 and batch:
                break
            batch.append(done.popleft())
        return batch

    def write(self, messages: Sequence[Sequence[Buffer]]) -> None:
        """Write messages. The caller holds the lock."""
        try:
            self._writer.write(*messages)
        except OSError:  # nobody is left who could want our results
            os._exit(1)


def _results(batch: Sequence[Outcome]) -> Sequence[Any]:
    if len(batch) == 1:
        id, status, (data, own), spent = batch[0]
        if not own and len(data) <= MAX_SMALL:
            return (encode(Reply(0, 0, id, status, spent, bytes(data))),)
    ids, statuses, payloads, elapsed = map(list, zip(*batch, strict=True))
    sizes, buffers, frames = pack_body(payloads)
    shared = shared_among(frames) if len(frames) > 1 else []
    return encode(Results(0, 0, ids, statuses, sizes, buffers, elapsed, shared)), *frames
