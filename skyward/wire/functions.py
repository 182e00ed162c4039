"""A function as bytes: serialized once per version, named by the hash of what it is made of.

A function of an importable module travels as the name of the module and its own; the module's source
goes with it if it is the user's. A function of ``__main__``, of a notebook, of another function, or
made by ``exec`` travels by value. Both are versions: `FunctionStore` asks at every dispatch whether the
files are unchanged and the captured names still bound to the same objects.

The other end is `FunctionLoader`, in `loader`.
"""

from __future__ import annotations

import json
import linecache
import pickle
import sys
import threading
import weakref
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from skyward.errors import SerializationError
from skyward.wire.captures import Captures
from skyward.wire.lookup import attribute
from skyward.wire.modules import Closure, locate, users

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FunctionType

    from skyward.calls import Function
    from skyward.wire.sources import ModuleBlob

_KEPT: Final = 1024  # functions: those in cycles with what they capture are never let go by their users
_KEPT_SIZE: Final = 64 * 2**20  # bytes of their code
_NEWEST: Final = 16  # functions that are kept whatever their size: serializing them at each call would cost more
_EXTRAS: Final = 64  # sets of modules that arguments add to one function's own
LONGEST_NAME: Final = 1024  # characters, the protocol's bound


class FunctionBlob(NamedTuple):
    """A function as it travels. ``key`` is the hash of name, body and the keys of the modules."""

    key: bytes
    name: str
    body: bytes
    modules: tuple[ModuleBlob, ...]


class FunctionStore:
    """The functions this client has serialized. Thread-safe."""

    def __init__(self) -> None:
        self._versions: dict[int, _Version] = {}  # by id of the function
        self._lock = threading.RLock()  # a user's reducer may dispatch calls

    def resolve(self, function: Function[..., Any], extra_modules: frozenset[str] = frozenset()) -> FunctionBlob:
        """Return the function as it is now, with the modules that it and its arguments need.

        Raises `SerializationError` with the path to what cannot be pickled.
        """
        version = self._current(function) or self._renew(function)
        return version.blob_with(extra_modules) if extra_modules else version.blob

    def known(self, function: Function[..., Any]) -> FunctionBlob | None:
        """Return the function if it has been serialized and is as it was then, else None."""
        version = self._current(function)
        return None if version is None else version.blob

    def _current(self, function: Function[..., Any]) -> _Version | None:
        version = self._versions.get(id(function))
        if version is None or version.owner() is not function or not version.is_current():
            return None
        return version

    def _renew(self, function: Function[..., Any]) -> _Version:
        with self._lock:
            version = _Version(function)
            address = id(function)
            version.owner = weakref.ref(function, lambda gone: self._forget(address, gone))
            self._versions.pop(address, None)
            self._versions[address] = version
            self._trim()
            return version

    def _trim(self) -> None:
        """Forget what was serialized longest ago; should it still be used, it is serialized once more."""
        versions = list(self._versions.items())
        excess = sum([len(version.blob.body) for _, version in versions]) - _KEPT_SIZE
        for address, version in versions[:-_NEWEST]:
            if excess <= 0 and len(self._versions) <= _KEPT:
                break
            self._versions.pop(address, None)
            excess -= len(version.blob.body)

    def _forget(self, address: int, gone: weakref.ref[Any]) -> None:
        # No lock: this may run in the middle of anything.
        version = self._versions.get(address)
        if version is not None and version.owner is gone:
            self._versions.pop(address, None)


class _Version:
    """One version of a function."""

    __slots__ = ("_captures", "_closure", "_extras", "_roots", "blob", "owner")

    def __init__(self, function: Function[..., Any]) -> None:
        self.owner: weakref.ref[Any] = weakref.ref(function)
        self._captures: Captures | None = None
        body = _by_reference(function)
        if body is None:
            body, functions, self._roots = _by_value(function)
            self._captures = Captures(functions)
        else:
            self._roots = users((function.__module__,))
        self._closure = Closure(self._roots)
        self._extras: dict[frozenset[str], tuple[Closure, FunctionBlob]] = {}
        self.blob = _blob(_name(function), body, self._closure)

    def is_current(self) -> bool:
        captures = self._captures
        return (captures is None or captures.are_current()) and self._closure.is_current()

    def blob_with(self, modules: frozenset[str]) -> FunctionBlob:
        """Return the blob with more modules; those that it has already cost nothing."""
        known = self._extras.get(modules)
        if known is None or not known[0].is_current():
            closure = Closure(self._roots | modules)
            known = closure, _blob(self.blob.name, self.blob.body, closure)
            if len(self._extras) >= _EXTRAS:
                self._extras.clear()
            self._extras[modules] = known
        return known[1]


def _blob(name: str, body: bytes, closure: Closure) -> FunctionBlob:
    from _blake2 import blake2b  # that of `hashlib`, which loads OpenSSL

    digest = blake2b(body, digest_size=16)
    for module in closure.modules:
        digest.update(module.key)
    digest.update(name.encode("utf-8", "surrogatepass"))
    return FunctionBlob(digest.digest(), name, body, closure.modules)


def _name(function: Any) -> str:
    name = str(getattr(function, "__qualname__", None) or getattr(function, "__name__", type(function).__name__))
    return name[:LONGEST_NAME].encode("utf-8", "replace").decode("utf-8")


# --- by reference --------------------------------------------------------------------------


def _by_reference(function: Any) -> bytes | None:
    """Return the body for a function that can be imported elsewhere, else None."""
    original: Any = function.__wrapped__
    module_name, name = getattr(original, "__module__", None), getattr(original, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(name, str) or module_name in ("__main__", "__mp_main__"):
        return None
    module = sys.modules.get(module_name)
    if module is None or getattr(module, "__spec__", None) is None or "<" in name:
        return None
    if _same(_attribute(module, name), original):
        return _reference(module_name, name)
    for known_as, value in list(vars(module).items()):
        if _same(value, original):
            return _reference(module_name, known_as)
    # What was imported before a reload is not there any more; its name says where its successor is.
    if locate(module_name) is not None and _is_unique(original):
        return _reference(module_name, name)
    return None


def _reference(module: str, name: str) -> bytes:
    return b"r" + json.dumps([module, name]).encode("ascii")


def _same(found: Any, original: Any) -> bool:
    return found is original or (is_marked(found) and found.__wrapped__ is original)


def is_marked(value: Any) -> bool:
    """Return whether a value is what ``@sky.function`` makes; `wire` does not import that."""
    return type(value).__module__ == "skyward.calls" and hasattr(value, "__wrapped__")


def _attribute(module: ModuleType, name: str) -> Any:
    try:
        return attribute(module, name)
    except AttributeError:
        return None


def _is_unique(function: Any) -> bool:
    """Return whether just one ``def`` of the function's own module can have made it."""
    from skyward.wire.definitions import count

    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return False
    module: Any = sys.modules.get(function.__module__)
    return code.co_filename == getattr(module, "__file__", None) and count(code.co_filename, function.__qualname__) == 1


# --- by value ------------------------------------------------------------------------------


def _by_value(function: Any) -> tuple[bytes, list[FunctionType], frozenset[str]]:
    """Return the body, the functions inside by value, and the user's modules that they refer to."""
    from skyward.wire import pickler

    try:
        dumped = pickler.dump(function.__wrapped__, in_band=True)
    except Exception as error:
        from skyward.wire import culprit

        path, reason = culprit.find([("", function.__wrapped__)], error)
        raise SerializationError(f"function {_name(function)}", path, reason) from error
    lines = pickle.dumps(_source_lines(dumped.functions), 5)
    return b"v" + dumped.data + lines, dumped.functions, users(dumped.modules)


def _source_lines(functions: Iterable[FunctionType]) -> dict[str, dict[int, list[str]]]:
    """Return the source lines of functions, by file and number of the first: tracebacks show them."""
    found: dict[str, dict[int, list[str]]] = {}
    for function in functions:
        code = function.__code__
        first, last = code.co_firstlineno, _last_line(code)
        lines = linecache.getlines(code.co_filename, function.__globals__)[first - 1 : last]
        if lines:
            found.setdefault(code.co_filename, {})[first] = lines
    return found


def _last_line(code: CodeType) -> int:
    last = max((line for _, _, line in code.co_lines() if line is not None), default=code.co_firstlineno)
    inner = (_last_line(const) for const in code.co_consts if isinstance(const, CodeType))
    return max(last, *inner) if any(isinstance(const, CodeType) for const in code.co_consts) else last
