"""Arguments that are fed element by element: who pulls the user's iterables, and sends what they give.

A `Pump` has a thread of its own, which begins when the task asks for the first element and pulls no more than was
granted, so that an iterable that blocks holds up nothing else. The user's code runs there in the context of whoever has
sent the call, with the same active pool. What it has pulled gathers until the owner of the loop comes to send it:
elements leave at once when the loop is idle, and in batches when it is not.

An iterator that can be used up belongs to one task, which is noted when the task is made: see `claims`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextvars import copy_context
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from skyward.answers.values import ValueStream
from skyward.answers.waiting import Waiter
from skyward.errors import SerializationError
from skyward.pool.claims import claim, is_one_shot
from skyward.wire import failures, payload
from skyward.wire.credit import Budget
from skyward.wire.frames import Payload, payload_size
from skyward.wire.placeholders import Placeholder
from skyward.work.abbreviation import abbreviate
from skyward.work.parameters import ONCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skyward.calls import Function
    from skyward.dispatch.tasks import Task
    from skyward.pool.claims import Claim


class Place(Protocol):
    """What pumps need from their pool."""

    def push(self, pump: Pump) -> None:
        """Send what the pump has pulled, soon."""
        ...

    def pack_element(self, value: object) -> Payload:
        """Return an element as it waits to be sent; raises `SerializationError`."""
        ...


class Batch(NamedTuple):
    """Elements to send."""

    first: int
    payloads: list[Payload]
    end: bool
    failed: bool


class Argument(NamedTuple):
    """Where elements go, for who reads an error."""

    function: Any  # a marked one: as such, to type checkers, it would be a method
    place: int | str  # index, or keyword

    def explained(self, number: int, error: SerializationError) -> SerializationError:
        """Return the error of an element with the path that leads there."""
        from skyward.wire import culprit

        name: object = repr(self.place)
        if isinstance(self.place, int):
            names = culprit.parameter_names(self.function)
            name = repr(names[self.place]) if self.place < len(names) else self.place + 1
        path = (f"argument {name}", f"element {number}", *error.path)
        return SerializationError(f"the arguments of {self.function.__qualname__}", path, error.reason)


class Pump:
    """Feeds one argument of one task."""

    def __init__(self, pool: Place, iterable: Iterable[Any], stream: int, argument: Argument | None = None) -> None:
        self._pool = pool
        self._argument = argument
        self.iterable: Iterable[Any] | None = iterable
        self._lock = threading.Lock()
        self._wake = Waiter()  # of the thread, which looks again when it is unparked
        self._wake.prepare_to_park()
        self._budget = Budget()
        self._waiting: list[Payload] = []
        self._called = False  # the owner of the loop was asked to send
        self._ended = self._failed = self._stopped = False
        self._seq = 0
        self._kept: OrderedDict[int, Payload] = OrderedDict()  # elements in shared memory that may still be read
        self._in_context = copy_context().run  # of whoever sends the call
        self.thread: threading.Thread | None = None
        self.stream = stream
        self.claim: Claim | None = None  # to an iterator that belongs to the task
        self.task: Task | None = None
        self.wrap: Callable[[Callable[[], None]], Callable[[], None]] | None = None  # says whose calls the thread makes

    @property
    def is_one_shot(self) -> bool:
        """Return whether the iterable can be iterated only once."""
        return self.iterable is not None and is_one_shot(self.iterable)

    def again(self) -> Pump:
        """Return a pump of the same iterable for another task."""
        assert self.iterable is not None
        return Pump(self._pool, self.iterable, self.stream, self._argument)

    # --- the owner of the loop ----------------------------------------------------------------

    def grant(self, items: int, size: int, read: int) -> None:
        """Take in credit; memory of the first ``read`` elements is not read any more."""
        with self._lock:
            while self._kept and next(iter(self._kept)) < read:
                self._kept.popitem(last=False)
            self._budget.grant(items, size)
            begin = self.thread is None and not self._stopped
            if begin:
                self.thread = threading.Thread(target=self._target(), name="skyward-input", daemon=True)
        if begin and self.thread is not None:
            self.thread.start()
        self._wake.unpark()

    def _target(self) -> Callable[[], None]:
        return partial(self._in_context, self._run if self.wrap is None else self.wrap(self._run))

    def take(self) -> Batch | None:
        """Return what is to be sent now."""
        with self._lock:
            self._called = False
            waiting, self._waiting = self._waiting, []
            if self._stopped or not (waiting or self._ended):
                return None
            batch = Batch(self._seq, waiting, self._ended, self._failed)
            for number, packed in enumerate(waiting, self._seq):
                if packed.buffers:
                    self._kept[number] = packed
            self._seq += len(waiting)
            if self._ended:
                self._stopped = True
            return batch

    @property
    def kept(self) -> list[Payload]:
        """Return elements whose memory may still be read."""
        return list(self._kept.values())

    def stop(self) -> None:
        """Pull no more (any thread).

        Takes no lock: streams stop what feeds them when they are collected, in the middle of anything, also of what
        holds the lock here.
        """
        self._stopped = True
        self._waiting = []
        self._wake.unpark()
        if self.thread is None:  # nothing was pulled, nor will be
            self._let_go()
            if self.claim is not None:
                self.claim.lapse()

    def _let_go(self) -> None:
        iterable, self.iterable = self.iterable, None
        if isinstance(iterable, ValueStream):
            iterable.need(needed=False)

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._pull()
        except BaseException as error:  # of the user's iterable: raised where the task takes the element
            failure = Payload(failures.encode(failures.from_exception(error)))
            self._put(failure, ended=True, failed=True)
        else:
            self._put(None, ended=True)
        self._let_go()
        self.claim = None

    def _pull(self) -> None:
        iterable = self.iterable
        if iterable is None:  # stopped just as the thread was made
            return
        iterator = iter(iterable)
        for number in count():
            if not self._may_go_on():
                return
            try:
                value = next(iterator)
            except StopIteration:
                return
            self._put(self._pack(number, value))
            del value  # what waits for credit keeps nothing of the user's

    def _pack(self, number: int, value: object) -> Payload:
        try:
            return self._pool.pack_element(value)
        except SerializationError as error:
            if self._argument is None:
                raise
            raise self._argument.explained(number, error) from error

    def _may_go_on(self) -> bool:
        while not self._stopped:
            if self._budget.allows:  # others only make it more
                return True
            self._wake.park(threading.TIMEOUT_MAX)
        return False

    def _put(self, packed: Payload | None, *, ended: bool = False, failed: bool = False) -> None:
        with self._lock:
            if self._stopped:
                return
            if packed is not None:
                self._waiting.append(packed)
                self._budget.spend(payload_size(*packed))
            self._ended, self._failed = ended, failed
            call, self._called = not self._called, True
        if call:
            self._pool.push(self)


# --- which arguments are fed -------------------------------------------------------------------


def take_inputs(
    pool: Place, function: Function[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], tuple[Pump, ...]]:
    """Return the arguments with placeholders for those that are fed, and what feeds these.

    Raises `ValueError` for an iterator that belongs to another call.
    """
    inputs = function.inputs
    assert inputs is not None
    pumps: list[Pump] = []
    new_args, new_kwargs = list(args), dict(kwargs)
    for place, kind in inputs.places(args, kwargs):
        value = args[place] if isinstance(place, int) else kwargs[place]
        if not _is_iterable(value) or (kind == ONCE and not is_one_shot(value)):
            continue
        pump = Pump(pool, value, len(pumps) + 1, Argument(function, place))
        pumps.append(pump)
        if isinstance(place, int):
            new_args[place] = Placeholder(pump.stream)
        else:
            new_kwargs[place] = Placeholder(pump.stream)
    _claim([pump for pump in pumps if pump.is_one_shot], function)
    return tuple(new_args), new_kwargs, tuple(pumps)


def _is_iterable(value: object) -> bool:
    return hasattr(type(value), "__iter__") or hasattr(type(value), "__getitem__")


def _claim(pumps: list[Pump], function: Function[..., Any]) -> None:
    values = [pump.iterable for pump in pumps]
    for pump, made in zip(pumps, claim(values, function.__qualname__), strict=True):
        pump.claim = made
    for value in values:
        if isinstance(value, ValueStream):
            value.need()


def disown(pumps: Iterable[Pump]) -> None:
    """Let the iterators of a task that was never dispatched be used again."""
    for pump in pumps:
        pump.stop()


def disown_all(tasks: Iterable[Task]) -> None:
    """Let the iterators of tasks that were made, and that nobody will run, be used again."""
    for task in tasks:
        disown(task.feeds)


def refuse_broadcast(pumps: Iterable[Pump], function: Function[..., Any]) -> None:
    """Raise `ValueError` if an iterator that can be used up would have to feed several tasks."""
    for pump in pumps:
        if pump.is_one_shot:
            used = abbreviate(pump.iterable)
            disown(pumps)
            raise ValueError(
                f"{used}, an argument of {function.__qualname__}, is used up by iterating over it, and a broadcast "
                "runs on every node: pass a list"
            )


def pack(value: object, limit: int) -> Payload:
    """Return an element as bytes; raises `SerializationError`."""
    packed = payload.dumps_value(value, "an element of an iterable")
    size = payload_size(*packed)
    if size > limit:
        raise payload.too_large("an element of an iterable", size, limit)
    return packed
