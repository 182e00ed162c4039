"""What `pool.map` sends: a call that applies a function to several items, and keeps them as separate as calls are.

What items or values share with one another they would share after they have travelled in one pickle; so whatever can
change, or is more than a plain value, is a pickle by itself. A value is pickled before the next item has its turn,
which may change it. An item that is alone in its chunk is like any other call.

Workers import this before they need it: it names nothing that they have not imported by then.
"""

from __future__ import annotations

import os
import time
from itertools import chain
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from skyward.errors import SerializationError
from skyward.runtime import instance_info
from skyward.wire import failures, payload
from skyward.wire.apart import Apart, NotMade
from skyward.wire.lookup import unmarked

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    Carried: TypeAlias = "list[Any] | Apart"

PLAIN: Final = frozenset((int, float, str, bool, bytes, complex, type(None)))  # nobody can tell who shares one
LARGEST: Final = 8_192  # items in a chunk; bounds what a lost worker costs
TOGETHER: Final = 64  # of those that are awaited: so many connections, say, one program has open without being asked
FEW: Final = 8  # of those, as long as it is not known whether they wait or block
MOST: Final = 2**20  # bytes of items, or of values, that are pickled apart in one chunk
_SIZED: Final = frozenset((str, bytes))  # plain values that may be large
_AS_IT_IS: Final = PLAIN | {CoroutineType}

# Seconds of work, the node's rank, the value of each item that is plain, the encoded failures and the pickles of other
# values by their places, and how many items the next chunk may have.
Outcomes: TypeAlias = tuple[float, int, list[Any], dict[int, bytes], dict[int, bytes], int]

_left: dict[int, list[Any]] = {}  # what chunks that run here have still to come to, by the `id` of the list


def _note_fork() -> None:
    """Have a child that an item forks, and that comes back to the chunk, end there: the items are not its own."""
    for items in _left.values():
        items.clear()
    _left.clear()


os.register_at_fork(after_in_child=_note_fork)


# --- on the client ------------------------------------------------------------------------------


def parts(items: list[Any], *, several: bool) -> Iterator[tuple[list[Any], Carried]]:
    """Divide the items of a chunk into chunks of at most `MOST` bytes, or one item; yield each with what it travels as.

    Of plain values bytes and characters count alike.
    """
    if len(items) == 1 or _is_small(items, several=several):
        yield items, items
        return
    pickles: list[bytes] = []
    modules: frozenset[str] = payload.NO_MODULES
    start = size = 0
    for place, item in enumerate(items):
        try:
            data, named = payload.dumps_alone(item)
        except Exception:  # told by whoever pickles them all
            yield items[start:], items[start:]
            return
        if pickles and size + len(data) > MOST:
            yield _part(items[start:place], Apart(pickles, modules))
            pickles, modules, start, size = [], payload.NO_MODULES, place, 0
        pickles.append(data)
        modules |= named
        size += len(data)
    yield _part(items[start:], Apart(pickles, modules))


def _part(items: list[Any], apart: Apart) -> tuple[list[Any], Carried]:
    return items, items if len(items) == 1 else apart  # large buffers of one item go beside the pickle


def _is_small(items: list[Any], *, several: bool) -> bool:
    values = list(chain.from_iterable(items)) if several else items
    kinds = set(map(type, values))
    if not kinds <= PLAIN:
        return False
    return kinds.isdisjoint(_SIZED) or sum([len(value) for value in values if type(value) in _SIZED]) <= MOST


def values_of(outcomes: Outcomes) -> tuple[list[Any], dict[int, bytes | Exception]]:
    """Return the values of a chunk, and the failures of those that have none, by their places. May be called again."""
    _, _, values, failed, packed, _ = outcomes
    wrong: dict[int, bytes | Exception] = {**failed}
    for place, data in packed.items():
        try:
            values[place] = payload.loads_value(data)
        except Exception as error:  # of this value alone
            wrong[place] = error
    return values, wrong


# --- on the node --------------------------------------------------------------------------------


class Items:
    """Applies a function to several items, which are its only argument, or tuples of several."""

    def __init__(self, fn: Callable[..., Any], name: str, *, several: bool) -> None:
        self.several = several
        self.fn = fn  # a marked one stays so: what is marked is what its module has under the name, and travels as it
        self.__qualname__ = self.__name__ = name

    def __call__(self, items: Carried) -> Outcomes | Coroutine[Any, Any, Outcomes]:
        """Return the outcomes of all items, or of the first of them, if their values have `MOST` bytes.

        If calling the function gives coroutines, return one that awaits them all, as the worker will.
        """
        started = time.perf_counter()
        fn, several = unmarked(self.fn), self.several
        values: list[Any] = []
        told = _Told(alone=len(items) == 1)
        append, as_it_is, rest = values.append, _AS_IT_IS, iter(items)
        left = items.pickles if isinstance(items, Apart) else items
        _left[id(left)] = left
        try:
            while True:
                try:  # around the loop, which goes on after a failure
                    for item in rest:
                        value = fn(*item) if several else fn(item)
                        if type(value) in as_it_is:
                            append(value)
                            continue
                        append(told.value(len(values), value))
                        if told.size > MOST:
                            break
                    break
                except (Exception, SystemExit) as error:  # raised to whoever takes this item
                    if id(left) not in _left:  # to whoever runs a child of this item
                        raise
                    told.failure(len(values), error)
                    append(None)
        finally:  # also after an interrupt: who idles keeps no arguments
            _left.pop(id(left), None)
        seconds = time.perf_counter() - started
        if CoroutineType in map(type, values):
            return _awaited(seconds, values, told)
        return seconds, _rank(), values, told.failed, told.packed, told.most(len(values), LARGEST)

    def __skyward_part__(self, outcomes: Outcomes) -> Any:
        """Return what kept outcomes from being pickled: the value of an item that is alone, which travels as it is."""
        return outcomes[2][0]


class _Told:
    """What has become of items, besides plain values."""

    __slots__ = ("alone", "failed", "packed", "size")

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self.failed: dict[int, bytes] = {}
        self.packed: dict[int, bytes] = {}
        self.size = 0  # bytes of the latter; or those that the value of a lone item seems to have

    def value(self, place: int, value: object) -> object:
        """Return what stands for a value until all have been told."""
        if self.alone:
            if type(value).__name__ == "ndarray":  # of which the next ones would be copied into pickles
                self.size = cast("Any", value).nbytes
            return value
        try:
            data = self.packed[place] = payload.dumps_alone(value)[0]
            self.size += len(data)
        except Exception as error:
            self.failed[place] = failures.encode(failures.unserializable(value, _explained(value, error)))
        return None

    def failure(self, place: int, error: BaseException) -> None:
        """Take in what an item has raised, or what keeps it from being made."""
        if isinstance(error, SystemExit):
            failure = failures.exited(error)
        elif isinstance(error, NotMade):
            failure = failures.not_loaded(error.error)
        else:
            failure = failures.from_exception(error)
        self.failed[place] = failures.encode(failure)

    def most(self, count: int, limit: int) -> int:
        """Return how many items give values of `MOST` bytes, if they are as these are."""
        return limit if self.size <= MOST else max(1, MOST * count // self.size)


def _explained(value: Any, error: Exception) -> Exception:
    try:
        payload.dumps_value(value)
    except SerializationError as explained:  # with the path to the culprit
        return explained
    return error


async def _awaited(seconds: float, values: list[Any], told: _Told) -> Outcomes:
    import asyncio

    places = [place for place, value in enumerate(values) if type(value) is CoroutineType]
    turn = asyncio.Semaphore(TOGETHER)
    spent = 0.0  # seconds of all, side by side or not

    async def wait_for(place: int) -> None:
        nonlocal spent
        async with turn:
            began = time.perf_counter()
            try:
                value = await values[place]
                values[place] = value if type(value) in PLAIN else told.value(place, value)
            except (Exception, SystemExit) as error:  # as above
                told.failure(place, error)
                values[place] = None
            spent += time.perf_counter() - began

    began, busy = time.perf_counter(), time.thread_time()
    await asyncio.gather(*map(wait_for, places))
    # To wait is no work, so that more may wait in the next chunk; unless some have waited for others, which blocked.
    wall, busy = time.perf_counter() - began, time.thread_time() - busy
    seconds += busy if len(places) == 1 else wall * wall / max(spent, 1e-9)
    most = TOGETHER if len(places) > 1 else FEW
    return seconds, _rank(), values, told.failed, told.packed, told.most(len(values), most)


def _rank() -> int:
    info = instance_info()
    return -1 if info is None else info.node
