"""A slot runs one task at a time: unpickle, call, pickle; whatever goes wrong becomes a `Failure`.

In process mode the one slot lives on the worker's main thread; in thread mode each slot has a thread.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from time import perf_counter_ns
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, cast

from skyward.errors import DeadlockError
from skyward.machine.memory import LEAST, opened
from skyward.task.wishes import WISH
from skyward.wire import bundles, failures, payload
from skyward.wire.frames import Payload, payload_size
from skyward.wire.placeholders import Placeholder
from skyward.wire.statuses import CANCELLED_FAILURE, OK, REFUSED, TOO_LARGE, UNSERIALIZABLE, Failure
from skyward.work.parameters import yields
from skyward_node.cells import IDLE
from skyward_node.worker.bundles import Bundle
from skyward_node.worker.driving import drive, drive_async
from skyward_node.worker.inputs import fill
from skyward_node.worker.yields import Closed, Emitter, Unsendable

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Coroutine, Generator

    from skyward.machine.memory import Mappings
    from skyward.wire.frames import Buffer
    from skyward_node.worker.inbox import Entry
    from skyward_node.worker.interrupts import Interrupts
    from skyward_node.worker.outbox import Outcome
    from skyward_node.worker.printing import Printing
    from skyward_node.worker.streams import Streams

_GENERATORS: Final = frozenset((GeneratorType, AsyncGeneratorType))


class Slot:
    """Runs tasks, one after the other, in one thread."""

    __slots__ = (
        "_load", "_loop", "_mappings", "begun", "bundle", "current", "end_calls", "ended", "interrupts", "leave_fork",
        "max_payload", "places", "printing", "reported", "seat", "share", "shares_elements", "started", "streams",
        "thread",
    )  # fmt: skip

    def __init__(
        self,
        load: Callable[[bytes], Callable[..., Any]],
        interrupts: Interrupts,
        mappings: Mappings,
        streams: Streams,
        printing: Printing,
        places: memoryview,
        *,
        thread: bool,
    ) -> None:
        self.places = places  # by seat: where the call of a bundle is noted that runs
        self.bundle: Bundle | None = None  # the current one, if it is a bundle that has begun
        self.streams = streams
        self.printing = printing
        self.thread = thread  # one of several
        self.interrupts = interrupts
        self.max_payload = 0  # bytes; 0: no limit
        self.current: int | None = None  # set before the task is taken from the inbox: see there
        self.begun: int | None = None  # the one that ``started`` is about: a bundle has begun with its first call
        self.started = 0  # when that was, by perf_counter_ns
        self.end_calls: Callable[[int], object] = int  # forgets what a call has left behind; set by the worker
        self.ended = 0  # and when the last one did
        self.reported: int | None = None  # the last one reported as started
        self.seat = 0  # the slot of the node that the current one runs on: see `seats`
        self.leave_fork: Callable[[BaseException | None], object] | None = None  # set in a forked child
        self.share: Callable[[Buffer], Buffer] | None = None  # puts a large buffer where the daemon can read it
        self.shares_elements = False  # the client can, too: only then may elements of a stream lie there
        self._load = load
        self._mappings = mappings
        self._loop: AbstractEventLoop | None = None

    def run(self, entry: Entry) -> Outcome:
        """Run the task and return its outcome. Never raises."""
        id, key, data, buffers, count = entry
        names, printing = sys.__dict__, self.printing  # where a task may have deleted a name
        if count > 1:
            return self._run_bundle(id, key, data)
        self.started = perf_counter_ns()
        self.begun = id
        try:
            function = self._load(key)
            self.started = perf_counter_ns()  # what its module takes to import tells nothing about the next one
            args, kwargs = payload.loads_call(data, opened(buffers, self._mappings.open) if buffers else buffers)
            if kwargs or Placeholder in map(type, args):
                args, kwargs = fill(self.streams, id, args, kwargs)
            output = None
            if self.thread or hasattr(function, WISH):
                output = printing.begin(id, function, thread=self.thread)
        except BaseException as error:
            self.started = perf_counter_ns()
            status, value = _failed(failures.not_loaded(error))
        else:
            status, value = self._run(id, function, args, kwargs)
            if names.get("stdout") is not printing.stdout or names.get("stderr") is not printing.stderr:
                self._put_back()
            if output is not None or printing.begun:
                printing.end(output)
            del args, kwargs  # the mappings that they still have are someone else's by now
        if buffers:
            self._mappings.let_go()
        self.ended = perf_counter_ns()
        return id, status, value, (self.ended - self.started) // 1000

    def _run(self, id: int, function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[int, Payload]:
        # The handler may raise in any line while the task is armed, also in the inner `finally`: it
        # disarms before it raises, so by the time an exception arrives in the outer `except` nothing can.
        interrupts = self.interrupts
        try:
            try:
                interrupts.arm(id)
                value = function(*args, **kwargs)
                if type(value) is CoroutineType:
                    value = self.run_coroutine(cast("Coroutine[Any, Any, Any]", value))
            finally:
                interrupts.armed = None
        except BaseException as error:
            if self.leave_fork is not None:
                self.leave_fork(error)
            return _failed(self._raised(id, error))
        if self.leave_fork is not None:
            self.leave_fork(None)
        if type(value) in _GENERATORS:
            if yields(function):
                return self._stream(id, value)
            return _failed(failures.from_exception(_unexpected(function)))
        outcome = self._pack(value)
        if outcome[0] == UNSERIALIZABLE and (part := getattr(function, failures.PART, None)) is not None:
            of_part = self._pack_here(part(value))
            return of_part if of_part[0] == UNSERIALIZABLE else outcome
        return outcome

    def _put_back(self) -> None:
        if not self.thread:  # there another task may be about to put back what it has replaced
            self.printing.put_back()

    # --- bundles ----------------------------------------------------------------------------

    def _run_bundle(self, id: int, key: bytes, data: Buffer) -> Outcome:
        self.places[self.seat] = IDLE
        try:
            function = self._load(key)
            bundle = Bundle(id, bundles.unpack(data))
            output = self.printing.begin(id, function, thread=self.thread)
        except BaseException as error:
            self.started = perf_counter_ns()
            status, value = _failed(failures.not_loaded(error))
        else:
            self.started = perf_counter_ns()
            self.bundle = bundle
            self.begun = id
            bundle.run(function, self)
            self.bundle = None
            self._put_back()
            self.printing.end(output)
            status, value = bundle.outcome(_encoded(CANCELLED_FAILURE) if self.interrupts.hit == id else None)
        self.ended = perf_counter_ns()
        return id, status, value, (self.ended - self.started) // 1000

    def finish(self, function: Callable[..., Any], value: Any) -> tuple[Any, int]:
        """Return what stands for the value of a call of a bundle, and its bytes; raises what keeps it back."""
        self._check_fork()
        if type(value) in _GENERATORS:
            raise _unexpected(function)
        status, packed = self._pack_here(value)
        if status != OK:
            raise Unsendable(status, packed)
        return bundles.as_value(packed), payload_size(*packed)

    def failure(self, id: int, error: BaseException) -> tuple[int, bytes]:
        """Return status and failure of a call of a bundle that has raised."""
        if isinstance(error, Unsendable):
            return error.status, bytes(error.payload.data)
        if self.leave_fork is not None:
            self.leave_fork(error)
        return _encoded(self._raised(id, error))

    def _check_fork(self) -> None:
        if self.leave_fork is not None:
            self.leave_fork(None)

    # --- generators -------------------------------------------------------------------------

    def _stream(self, id: int, generator: Generator[Any, Any, Any] | AsyncGenerator[Any, Any]) -> tuple[int, Payload]:
        """Send what a generator yields; return the outcome of the task, which is how the generator ended."""
        emitter = Emitter(self.streams, id, self._pack if self.shares_elements else self._pack_here)
        try:
            if isinstance(generator, AsyncGenerator):
                self._drive_async(id, drive_async(emitter, generator, self.interrupts))
            else:
                drive(emitter, generator, id, self.interrupts, self._check_fork)
            outcome = self._pack(None)
        except Closed:
            outcome = _failed(CANCELLED_FAILURE)
        except Unsendable as error:
            outcome = error.status, error.payload
        except BaseException as error:
            if self.leave_fork is not None:
                self.leave_fork(error)
            outcome = _failed(self._raised(id, error))
        if (unsendable := emitter.end()) is not None:
            outcome = unsendable.status, unsendable.payload
        self.started += emitter.waited
        return outcome

    def _drive_async(self, id: int, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            self.interrupts.armed = id
            self.run_coroutine(coroutine)
        finally:
            self.interrupts.armed = None

    # --- async ------------------------------------------------------------------------------

    def run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what the coroutine of a task that is armed returns."""
        import asyncio  # 50 ms: only workers that need it pay

        if self._loop is None:  # kept for the worker's life, for clients and caches bound to it
            self._loop = asyncio.new_event_loop()
        loop, interrupts = self._loop, self.interrupts
        task = loop.create_task(coroutine)
        interrupts.await_with(loop, task)
        try:
            if interrupts.armed is not None:
                interrupts.arm(interrupts.armed)  # for a cancel that came before there was a task to cancel
            return loop.run_until_complete(task)
        finally:
            interrupts.coroutine = None
            if not task.done():  # an interrupt of the user's own broke the loop
                task.cancel()
                loop.run_until_complete(asyncio.wait([task]))

    # --- outcomes ---------------------------------------------------------------------------

    def _raised(self, id: int, error: BaseException) -> Failure:
        if isinstance(error, SystemExit):
            return failures.exited(error)
        if (self.interrupts.hit == id and _is_interrupt(error)) or (id in self.streams.closed and _is_cancelled(error)):
            return CANCELLED_FAILURE
        if isinstance(error, DeadlockError):
            return Failure(REFUSED, type_name="DeadlockError", message=str(error))
        return failures.from_exception(error)

    def _pack(self, value: Any) -> tuple[int, Payload]:
        small = payload.dumps_scalar(value)
        if small is not None and (not self.max_payload or len(small) <= self.max_payload):
            return OK, Payload(small)
        status, result = self._pack_here(value)
        if result.buffers and self.share is not None:
            share = self.share
            shared = [share(buffer) if memoryview(buffer).nbytes >= LEAST else buffer for buffer in result.buffers]
            result = Payload(result.data, tuple(shared))
        return status, result

    def _pack_here(self, value: Any) -> tuple[int, Payload]:
        try:
            result = payload.dumps_value(value)
        except Exception as error:
            return _failed(failures.unserializable(value, error))
        limit = self.max_payload
        if limit:
            size = payload_size(*result)
            if size > limit:
                return _failed(Failure(TOO_LARGE, type_name="ResultTooLargeError", size=size, limit=limit))
        return OK, result


def cancelled() -> tuple[int, Payload]:
    """Return status and payload of a task that was cancelled before it started."""
    return _failed(CANCELLED_FAILURE)


def _encoded(failure: Failure) -> tuple[int, bytes]:
    return failure.status, failures.encode(failure)


def _failed(failure: Failure) -> tuple[int, Payload]:
    return failure.status, Payload(failures.encode(failure), ())


def _is_cancelled(error: BaseException) -> bool:
    futures = sys.modules.get("concurrent.futures")  # 3 ms, and who has not imported it raises none of its errors
    return futures is not None and isinstance(error, futures.CancelledError)


def _is_interrupt(error: BaseException) -> bool:
    if isinstance(error, KeyboardInterrupt):
        return True
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _unexpected(function: Any) -> TypeError:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return TypeError(f"{name} returned a generator, but is no generator function: mark the generator function itself")
