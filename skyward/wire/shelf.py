"""Code that is kept although nothing runs it: the functions used last, and the modules that they need.

Each rebinding of a captured name makes new code, so versions come without end, and nobody can tell which of them will
be called again. Whoever runs a task, or waits with one, holds its code by itself. What is kept beside that lies on a
shelf, where what was used longest ago makes room. The newest two stay whatever their size: two functions that take
turns, each with a large array, are not sent at every call. Small ones are practically never given up.

A module counts once, however many functions need it, and goes with the last of these.

Two shelves that see the same functions used in the same order hold the same, if they have the same bound; one that has
seen more before holds at least as much of what came since. So who sends code can tell what its receiver still has.

PURE: a data structure; what lies on it is never looked at.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

T = TypeVar("T")

NEWEST: Final = 2  # functions that stay whatever their size
OVERHEAD: Final = 1024  # bytes that each function and module counts beside its code: objects, keys, places in tables
NODE: Final = 64 * 2**20  # bytes a node keeps of a session: code comes again for one more round trip
WORKER: Final = 32 * 2**20  # bytes of code in a worker: there are many, with the values made of it beside the code
CALLS: Final = 8 * 2**20  # bytes of code for calls of tasks, at each receiver: the protocol's bound, section 8


class _Place(Struct, frozen=True):
    item: Any
    size: int
    modules: tuple[bytes, ...]


class Shelf(Generic[T]):
    """Functions by key, the one used last at the end."""

    __slots__ = ("_functions", "_limit", "_modules", "size")

    def __init__(self, limit: int) -> None:
        self.size = 0  # bytes
        self._limit = limit
        self._functions: OrderedDict[bytes, _Place] = OrderedDict()
        self._modules: dict[bytes, list[int]] = {}  # how many functions need each, and its bytes

    def __contains__(self, key: bytes) -> bool:
        return key in self._functions

    def __len__(self) -> int:
        return len(self._functions)

    def has_module(self, key: bytes) -> bool:
        """Return whether a function here needs the module."""
        return key in self._modules

    def use(self, key: bytes) -> T | None:
        """Return a function's item, and note that it is used; None if it is not here."""
        place = self._functions.get(key)
        if place is None:
            return None
        self._functions.move_to_end(key)
        item: T = place.item
        return item

    def peek(self, key: bytes) -> T | None:
        """Return a function's item, which is not used by that."""
        place = self._functions.get(key)
        return None if place is None else place.item

    def newest(self) -> Iterable[T]:
        """Return the items, the one used last first."""
        return (place.item for place in reversed(self._functions.values()))

    def put(self, key: bytes, item: T, size: int, modules: Iterable[tuple[bytes, int]]) -> None:
        """Put a function of ``size`` bytes here, or note that it is used; ``modules`` are keys and sizes."""
        if key in self._functions:
            self._functions.move_to_end(key)
            return
        needed = dict(modules)
        self._functions[key] = _Place(item, size + OVERHEAD, tuple(needed))
        self.size += size + OVERHEAD
        for module, length in needed.items():
            if module in self._modules:
                self._modules[module][0] += 1
            else:
                self._modules[module] = [1, length + OVERHEAD]
                self.size += length + OVERHEAD

    @property
    def is_full(self) -> bool:
        """Return whether `trim` has something to do."""
        return self.size > self._limit

    def trim(self, in_use: Callable[[], Collection[bytes]] = tuple) -> tuple[list[bytes], list[bytes]]:
        """Take off what was used longest ago, until the rest fits; return the keys of functions and of modules.

        Functions that are ``in_use`` stay; that is asked only if there is too much.
        """
        functions: list[bytes] = []
        modules: list[bytes] = []
        if self.size > self._limit:
            stay = {*islice(reversed(self._functions), NEWEST), *in_use()}
            while self.size > self._limit:
                oldest = next((key for key in self._functions if key not in stay), None)
                if oldest is None:
                    break
                functions.append(oldest)
                modules += self._drop(oldest)
        return functions, modules

    def _drop(self, key: bytes) -> list[bytes]:
        place = self._functions.pop(key)
        self.size -= place.size
        gone: list[bytes] = []
        for module in place.modules:
            count = self._modules[module]
            count[0] -= 1
            if not count[0]:
                gone.append(module)
                self.size -= count[1]
                del self._modules[module]
        return gone
