"""An argument that is fed element by element: the iterator that the task's function gets.

Nothing is asked of the client before the function takes its first element. Memory that the client shares is copied when
an element is taken, and free to be used again when the next credit says so.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

from skyward.errors import DeadlockError, PoolClosedError
from skyward.wire import failures, payload
from skyward.wire.credit import FIRST, SIZE, Allowance
from skyward.wire.frames import payload_size
from skyward.wire.messages import Credit
from skyward.wire.placeholders import Placeholder
from skyward_node.worker.streams import GRACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Items
    from skyward_node.worker.streams import Streams

Row = tuple["Buffer", "tuple[Buffer, ...]"]


class Input:
    """Iterates over what the client sends."""

    def __init__(self, streams: Streams, task: int, stream: int) -> None:
        self._streams = streams
        self._task = task
        self._stream = stream
        self._allowance = Allowance()
        self._rows: deque[Row] = deque()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._asked = False
        self._ended = False  # no element follows those that are here
        self._failure: Buffer | None = None  # which the iterable raised behind them
        self._stop: BaseException | None = None  # why no more may be taken
        streams.consumers.setdefault(task, {})[stream] = self

    def __iter__(self) -> Input:
        return self

    def __next__(self) -> Any:
        row = self._take()
        if row is None:
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failures.to_cause(failure)
            raise StopIteration
        data, buffers = row
        return payload.loads_element(data, self._streams.open_memory(buffers) if buffers else buffers)

    def _take(self) -> Row | None:
        """Return the next element; None at the end."""
        if not self._asked:
            self._asked = True
            self._streams.send(Credit(0, self._task, self._stream, FIRST, SIZE), ())
        row, grant, read = None, None, 0
        while row is None:  # again, if another thread has taken what came
            if not self._may_go_on():
                self._wait()
            with self._streams.shield(), self._lock:
                if self._stop is not None:
                    raise self._stop
                if self._rows:
                    row = self._rows.popleft()
                    grant = self._allowance.take(payload_size(*row), time.monotonic())
                    read = self._allowance.taken - 1  # what is returned now is copied by its taker, behind this message
                elif self._ended:
                    return None
        if grant is not None and not self._ended:
            self._streams.send(Credit(0, self._task, self._stream, *grant, read), ())
        return row

    def _wait(self) -> None:
        with self._streams.shield(), self._changed:
            ready = self._changed.wait_for(self._may_go_on, GRACE)
        if not ready:
            self._streams.sleep(self._task, self._changed, self._may_go_on)

    def _may_go_on(self) -> bool:
        return bool(self._rows) or self._ended or self._stop is not None

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an iterator that is fed element by element cannot be pickled: pass it to a call whose parameter is "
            "annotated Iterator[...] or Iterable[...], which is fed from it, or take what is in it: list(...)"
        )

    def __repr__(self) -> str:
        return f"<input {self._stream} of task {self._task}>"

    # --- the control thread -------------------------------------------------------------------

    def receive(self, rows: Sequence[Row], message: Items) -> None:
        """Take in elements."""
        with self._changed:
            if message.failed:
                self._failure = rows[-1][0]
                rows = rows[:-1]
            self._rows.extend(rows)
            self._allowance.receive(len(rows), sum([payload_size(*row) for row in rows]), time.monotonic())
            self._ended = self._ended or message.end
            self._changed.notify_all()
        self._streams.wake()

    def close(self) -> None:
        """Let nobody take anything any more."""
        if self._task in self._streams.closed:
            from concurrent.futures import CancelledError

            self._end(CancelledError())
        else:
            self._end(PoolClosedError("the call that this iterator belongs to is over"))

    def refuse(self, reason: str) -> None:
        """Fail instead of waiting."""
        self._end(DeadlockError(reason))

    def _end(self, error: BaseException) -> None:
        with self._changed:
            self._stop = self._stop or error
            self._rows.clear()
            self._changed.notify_all()
        self._streams.wake()


def fill(streams: Streams, task: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """Return the arguments of a call with iterators in place of placeholders."""
    if Placeholder in map(type, args):
        args = tuple([Input(streams, task, arg.stream) if type(arg) is Placeholder else arg for arg in args])
    if kwargs and Placeholder in map(type, kwargs.values()):
        kwargs = {
            name: Input(streams, task, value.stream) if type(value) is Placeholder else value
            for name, value in kwargs.items()
        }
    return args, kwargs
