"""Dispatching more calls than the window holds at once: in batches, or one by one as they are made.

A group is serialized in batches that fit the window. A stream that is too large for it, or whose calls come from
an iterator, has a `Feeder`: a thread that pulls calls, at most `AHEAD` beyond those that have ended, serializes them
and hands them in while there is room. It stops pulling while results wait for a slow consumer, too. Of an iterator's
calls only so many are under way as have results that fit beside those that wait, by the size of the last ones; until
the first is known, and however large they are, there is work for each slot.

The thread shares with the rest only the stream's buffer, and never runs while nobody could want its results: the
buffer says when to stop. What calls come from belongs to the stream: at its end the thread closes it, as `yield from`
closes what it has not used up, and the feeder keeps neither it nor the buffer.
"""

from __future__ import annotations

import contextvars
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from skyward.answers.waiting import Waiter
from skyward.errors import SerializationError
from skyward.pool.pumping import disown_all
from skyward.work.abbreviation import abbreviate
from skyward.work.pending import is_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from skyward.answers.streams import StreamBuffer
    from skyward.dispatch.tasks import Task
    from skyward.pool.groups import GroupOperations
    from skyward.results import Sink
    from skyward.work.pending import PendingFunction

AHEAD: Final = 1_000  # calls beyond those that have ended: keeps links busy for a tenth of a second and more
RESUME: Final = 4  # a feeder that waits goes on when one in so many of them has ended: one wake-up for many
HELD: Final = 32 * 2**20  # bytes of results that wait for the consumer, those included that are still to come
ITERATORS: Final = 32  # of members that yield, which wait for the consumer: each has a task that runs
FIRST: Final = 256  # calls serialized before their size is known
MOST: Final = 4_096  # calls serialized in one go
PART: Final = 4  # batches that fit the window's share of a group: rough, because sizes are guessed from those before


def batches(
    pool: GroupOperations, calls: Sequence[PendingFunction[Any]], sink: Sink, budget: int, *, snapshot: bool
) -> Iterator[list[Task]]:
    """Serialize calls; yield them in batches of about ``budget`` bytes, the last one, if need be empty, included.

    What was serialized and is not taken, because a later call cannot travel or nobody wants more, is let go of.
    """
    batch: list[Task] = []  # not yielded yet
    held = start = 0
    count = FIRST
    shared = None if snapshot else pool.placing(snapshot=False)  # the caller waits, and changes nothing meanwhile
    try:
        while start < len(calls):
            some = calls[start : start + count]
            tasks = pool.make_tasks(some, sink, shared or pool.placing(snapshot=True), start)
            size = sum([task.size for task in tasks])
            if batch and held + size > budget:
                full, batch, held = batch, tasks, 0
                yield full
            else:
                batch = batch + tasks if batch else tasks
            held += size
            start += len(some)
            count = max(1, min(MOST, budget * len(some) // (PART * max(size, 1))))
    except BaseException:
        disown_all(batch)
        raise
    yield batch


class Feeder:
    """Feeds one stream; see the module."""

    def __init__(
        self,
        pool: GroupOperations,
        calls: Iterator[Any],
        buffer: StreamBuffer,
        start: int,
        *,
        ahead: int | None = AHEAD,
    ) -> None:
        """``start``: members that were dispatched before; ``ahead``: None if the calls are there already."""
        self._pool = pool
        self._calls: Iterator[Any] | None = calls  # until the end, as the buffer
        self._buffer: StreamBuffer | None = buffer
        self.index = start  # members that were pulled
        self._ahead = ahead
        self._wake = Waiter()  # whoever unparks it takes no lock: it may be a finalizer
        self._wake.prepare_to_park()
        self.hungry = False  # it waits for members to end, or for results to be taken
        self._over = False  # it hands in nothing any more
        self._at_rest = threading.Condition()  # notified when it is hungry, or over
        self.on_end: Callable[[Feeder], object] | None = None  # called by the thread as the last thing
        # The user's iterator runs in the context of whoever has dispatched the stream, with the same active pool.
        run = partial(contextvars.copy_context().run, pool.as_this_task(self._run))
        self.thread = threading.Thread(target=run, name="skyward-feeder", daemon=True)

    def start(self) -> None:
        """Begin."""
        assert self._buffer is not None
        self._buffer.feeder = self
        self.thread.start()

    def look(self) -> None:
        """Go on if that is possible now; called by whoever has changed what a hungry feeder waits for."""
        if self._may_go_on(resuming=True):
            self.hungry = False
            self._wake.unpark()

    def stop(self, error: BaseException | None = None) -> None:
        """End, unless the user's iterator does not return; ``error`` says why, if the consumer shall be told."""
        buffer = self._buffer
        if buffer is not None:
            buffer.error = buffer.error or error
            buffer.stopped = True
            self._wake.unpark()

    @property
    def handed_in(self) -> int:
        """Return how many calls it has handed in, if all of them are there."""
        return self.index if self._ahead is None else 0

    def finish(self) -> None:
        """Wait while it hands in calls that are all there. Hungry, it waits for a consumer."""
        with self._at_rest:
            self._at_rest.wait_for(lambda: not self._hands_in())

    def _hands_in(self) -> bool:
        if self._ahead is not None or self._over or not self.thread.is_alive():
            return False
        if self.hungry:
            self.look()
        return not self.hungry

    def give_up(self) -> None:
        """Do not wait for the user's iterator: there are no more members than there have been."""
        buffer = self._buffer
        if buffer is not None and self.thread.is_alive():
            buffer.finish(self.index)

    def _may_go_on(self, *, resuming: bool = False) -> bool:
        buffer = self._buffer
        if buffer is None or buffer.stopped:
            return True
        if buffer.given - buffer.handed_out >= ITERATORS or buffer.held > (HELD // 2 if resuming else HELD):
            return False
        if self._ahead is None:
            return True
        ahead = self._bounded(buffer, self._ahead)
        return self.index - buffer.ended < (ahead - ahead // RESUME if resuming else ahead)

    def _bounded(self, buffer: StreamBuffer, ahead: int) -> int:
        """Return how many calls may be under way, in view of their results."""
        if not buffer.ended:
            return min(ahead, max(2, 2 * self._pool.slots))
        fitting = (HELD - buffer.held) // buffer.usual
        return ahead if fitting >= ahead else max(fitting, 1, self._pool.slots)

    def _wait(self) -> None:
        while not self._may_go_on():
            self.hungry = True
            if self._may_go_on():  # it changed before we were seen to wait
                break
            self._tell_at_rest()
            self._wake.park(threading.TIMEOUT_MAX)  # a wake-up from before only means to look once more
        self.hungry = False

    def _tell_at_rest(self) -> None:
        with self._at_rest:
            self._at_rest.notify_all()

    def _run(self) -> None:
        calls, buffer = self._calls, self._buffer
        assert calls is not None
        assert buffer is not None
        try:
            self._feed_and_tell(calls, buffer)
        finally:
            self._over = True
            self._tell_at_rest()
            self._calls = self._buffer = buffer = None
            try:
                _close(calls)  # what it raises concerns no result: it is told as of any thread
            finally:
                if (on_end := self.on_end) is not None:
                    on_end(self)

    def _feed_and_tell(self, calls: Iterator[Any], buffer: StreamBuffer) -> None:
        error: BaseException | None = None
        try:
            self._feed(calls, buffer)
        except BaseException as caught:  # of the user's iterator, or the pool's: raised to the consumer
            error = caught
        total = self.index
        try:
            self._pool.soon(lambda: buffer.finish(total, error))
        except Exception:  # the pool is closed, and has told the consumer already
            buffer.finish(total, error)

    def _feed(self, calls: Iterator[Any], buffer: StreamBuffer) -> None:
        pool = self._pool
        while True:
            self._wait()
            if not buffer.wants_more():
                return
            try:
                call = next(calls)
            except StopIteration:
                return
            if not is_call(call):
                raise TypeError(
                    f"gather() takes calls, but item {self.index} is {abbreviate(call)} ({type(call).__name__})"
                )
            if not buffer.wants_more():  # it took its time
                return
            self._dispatch(pool, buffer, call)

    def _dispatch(self, pool: GroupOperations, buffer: StreamBuffer, call: PendingFunction[Any]) -> None:
        index = self.index
        self.index += 1
        dispatched = False
        try:
            dispatched = self._hand_in(pool, buffer, call, index)
        finally:
            if not dispatched:  # the pool is closed, or nobody wants it: there is no such member
                self.index = index

    def _hand_in(self, pool: GroupOperations, buffer: StreamBuffer, call: PendingFunction[Any], index: int) -> bool:
        try:
            tasks = pool.make_tasks([call], buffer, pool.placing(snapshot=True), index)
        except SerializationError as error:
            failure = error  # the name of an `except` is gone before the lambda runs
            pool.soon(lambda: buffer.add(index, failure))
            return True
        return pool.dispatch(tasks, buffer)


def _close(calls: Iterator[Any]) -> None:
    """Close a generator, or what else can be closed, in the thread that has run it."""
    close = getattr(calls, "close", None)
    if callable(close):
        close()
