"""What `pool.map` sends: a call that applies a function to several items, and keeps them as separate as calls are.

What items or values share with one another they would share after they have travelled in one pickle; so whatever can
change, or is more than a plain value, is a pickle by itself. A value is pickled before the next item has its turn,
which may change it. An item that is alone in its chunk is like any other call.

Workers import this before they need it: it names nothing that they have not imported by then.
"""

from __future__ import annotations

import time
from itertools import chain
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from skyward.errors import SerializationError
from skyward.runtime import instance_info
from skyward.wire import failures, payload
from skyward.wire.apart import Apart

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Carried: TypeAlias = "list[Any] | Apart"

PLAIN: Final = frozenset((int, float, str, bool, bytes, complex, type(None)))  # nobody can tell who shares one
LARGEST: Final = 4_096  # items in a chunk; bounds what a lost worker costs
TOGETHER: Final = 64  # of those that are awaited: so many connections, say, one program has open without being asked
_COROUTINES: Final = frozenset((CoroutineType,))
MOST: Final = 2**20  # bytes of items that are pickled apart: larger ones go alone, and their buffers beside the pickle

# Seconds of work, the node's rank, the value of each item that is plain, the encoded failures and the pickles of other
# values by their places, and how many items a chunk may have.
Outcomes: TypeAlias = tuple[float, int, list[Any], dict[int, bytes], dict[int, bytes], int]


def carry(items: list[Any], *, several: bool) -> Carried | None:
    """Return what a chunk of these items travels as; None if they have too many bytes to share one."""
    if len(items) == 1 or PLAIN.issuperset(map(type, chain.from_iterable(items) if several else items)):
        return items
    try:
        return Apart.of(items, MOST)
    except Exception:  # told by whoever pickles the whole
        return items


class Items:
    """Applies a function to several items, which are its only argument, or tuples of several."""

    def __init__(self, fn: Callable[..., Any], name: str, *, several: bool) -> None:
        self.several = several
        self.fn = fn  # a marked one stays so: what is marked is what its module has under the name, and travels as it
        self.__qualname__ = self.__name__ = name

    def __call__(self, items: Carried) -> Outcomes | Coroutine[Any, Any, Outcomes]:
        """Return the outcomes of all items.

        If calling the function gives coroutines, return one that awaits them all at once, as the worker will.
        """
        started = time.perf_counter()
        fn, several = _original(self.fn), self.several
        values: list[Any] = []
        told = _Told(alone=len(items) == 1)
        append, rest = values.append, iter(items)
        while True:
            try:  # around the loop, which costs half of what a quick function does: it goes on after a failure
                for item in rest:
                    value = fn(*item) if several else fn(item)
                    append(value if type(value) in PLAIN else told.value(len(values), value))
                break
            except (Exception, SystemExit) as error:  # raised to whoever takes this item
                told.failure(len(values), error)
                append(None)
        if not _COROUTINES.isdisjoint(map(type, values)):
            return _awaited(values, told)
        return time.perf_counter() - started, _rank(), values, told.failed, told.packed, LARGEST


class _Told:
    """What has become of items, besides plain values."""

    __slots__ = ("alone", "failed", "packed")

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self.failed: dict[int, bytes] = {}
        self.packed: dict[int, bytes] = {}

    def value(self, place: int, value: object) -> object:
        """Return what stands for a value until all have been told."""
        if self.alone or type(value) in _COROUTINES:
            return value
        try:
            self.packed[place] = payload.dumps_alone(value)[0]
        except Exception as error:
            self.failed[place] = failures.encode(failures.unserializable(value, _explained(value, error)))
        return None

    def failure(self, place: int, error: BaseException) -> None:
        """Take in what an item has raised."""
        failure = failures.exited(error) if isinstance(error, SystemExit) else failures.from_exception(error)
        self.failed[place] = failures.encode(failure)


def _explained(value: Any, error: Exception) -> Exception:
    try:
        payload.dumps_value(value)
    except SerializationError as explained:  # with the path to the culprit
        return explained
    return error


async def _awaited(values: list[Any], told: _Told) -> Outcomes:
    import asyncio

    async def wait_for(place: int) -> None:
        try:
            value = await values[place]
            values[place] = value if type(value) in PLAIN else told.value(place, value)
        except (Exception, SystemExit) as error:  # as above
            told.failure(place, error)
            values[place] = None

    started = time.thread_time()  # waiting is no work: the next chunk waits for more
    await asyncio.gather(*(wait_for(place) for place, value in enumerate(values) if type(value) is CoroutineType))
    return time.thread_time() - started, _rank(), values, told.failed, told.packed, TOGETHER


def _original(fn: Any) -> Callable[..., Any]:
    original: Callable[..., Any] = fn.__wrapped__ if type(fn).__module__ == "skyward.calls" else fn
    return original


def _rank() -> int:
    info = instance_info()
    return -1 if info is None else info.node


def values_of(outcomes: Outcomes) -> tuple[list[Any], dict[int, bytes | Exception]]:
    """Return the values of a chunk, and the failures of those that have none, by their places."""
    _, _, values, failed, packed, _ = outcomes
    wrong: dict[int, bytes | Exception] = {**failed}
    for place, data in packed.items():
        try:
            values[place] = payload.loads_value(data)
        except Exception as error:  # of this value alone
            wrong[place] = error
    return values, wrong
