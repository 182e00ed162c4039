"""cloudpickle, adapted: the only module that knows it.

`dump` writes objects, by value what cannot be imported elsewhere (functions and classes of ``__main__``,
of notebooks, of functions), by reference the rest. On the way it notes what the receiver needs besides
the pickle: the modules it refers to, and the functions in it. `load` reads objects without ever
changing a class that exists here (cloudpickle by itself writes the class attributes of the sender into
the receiver's class).

Importing this costs 23 ms for cloudpickle, so `payload` does it when a value first needs it.
"""

from __future__ import annotations

import io
import pickle
import sys
from importlib import import_module
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, Self, cast

from msgspec import Struct

from skyward.wire import reducers
from skyward.wire.apart import Apart
from skyward.wire.codescan import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skyward.wire.frames import Buffer

# It has no types, and what a class is made of is not public: this is what cloudpickle 3 calls it.
_cloud: Final[Any] = import_module("cloudpickle.cloudpickle")

if TYPE_CHECKING:

    class _CloudPickler(pickle.Pickler):
        def reducer_override(self, obj: object, /) -> Any: ...
        def _dynamic_function_reduce(self, func: FunctionType) -> Any: ...

else:
    _CloudPickler = _cloud.Pickler

LARGE: Final = 16 * 1024  # bytes from which a buffer travels out of band: a frame costs what copying this does
_HUGE: Final = 2**20  # bytes from which it does even when there are many
_MANY: Final = 1_000  # buffers in one pickle after which only huge ones get frames of their own
_MOST: Final = 16_000  # buffers in one pickle: a message holds 65,536

_FILENAME: Final = 10  # its place among the arguments that make a code object
_VALUE: Final = frozenset(("__main__", "__mp_main__"))  # modules that exist under this name everywhere


class Dumped(Struct, frozen=True):
    """A pickle, and what it refers to."""

    data: bytes
    buffers: tuple[Buffer, ...]
    modules: frozenset[str]  # all that it names, also third-party ones
    functions: list[FunctionType]  # those inside by value


def dump(value: object, *, in_band: bool = False, large_bytes: bool = False) -> Dumped:
    """Pickle a value. Raises whatever the value's own reducers raise.

    ``in_band``: all in one pickle. ``large_bytes``: large bytes and bytearrays travel out of band as well;
    looking for them costs a tenth of a microsecond for every object inside.
    """
    file = io.BytesIO()
    pickler = (_BytesPickler if large_bytes else _Pickler)(file, in_band=in_band)
    pickler.dump(value)
    return Dumped(file.getvalue(), tuple(pickler.kept), frozenset(pickler.modules), pickler.functions)


class _Pickler(_CloudPickler):
    def __init__(self, file: io.BytesIO, *, in_band: bool) -> None:
        kept: list[Buffer] = []

        def keep(buffer: pickle.PickleBuffer) -> bool:  # no method: a cycle would keep large arrays alive
            raw = buffer.raw()
            if raw.nbytes < LARGE or (len(kept) >= _MANY and (raw.nbytes < _HUGE or len(kept) >= _MOST)):
                return True
            kept.append(raw)
            return False

        super().__init__(file, protocol=5, buffer_callback=None if in_band else keep)
        self.kept = kept
        self.modules: set[str] = set()
        self.functions: list[FunctionType] = []
        reducers.register()

    def reducer_override(self, obj: object, /) -> Any:
        kind = type(obj)
        reducer = reducers.TABLE.get(kind)
        if reducer is not None and (reduced := reducer(obj)) is not NotImplemented:
            return reduced
        if kind is CodeType:
            return _reduce_code_object(cast("CodeType", obj))
        if kind is FunctionType or issubclass(kind, type):
            return self._reduce_code(obj)
        if isinstance(obj, ModuleType):
            self.modules.add(obj.__name__)
        elif kind is Apart:
            self.modules |= cast("Apart", obj).modules
        else:
            module = getattr(obj, "__module__", None)
            if type(module) is str and module not in self.modules and _is_found_in(module, kind):
                self.modules.add(module)
        return NotImplemented

    def _reduce_code(self, obj: Any) -> Any:
        """Reduce a function or a class; by value also if its module exists in memory only."""
        reduced: Any = super().reducer_override(obj)
        if reduced is NotImplemented:
            module = getattr(obj, "__module__", None)
            if type(module) is str:
                if not _is_memory_only(module):
                    self.modules.add(module)
                    return NotImplemented
                reduced = self._reduce_by_value(obj)
        if type(obj) is FunctionType:
            if reduced is not NotImplemented:
                self._note_function(obj, reduced)
        elif reduced is not NotImplemented:
            _keep_shape(obj, reduced)
        return reduced

    def _reduce_by_value(self, obj: Any) -> Any:
        if type(obj) is FunctionType:
            return self._dynamic_function_reduce(obj)
        return _cloud._dynamic_class_reduce(obj)

    def _note_function(self, function: FunctionType, reduced: Any) -> None:
        self.functions.append(function)
        used = scan(function.__code__)
        self.modules.update(used.imported(function.__globals__))
        # cloudpickle forgets the globals that the bodies of nested classes read.
        sent, here = reduced[2][1]["__globals__"], function.__globals__
        for name in used.globals:
            if name not in sent and name in here:
                sent[name] = here[name]


class _BytesPickler(_Pickler):
    """Takes large bytes and bytearrays out of band, which pickle does by itself for arrays only.

    Each is replaced by a persistent id: its number among all such, doubled, plus one for a bytearray.
    `_Unpickler` takes it from the buffers at the same place.
    """

    def __init__(self, file: io.BytesIO, *, in_band: bool) -> None:
        super().__init__(file, in_band=in_band)
        self._numbers: dict[int, int] = {}

    def persistent_id(self, obj: object) -> int | None:
        kind = type(obj)
        if kind is not bytes and kind is not bytearray:
            return None
        buffer = cast("Buffer", obj)
        if len(buffer) < LARGE:
            return None
        number = self._numbers.get(id(obj))
        if number is None:
            if len(self.kept) >= _MOST:
                return None
            number = self._numbers[id(obj)] = len(self._numbers)
            self.kept.append(buffer)
        return number * 2 + (kind is bytearray)


def _reduce_code_object(code: CodeType) -> Any:
    """Keep the name of the file, which cloudpickle from 3.1.3 on replaces: tracebacks show its lines."""
    make, args = _cloud._code_reduce(code)
    # A string of its own, as cloudpickle makes of the other names: an interned one would change the pickle's memo.
    return make, (*args[:_FILENAME], "".join(code.co_filename), *args[_FILENAME + 1 :])


def _keep_shape(cls: type[Any], reduced: Any) -> None:
    """Name slots and qualified name where a class is made: cloudpickle forgets.

    Instances would be of another shape, and what stands in a class or a function would not be told from what stands in
    the module.
    """
    if reduced[0] is not _cloud._make_skeleton_class:
        return
    slots = vars(cls).get("__slots__")
    if slots:
        reduced[1][3]["__slots__"] = slots
    if cls.__qualname__ != cls.__name__:
        reduced[1][3]["__qualname__"] = cls.__qualname__


def _is_found_in(module: str, kind: type[Any]) -> bool:
    """Return whether an instance of a class may travel as a name in ``module``, not as its class and state."""
    if module != kind.__module__:
        return True
    own: Any = kind
    if own.__reduce_ex__ is object.__reduce_ex__ and own.__reduce__ is object.__reduce__:
        return False
    found: bool = _cloud._should_pickle_by_reference(kind)
    return found


def _is_memory_only(name: str) -> bool:
    """Return whether a module was made by hand, so that no other process can import it."""
    module = sys.modules.get(name)
    return (
        type(module) is ModuleType
        and name not in _VALUE
        and getattr(module, "__spec__", None) is None
        and getattr(module, "__file__", None) is None
    )


# --- loading -------------------------------------------------------------------------------


def load(data: Buffer, buffers: Iterable[Buffer] = (), *, keep_classes: bool) -> Any:
    """Unpickle a value; with ``keep_classes``, classes that exist here stay as they are."""
    return _Unpickler(data, buffers, keep_classes=keep_classes).load()


class _Buffers:
    """The buffers of a pickle, in order: writable for arrays, as they came for bytes."""

    def __init__(self, buffers: Iterable[Buffer]) -> None:
        self._rest = iter(buffers)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Buffer:
        buffer = next(self._rest)
        return bytearray(buffer) if memoryview(buffer).readonly else buffer

    def take(self) -> Buffer:
        """Return the next buffer as it is."""
        buffer = next(self._rest, None)
        if buffer is None:
            raise pickle.UnpicklingError("the pickle refers to more buffers than came with it")
        return buffer


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: Buffer, buffers: Iterable[Buffer], *, keep_classes: bool) -> None:
        self._source = _Buffers(buffers)
        super().__init__(io.BytesIO(data), buffers=self._source)
        self._classes = _Classes() if keep_classes else None
        self._found: dict[int, bytes | bytearray] = {}

    def persistent_load(self, pid: Any) -> bytes | bytearray:
        found = self._found.get(pid)
        if found is None:
            kind = bytearray if pid & 1 else bytes
            buffer = self._source.take()
            found = self._found[pid] = buffer if type(buffer) is kind else kind(buffer)
        return found

    def find_class(self, module: str, name: str, /) -> Any:
        if self._classes is not None and module == _cloud.__name__:
            if name == "_class_setstate":
                return self._classes.set_state
            if name in _MAKERS:
                return self._classes.maker(_MAKERS[name], getattr(_cloud, name))
        return super().find_class(module, name)


class _Classes:
    """Makes the classes that a pickle brings, and leaves those alone that are here.

    It knows nothing of the unpickler, which keeps what it has found, and all that it has loaded: a cycle would keep
    values until there is a look for garbage.
    """

    def __init__(self) -> None:
        self._new: set[int] = set()  # ids of the classes that this pickle brings

    def maker(self, place: int, make: Callable[..., Any]) -> Callable[..., Any]:
        def maker(*args: Any) -> Any:
            known = _known_class(args[place])
            if known is not None:
                return known
            made = make(*args)
            self._new.add(id(made))
            return made

        return maker

    def set_state(self, cls: Any, state: Any) -> Any:
        if id(cls) not in self._new:
            return cls
        return _cloud._class_setstate(cls, state)


# What makes a class from a pickle, and which of its arguments names the class for both processes.
_MAKERS: Final = {"_make_skeleton_class": 4, "_make_skeleton_enum": 5}


def _known_class(tracker: str | None) -> Any:
    return None if tracker is None else _cloud._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker)


def class_of_main(name: str) -> type[Any]:
    """Return the class of the sender's ``__main__`` of this name that has come by value, the last of several.

    Raises `AttributeError`. Classes alone: cloudpickle makes each just once, whatever pickle it comes in, but functions
    anew in each, and plain pickle refuses one that is not the very same as what stands under its name.
    """
    known: list[Any] = [ref() for ref in _cloud._DYNAMIC_CLASS_TRACKER_BY_ID.valuerefs()]  # a copy: threads add to it
    for kind in reversed(known):
        if kind is not None and kind.__module__ == "__main__" and kind.__qualname__ == name:
            return cast("type[Any]", kind)
    raise AttributeError(f"module '__main__' has no attribute {name!r}")
