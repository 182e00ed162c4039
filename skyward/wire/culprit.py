"""What exactly cannot be pickled: the search that runs after a failure, to word the error.

Pickle says what it choked on, but not where that stood. The search pickles the parts of what failed one
by one and descends into the part that fails too, until no part of it does. Cost does not matter here,
but the search must end: it is bounded in depth and in time, and then names what it has found so far.
"""

from __future__ import annotations

import copyreg
import inspect
from itertools import islice
from time import monotonic
from types import CellType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from skyward.wire import reducers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PATIENCE: Final = 5.0  # seconds; an error that comes later than this is no help
_DEPTH: Final = 100  # steps; a longer path is no help either
_WIDTH: Final = 100_000  # parts of one container
_ATOMS: Final = frozenset((int, float, str, bool, type(None), complex, bytes, bytearray))
_REASON: Final = 500  # characters of pickle's complaint

Part = tuple[str, Any]  # how it is called in the path, and what it is


def find(parts: Sequence[Part], error: BaseException) -> tuple[tuple[str, ...], str]:
    """Return the path to the culprit among ``parts``, which failed with ``error``, and the complaint.

    A part without a name stands for itself and adds no step.
    """
    search = _Search()
    path: list[str] = []
    reason: BaseException = error
    found = search.first_bad(parts)
    while found is not None and len(path) < _DEPTH:
        (label, value), reason = found
        if label:
            path.append(label)
        search.trail.append(value)
        found = search.first_bad(_parts(value)) if type(value) not in reducers.REFUSED else None
        if found is None:
            path.append(_type_name(value))
    return tuple(path), _complaint(reason)


def parameter_names(function: Any) -> list[str]:
    """Return the names of a function's positional parameters; those of ``*args`` are numbered."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds]


class _Search:
    def __init__(self) -> None:
        self.trail: list[Any] = []  # what the path has led through; kept alive, so that ids stay theirs
        self._deadline = monotonic() + _PATIENCE

    def first_bad(self, parts: Iterator[Part] | Sequence[Part]) -> tuple[Part, BaseException] | None:
        """Return the first part that cannot be pickled, and the complaint."""
        try:
            for part in islice(parts, _WIDTH):
                value = part[1]
                if type(value) in _ATOMS or any(value is passed for passed in self.trail):
                    continue
                if monotonic() > self._deadline:
                    break
                error = _try(value)
                if error is not None:
                    return part, error
        except Exception:  # noqa: S110  # an object that cannot even be asked for its parts: we have got this far
            pass
        return None


def _try(value: Any) -> BaseException | None:
    from skyward.wire import pickler

    try:
        pickler.dump(value)
    except Exception as error:
        return error
    return None


def _complaint(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # the user's own __str__
        text = ""
    return (text or type(error).__name__)[:_REASON]


def _type_name(value: Any) -> str:
    kind: type[Any] = value if isinstance(value, type) else type(value)
    if isinstance(value, FunctionType):
        return f"function {value.__qualname__}"
    return str(kind.__qualname__) if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# --- what things are made of ---------------------------------------------------------------


def _kind(value: object) -> type[object]:
    return type(value)


def _parts(value: Any) -> Iterator[Part]:
    """Yield what pickle has to pickle in order to pickle a value."""
    kind = _kind(value)
    if issubclass(kind, dict):
        yield from _dict_parts(value)
    elif issubclass(kind, list | tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif issubclass(kind, set | frozenset):
        yield from (("an element", item) for item in list(value))
    elif isinstance(value, FunctionType):
        yield from _function_parts(value)
    elif isinstance(value, MethodType):
        yield from (("its object", value.__self__), ("its function", value.__func__))
    elif isinstance(value, CellType):
        yield from _cell_parts("its content", value)
    elif isinstance(value, type):
        yield from ((f".{name}", item) for name, item in vars(value).items() if name not in _CLASS_OWN)
        return
    if kind not in _WHOLE:
        yield from _object_parts(value)


_WHOLE: Final = frozenset((list, tuple, dict, set, frozenset, FunctionType, MethodType, CellType))
_CLASS_OWN: Final = frozenset(("__dict__", "__weakref__", "__doc__", "__module__", "__abstractmethods__", "_abc_impl"))


def _dict_parts(value: dict[Any, Any]) -> Iterator[Part]:
    for key, item in list(value.items()):
        yield f"key {_short(key)}", key
        yield f"[{_short(key)}]", item


def _short(key: object) -> str:
    try:
        text = repr(key)
    except Exception:  # the user's own __repr__
        text = object.__repr__(key)
    return text if len(text) <= 60 else text[:57] + "…"


def _function_parts(function: FunctionType) -> Iterator[Part]:
    from skyward.wire.codescan import scan

    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield from _cell_parts(f"closure variable {name!r}", cell)
    namespace = function.__globals__
    used = scan(function.__code__).globals
    yield from ((f"global {name!r}", namespace[name]) for name in sorted(used) if name in namespace)
    parameters = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    yield from zip((f"default of {p!r}" for p in parameters[len(parameters) - len(defaults) :]), defaults, strict=True)
    yield from ((f"default of {name!r}", value) for name, value in (function.__kwdefaults__ or {}).items())
    yield from ((f".{name}", value) for name, value in vars(function).items())
    yield from ((f"annotation of {name!r}", value) for name, value in function.__annotations__.items())


def _cell_parts(label: str, cell: CellType) -> Iterator[Part]:
    try:
        yield label, cell.cell_contents
    except ValueError:  # an empty cell
        return


def _object_parts(value: Any) -> Iterator[Part]:
    """Yield the parts of an object, as its own reducer names them."""
    try:
        reducer: Any = copyreg.dispatch_table.get(_kind(value))
        reduced: Any = reducer(value) if reducer is not None else value.__reduce_ex__(5)
    except Exception:  # it refuses: on purpose, or because of an attribute
        if _kind(value).__reduce__ is object.__reduce__:
            yield from _attributes(getattr(value, "__dict__", None))
        return
    if type(reduced) is not str:  # of a name there are no parts
        yield from _reduced_parts(*reduced)


def _reduced_parts(  # as `__reduce__` defines them
    maker: Any, arguments: Any = (), state: Any = None, items: Any = None, pairs: Any = None, _setter: Any = None
) -> Iterator[Part]:
    if state is not None:
        yield from _state_parts(state)
    yield from ((f"[{index}]", item) for index, item in enumerate(items or ()))
    yield from ((f"[{_short(key)}]", item) for key, item in pairs or ())
    yield from ((f"argument {index} of its constructor", item) for index, item in enumerate(arguments or ()))
    yield "its constructor", maker


def _state_parts(state: Any) -> Iterator[Part]:
    parts: list[Any] = list(state) if _kind(state) is tuple and len(state) == 2 else [state]  # __dict__ and slots
    if all(part is None or type(part) is dict for part in parts):
        for part in parts:
            yield from _attributes(part)
    else:
        yield "its state", state


def _attributes(state: Mapping[Any, Any] | None) -> Iterator[Part]:
    yield from ((f".{name}", item) for name, item in list((state or {}).items()))
