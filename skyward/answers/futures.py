"""Futures: what ``call > pool`` gives at once, and where its outcome is found later.

A future is settled by the owner of the loop; its value is unpickled by the first thread that asks for it.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Protocol, TypeVar, cast

from skyward.answers.callbacks import InLoop, loop_of
from skyward.answers.lending import Waiters
from skyward.answers.waiting import Waiter
from skyward.errors import PoolClosedError
from skyward.results import CancelledError, Collection, Given, Outcome, Sink, failed, unwrap, was_cancelled
from skyward.wire.statuses import OK

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager

    from skyward.dispatch.tasks import Task

T = TypeVar("T")

_logger: Final = logging.getLogger("concurrent.futures")  # where a bad callback is told, as by any future

_PENDING: Final = "PENDING"  # the state names of concurrent.futures, which its helpers compare with
_RUNNING: Final = "RUNNING"
_CANCELLED: Final = "CANCELLED_AND_NOTIFIED"
_FINISHED: Final = "FINISHED"

_REFUSAL: Final = "a pool's future is set by the pool; a concurrent.futures.Future of your own can be set by you"
SMALL: Final = 1_024  # bytes of a value that may be unpickled twice, should two threads ask for it at the same moment
_creation = threading.Lock()  # guards the first use of a future's condition


class FutureOwner(Protocol):
    """What a future needs from its pool."""

    def wait_for(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait until the waiter is done; False at the deadline."""
        ...

    def lent(self) -> AbstractContextManager[None]:
        """Lend the slot of the task that runs here, if one does, for the length of a block that waits."""
        ...

    def cancel_tasks(self, tasks: Sequence[Task]) -> None:
        """Cancel the unsettled ones of these tasks, soon; never blocks."""
        ...

    def cancel_future(self, future: Future[Any]) -> bool:
        """Try to stop what the future waits for; return whether it was stopped."""
        ...

    def call_back(self, callback: Callable[[], None]) -> None:
        """Run a callback in the callback thread."""
        ...


class Future(concurrent.futures.Future[T], Sink, Generic[T]):
    """The result of ``call > pool``: a `concurrent.futures.Future` that can also be awaited.

    Lock and condition are made on first need: a stdlib future weighs 1.7 kB, this one a tenth.
    """

    __slots__ = (
        "_callbacks",
        "_cond",
        "_decoded",
        "_exc",
        "_notify",
        "_outcome",
        "_owner",
        "_state",
        "_value",
        "_watchers",
        "tasks",
    )

    def __init__(self, owner: FutureOwner) -> None:  # the base's __init__ makes what we make lazily
        self._owner = owner
        self._cond: threading.Condition | None = None
        self._state = _PENDING
        self._outcome: Outcome | Collection | None = None
        self._decoded = False  # value or exception have been unpickled
        self._value: Any = None
        self._exc: BaseException | None = None
        self._notify: list[Any] | None = None
        self._callbacks: list[Callable[[Future[T]], object] | InLoop] | None = None
        self._watchers: list[Waiter] | None = None
        self.tasks: Sequence[Task] = ()

    # What the helpers of concurrent.futures (wait, as_completed) reach for. To type checkers these stay the
    # base's attributes: a property would not do for what as_completed takes.

    if not TYPE_CHECKING:

        @property
        def _condition(self) -> threading.Condition:
            if self._cond is None:
                with _creation:
                    if self._cond is None:
                        self._cond = threading.Condition()
            return self._cond

        @property
        def _waiters(self) -> list[Any]:
            if self._notify is None:
                self._notify = Waiters(self._owner.lent)
            return self._notify

    # --- for the owner of the loop -----------------------------------------------------------

    def deliver(self, task: Task, outcome: Outcome) -> None:
        """Take the outcome of the call."""
        if type(outcome) is tuple and outcome[0] == OK:  # nearly all are
            self._settle(_FINISHED, outcome)
        else:
            self.settle(outcome)

    def give(self, index: int, stream: Any) -> None:
        """Take the iterator of a call that yields."""
        self.settle(Given(stream))

    def settle(self, outcome: Outcome | Collection) -> None:
        """Take the outcome of a call or a group."""
        if isinstance(outcome, PoolClosedError) or (not isinstance(outcome, Collection) and was_cancelled(outcome)):
            self._settle(_CANCELLED, None)
        else:
            self._settle(_FINISHED, outcome)

    def on_started(self, *, unstoppable: bool) -> None:
        """Note that the call runs, or that it cannot be cancelled."""
        if self._state == _PENDING:
            self._state = _RUNNING
        if unstoppable:
            for waiter in list(self._watchers or ()):
                waiter.finish()

    def _settle(self, state: str, outcome: Outcome | Collection | None) -> None:
        self.tasks = ()
        with _creation:
            condition = self._cond
            if condition is None:  # nobody has looked yet
                self._outcome = outcome
                self._state = state
        if condition is not None:
            with condition:
                self._outcome = outcome
                self._state = state
                condition.notify_all()
                for waiter in self._notify or ():
                    _tell(waiter, self, outcome)
        if self._watchers:
            for waiter in list(self._watchers):
                waiter.finish()
        if self._callbacks:
            self._hand_out_callbacks()

    def _hand_out_callbacks(self) -> None:
        """Have each callback run where it belongs; not here, where the user's code could hold up the loop."""
        with self._condition:
            callbacks, self._callbacks = self._callbacks or [], None
        mine: list[Callable[[Future[T]], object]] = []
        for callback in callbacks:
            if not isinstance(callback, InLoop):
                mine.append(callback)
            elif not callback.schedule(self._call):
                mine.append(callback.fn)
        if mine:
            self._owner.call_back(partial(self._run_callbacks, mine))

    def _run_callbacks(self, callbacks: Sequence[Callable[[Future[T]], object]]) -> None:
        for callback in callbacks:
            try:
                callback(self)
            except BaseException:  # as in concurrent.futures: a bad callback is logged; it must not end the thread
                _logger.exception("exception calling callback for %r", self)

    def _call(self, fn: Callable[[Future[T]], object]) -> None:
        try:
            fn(self)
        except Exception:
            _logger.exception("exception calling callback for %r", self)

    # --- for users ---------------------------------------------------------------------------

    def done(self) -> bool:
        """Return whether the call has ended, in whatever way."""
        return self._state in (_FINISHED, _CANCELLED)

    def cancelled(self) -> bool:
        """Return whether the call was cancelled."""
        return self._state == _CANCELLED

    def running(self) -> bool:
        """Return whether the call is known to be running on a node."""
        return self._state == _RUNNING

    def cancel(self) -> bool:
        """Stop the call, and return whether it was stopped.

        A queued call is dropped. A running one is interrupted, and its worker process killed after
        ``cancel_grace``; waits for that at most the grace and one second, and not at all in a
        callback or in a thread with a running event loop. Thread workers cannot be stopped. Of a group
        all calls must be: while one of them runs on the answer is false.
        """
        if self.done():
            return self.cancelled()
        return self._owner.cancel_future(self)

    def result(self, timeout: float | None = None) -> T:
        """Return the value, or raise the call's failure; `TimeoutError` after ``timeout`` seconds."""
        if not self._decoded:
            self._await_outcome(timeout)
        if self._exc is not None:
            try:
                raise self._exc
            finally:
                del self  # the exception refers to this frame
        return cast("T", self._value)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the call's failure, or None; `TimeoutError` after ``timeout`` seconds."""
        self._await_outcome(timeout)
        return self._exc

    def _await_outcome(self, timeout: float | None) -> None:
        if self._state != _FINISHED and not self.done():
            deadline = None if timeout is None else time.monotonic() + timeout
            try:
                ended = self.wait_done(deadline)
            except KeyboardInterrupt:  # it cancels what this thread waits on
                self._owner.cancel_tasks(self.tasks)
                raise
            if not ended:
                raise TimeoutError("the call has not ended yet")
        if self._state == _CANCELLED:
            raise CancelledError
        if not self._decoded:
            self._decode()

    def wait_done(self, deadline: float | None) -> bool:
        """Wait until the call has ended; False at ``deadline`` (`time.monotonic`)."""
        while not self.done():
            waiter = self.watch()
            try:
                if not self._owner.wait_for(waiter, deadline):
                    return False
            finally:
                self.unwatch(waiter)
        return True

    def watch(self) -> Waiter:
        """Return a waiter that is finished when the call has ended or is known to be unstoppable."""
        waiter = Waiter()
        with self._condition:  # makes the lock that `_settle` then takes
            if self._watchers is None:
                self._watchers = []
            self._watchers.append(waiter)
            if self.done():
                waiter.finish()
        return waiter

    def unwatch(self, waiter: Waiter) -> None:
        """Forget a waiter."""
        with self._condition:
            assert self._watchers is not None
            self._watchers.remove(waiter)

    def _decode(self) -> None:
        outcome = self._outcome
        if type(outcome) is tuple and len(outcome[1]) < SMALL:
            # Making a lock takes longer than unpickling this; of two threads that do so at once, the first one counts.
            value, error = _decoded(outcome)
            with _creation:
                if not self._decoded:
                    self._keep(value, error)
            return
        with self._condition:  # once, whoever asks first
            if not self._decoded:
                self._keep(*_decoded(cast("Outcome | Collection", self._outcome)))

    def _keep(self, value: Any, error: BaseException | None) -> None:
        self._value, self._exc = value, error
        self._outcome = None
        self._decoded = True

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call ``fn(self)`` when the call has ended; now and here if it has, as concurrent.futures does.

        Else it runs in a thread of the pool's, where it may block; one of asyncio's own runs in its event loop.
        """
        loop = loop_of(fn)
        with self._condition:
            if not self.done():
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(fn if loop is None else InLoop(fn, loop))
                return
        self._call(fn)

    def remove_done_callback(self, fn: Callable[[Future[T]], object]) -> int:
        """Forget a callback that has not been handed out yet; return how often it was there."""
        with self._condition:
            before = self._callbacks or []
            left = [known for known in before if (known.fn if isinstance(known, InLoop) else known) != fn]
            self._callbacks = left or None
        return len(before) - len(left)

    def set_result(self, result: T) -> NoReturn:
        """Refuse: the pool does this."""
        raise concurrent.futures.InvalidStateError(_REFUSAL)

    def set_exception(self, exception: BaseException | None) -> NoReturn:
        """Refuse: the pool does this."""
        raise concurrent.futures.InvalidStateError(_REFUSAL)

    def set_running_or_notify_cancel(self) -> NoReturn:
        """Refuse: the pool does this."""
        raise concurrent.futures.InvalidStateError(_REFUSAL)

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio  # a third of the library's import time, and it is there when somebody awaits

        future = asyncio.wrap_future(self)
        if self.done():
            return (yield from future)
        with self._owner.lent():
            return (yield from future)

    def __repr__(self) -> str:
        return f"<Future {self._state.lower().replace('_and_notified', '')}>"


def _tell(waiter: Any, future: Future[Any], outcome: Outcome | Collection | None) -> None:
    """Tell `concurrent.futures.wait` or `as_completed` what has become of a future; None: it was cancelled."""
    if outcome is None:
        waiter.add_cancelled(future)
    elif _has_failed(outcome):
        waiter.add_exception(future)  # by which FIRST_EXCEPTION knows
    else:
        waiter.add_result(future)


def _has_failed(outcome: Outcome | Collection) -> bool:
    return outcome.failure is not None if isinstance(outcome, Collection) else failed(outcome)


def _decoded(outcome: Outcome | Collection) -> tuple[Any, BaseException | None]:
    """Return the value and the exception that an outcome stands for."""
    try:
        return (outcome.values() if isinstance(outcome, Collection) else unwrap(outcome)), None
    except KeyboardInterrupt:  # the client's own: whoever asks again gets the outcome
        raise
    except BaseException as error:  # raised to whoever asks, with its own class
        if _has_failed(outcome):
            error.__traceback__ = None  # it has only our own frames, and these refer to the future
        return None, error
