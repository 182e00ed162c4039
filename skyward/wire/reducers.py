"""How arrays, tensors and caches travel, and what may not travel at all.

An array arrives writable: what is sent of a read-only one seems writable, because pickle would make the other
end read-only too. A tensor travels as the array that shares its memory. NumPy and torch are never imported
here: there are no arrays before the user's program has done so. What `functools` makes to cache results
is by itself tied to its process; the function inside travels, and begins with an empty cache.
"""

from __future__ import annotations

import functools
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE: Final[dict[type, Callable[[Any], Any]]] = {}  # by exact type

VIEWED: Final = 128 * 1024  # bytes from which a read-only array is not copied: to look at it otherwise takes that long

REFUSED: Final[set[type]] = set()  # those of them that may not travel: nobody need ask what they are made of

# The classes of ours that are no values, by where they live: `wire` imports nothing that knows calls.
_NO_VALUES: Final = {
    ("skyward.work.pending", "PendingFunction"): ("a call", "run it first, or call the function by f.local()"),
    ("skyward.work.pending", "OptionedCall"): ("a call", "run it first, or call the function by f.local()"),
    ("skyward.work.pending", "PendingFunctionGroup"): ("a group", "run it first"),
    ("skyward.work.pending", "PendingStream"): ("a group", "run it first"),
    ("skyward.answers.futures", "Future"): ("a future", "take its result()"),
    ("concurrent.futures._base", "Future"): ("a future", "take its result()"),
    ("skyward.answers.streams", "ResultStream"): ("a stream", "make a list of it"),
    ("skyward.pool.mapping", "MapIterator"): ("what a map gives", "make a list of it"),
}
_missing: Final[set[tuple[str, str]]] = {*_NO_VALUES, ("numpy", "ndarray"), ("torch", "Tensor")}


def register() -> None:
    """Take in the types whose modules have been imported since the last time."""
    if not _missing:
        return
    for place in tuple(_missing):
        module = sys.modules.get(place[0])
        kind = getattr(module, place[1], None)
        if kind is not None:
            if place in _NO_VALUES:
                REFUSED.add(kind)
            TABLE[kind] = _refuser(*_NO_VALUES[place]) if place in _NO_VALUES else _REDUCERS[place]
            _missing.discard(place)


def _refuser(what: str, advice: str) -> Callable[[Any], Any]:
    def refuse(_value: Any) -> NoReturn:
        raise TypeError(f"{what} cannot be an argument or a result: calls cannot be nested yet; {advice}")

    return refuse


def _reduce_array(array: Any) -> Any:
    flags = array.flags
    if flags.writeable and (flags.c_contiguous or flags.f_contiguous):
        return NotImplemented
    if array.dtype.hasobject:
        return NotImplemented
    order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
    if array.nbytes < VIEWED or not (flags.c_contiguous or flags.f_contiguous):
        return array.copy(order).__reduce_ex__(5)
    import ctypes  # a millisecond, for read-only arrays alone

    # Nobody writes to it: it is read into a pickle, or sent from where it lies, and keeps the array meanwhile.
    memory: Any = (ctypes.c_ubyte * array.nbytes).from_address(array.ctypes.data)
    memory.array = array
    return type(array)(array.shape, array.dtype, memory, order=order).__reduce_ex__(5)


def _reduce_tensor(tensor: Any) -> Any:
    try:
        array = tensor.detach().numpy()
    except (TypeError, RuntimeError):  # on another device, sparse, or of a type that NumPy has not
        return NotImplemented
    return _rebuild_tensor, (array, bool(tensor.requires_grad))


def _rebuild_tensor(array: Any, requires_grad: bool) -> Any:
    tensor = import_module("torch").from_numpy(array)
    return tensor.requires_grad_() if requires_grad else tensor


def _reduce_cache(cached: Any) -> Any:
    if _is_importable(cached):
        return NotImplemented
    return _rebuild_cache, (cached.__wrapped__, cached.cache_parameters())


def _rebuild_cache(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _is_importable(named: Any) -> bool:
    """Return whether importing its module elsewhere gives it under its name."""
    module = sys.modules.get(named.__module__)
    if module is None or module.__spec__ is None or module.__name__ in ("__main__", "__mp_main__"):
        return False
    found: Any = module
    for name in named.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is named


def _reduce_cached_property(cached: Any) -> Any:
    return _rebuild_cached_property, (cached.func, cached.attrname)


def _rebuild_cached_property(function: Any, name: str | None) -> Any:
    cached = functools.cached_property(function)
    cached.attrname = name
    return cached


TABLE[type(functools.cache(len))] = _reduce_cache
TABLE[functools.cached_property] = _reduce_cached_property

_REDUCERS: Final[dict[tuple[str, str], Callable[[Any], Any]]] = {
    ("numpy", "ndarray"): _reduce_array,
    ("torch", "Tensor"): _reduce_tensor,
}
