"""Results of a session: merged per turn, numbered, and kept until the client has acknowledged them.

Invariants: numbers are 1, 2, 3, … without gaps; a message once made never changes, so that sending it
again says the same; ``size`` is the bytes of all that is not acknowledged, sent or not. What lies in the memory of its
worker stays there until then; who cannot read it there is sent the bytes.

PURE: no sockets, no clock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.msgpack import Encoder

from skyward.errors import ProtocolError
from skyward.wire.codec import pack_body
from skyward.wire.frames import Payload, Ref, shared_among, size_of
from skyward.wire.lone import MAX_SMALL, Reply
from skyward.wire.messages import MAX_BATCH, MAX_BUFFERS, Results
from skyward.wire.statuses import OK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.statuses import Failure

ENTRY: Final = 128  # bytes that a result takes beside its content: a million empty ones are not nothing
MERGE: Final = 1_048_576  # bytes of blob in one message: the best size for throughput, and no stall for others

encode_failure = Encoder().encode


class Part(Struct, frozen=True):
    """Some results, as columns; see `Results`."""

    ids: list[int]
    statuses: list[int]
    sizes: list[int]
    buffers: list[int]
    elapsed: list[int]
    body: Sequence[Buffer]


def failures(outcomes: Iterable[tuple[int, Failure]]) -> Part:
    """Return the results of tasks that failed without a worker saying so."""
    pairs = list(outcomes)
    sizes, buffers, body = pack_body([Payload(encode_failure(failure), ()) for _, failure in pairs])
    ids = [id for id, _ in pairs]
    return Part(ids, [failure.status for _, failure in pairs], sizes, buffers, [0] * len(ids), body)


class Outbox:
    """All unacknowledged results of one session."""

    __slots__ = (
        "_lent", "_parts", "_unacked", "done", "entries", "failed", "replies", "seq", "shared", "size", "spent",
    )  # fmt: skip

    def __init__(self) -> None:
        self._parts: list[Part] = []  # of this turn, not yet numbered
        self._unacked: deque[tuple[int, Results | Reply, Sequence[Buffer]]] = deque()  # size, message, body
        self.replies = False  # the client knows `Reply`
        self.shared = False  # the client reads the memory of workers, and says itself when it has done so
        self.spent: list[int] = []  # regions of workers that need not be kept any more
        self._lent = 0  # those that must be
        self.seq = 0
        self.size = 0
        self.entries = 0
        self.done = 0  # tasks so far that ended with a value
        self.failed = 0  # and those that did not

    def __bool__(self) -> bool:
        return bool(self._unacked or self._parts)

    @property
    def weight(self) -> int:
        """Return about how many bytes of memory all results take that are not acknowledged."""
        return self.size + ENTRY * self.entries

    @property
    def lends(self) -> bool:
        """Return whether bytes are to be sent, again or for the first time, that lie in the memory of a worker."""
        return self._lent > 0

    @property
    def fresh(self) -> bool:
        """Return whether `flush` has something to say."""
        return bool(self._parts)

    def add(self, part: Part) -> None:
        """Take in results."""
        good = part.statuses.count(OK)
        self.done += good
        self.failed += len(part.statuses) - good
        self._parts.append(part)
        self.entries += len(part.ids)
        self.size += size_of(part.body)
        if not self.shared:
            self._lent += len(shared_among(part.body))

    def number(self, reply: Reply, epoch: int) -> Reply:
        """Return the result of a worker as the message to send now, when there is no other; `keep` follows."""
        return Reply(epoch, self.seq + 1, reply.id, reply.status, reply.elapsed, reply.data)

    def keep(self, reply: Reply) -> None:
        """Take in a result that `number` has numbered."""
        if reply.status == OK:
            self.done += 1
        else:
            self.failed += 1
        size = len(reply.data)
        self.entries += 1
        self.size += size
        self.seq = reply.seq
        self._unacked.append((size, reply, ()))

    def flush(self, epoch: int) -> list[tuple[Results | Reply, Sequence[Buffer]]]:
        """Number what has come since the last flush; return the messages to send now."""
        parts, self._parts = self._parts, []
        messages: list[tuple[Results | Reply, Sequence[Buffer]]] = []
        for group in [parts] if len(parts) == 1 else _groups(parts):
            part = group[0] if len(group) == 1 else _merge(group)
            self.seq += 1
            numbered = self._numbered(epoch, part)
            self._unacked.append((size_of(part.body), *numbered))
            messages.append(numbered)
        return messages

    def _numbered(self, epoch: int, part: Part) -> tuple[Results | Reply, Sequence[Buffer]]:
        if self.replies and len(part.ids) == len(part.body) == 1 and len(part.body[0]) <= MAX_SMALL:
            data = bytes(part.body[0])
            return Reply(epoch, self.seq, part.ids[0], part.statuses[0], part.elapsed[0], data), ()
        columns = part.ids, part.statuses, part.sizes, part.buffers, part.elapsed
        return Results(epoch, self.seq, *columns, shared_among(part.body) if self.shared else []), part.body

    def ack(self, seq: int) -> None:
        """Forget results up to ``seq``; raises `ProtocolError` for one that was never sent."""
        if seq > self.seq:
            raise ProtocolError(f"results up to {seq} acknowledged, but only {self.seq} were sent")
        while self._unacked and self._unacked[0][1].seq <= seq:
            size, message, body = self._unacked.popleft()
            self.size -= size
            self.entries -= 1 if type(message) is Reply else len(message.ids)
            if self._lent and not self.shared:
                regions = [frame.number for frame in body if type(frame) is Ref]
                self._lent -= len(regions)
                self.spent += regions

    @property
    def acked(self) -> int:
        """Return the number of the last result that is acknowledged."""
        return self._unacked[0][1].seq - 1 if self._unacked else self.seq

    def unacked(self) -> list[tuple[Results | Reply, Sequence[Buffer]]]:
        """Return all numbered messages that are not acknowledged, in order."""
        return [(message, body) for _, message, body in self._unacked]

    def holding(self, ids: set[int]) -> list[tuple[Results | Reply, Sequence[Buffer]]]:
        """Return the unacknowledged messages with a result of one of these tasks."""
        return [(message, body) for message, body in self.unacked() if not ids.isdisjoint(message.ids)]

    def tasks(self) -> set[int]:
        """Return the tasks whose numbered results are not acknowledged."""
        return {id for _, message, _ in self._unacked for id in message.ids}

    def coming(self) -> set[int]:
        """Return the tasks whose results will leave with the next flush."""
        return {id for part in self._parts for id in part.ids}


def _groups(parts: list[Part]) -> Iterable[list[Part]]:
    """Split parts into groups that fit one message each."""
    group: list[Part] = []
    count = frames = size = 0
    for part in parts:
        count += len(part.ids)
        frames += len(part.body)
        size += len(part.body[0])
        if group and (count > MAX_BATCH or frames > MAX_BUFFERS or size > MERGE):
            yield group
            group = []
            count, frames, size = len(part.ids), len(part.body), len(part.body[0])
        group.append(part)
    if group:
        yield group


def _merge(group: list[Part]) -> Part:
    body: list[Buffer] = [b"".join([part.body[0] for part in group])]
    merged = Part([], [], [], [], [], body)
    for part in group:
        merged.ids.extend(part.ids)
        merged.statuses.extend(part.statuses)
        merged.sizes.extend(part.sizes)
        merged.buffers.extend(part.buffers)
        merged.elapsed.extend(part.elapsed)
        body.extend(part.body[1:])
    return merged
