"""Values as bytes: arguments on their way to a node, results on their way back.

Most calls pass numbers, text, and containers of these: such values are pickled by the C pickler alone,
in half a microsecond. That is safe exactly when the pickle names no class and no function, because what
is named by reference must exist under this name at the other end. Everything else goes through
`pickler`, which sends by value what must be sent by value.

Large buffers (arrays, bytes) stand beside the pickle, not in it. They are the sender's own memory; who
needs copies of what can change makes them (`skyward.pool.snapshots`).
"""

from __future__ import annotations

import pickle
from io import BytesIO
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from skyward.errors import RemoteError, SerializationError
from skyward.wire.frames import Payload

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skyward.wire.frames import Buffer

__all__ = [
    "dumps_call",
    "dumps_value",
    "loads_call",
    "loads_element",
    "loads_value",
    "refuse_size",
]

_dumps: Final = pickle.dumps
_loads: Final = pickle.loads

_SCALARS: Final = frozenset((int, float, str, bool, type(None), complex))
_SEQUENCES: Final = frozenset((list, tuple, set, frozenset))
_BYTES: Final = frozenset((bytes, bytearray))
_LARGE: Final = 16 * 1024  # bytes; see `pickler.LARGE`
_MANY: Final = 64  # entries of a container from which its pickle is rarely free of a certain byte
_SURVEYED: Final = 100  # objects looked at before the way to pickle a value is chosen
_WIDTH: Final = 8  # of these, at most so many in one container: the rest will be like them
_STACK_GLOBAL: Final = b"\x93"  # the only opcode of protocol 5 that names a class or a function
NO_MODULES: Final[frozenset[str]] = frozenset()

_PLAIN, _OBJECTS, _LARGE_BYTES = range(3)


# --- to bytes ------------------------------------------------------------------------------


def dumps_plain(args: tuple[Any, ...]) -> bytes | None:
    """Return the arguments of a call as bytes, if they are numbers, text and the like; else None."""
    for value in args:
        if type(value) not in _SCALARS:
            return None
    return _dumps(args, 5)


def dumps_scalar(value: object) -> bytes | None:
    """Return a result as bytes, if it is a number, a text or the like; else None."""
    return _dumps(value, 5) if type(value) in _SCALARS else None


def dumps_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], *, function: Any = None, names: Sequence[str] = ()
) -> tuple[Payload, frozenset[str]]:
    """Return the arguments of a call as bytes, and the user's modules that they refer to.

    Raises `SerializationError` with the path to what cannot be pickled; ``function``, or the ``names`` of
    its parameters, tell it how the arguments are called.
    """
    call: object = [args, kwargs] if kwargs else args
    for value in (*args, *kwargs.values()) if kwargs else args:
        if type(value) not in _SCALARS:
            break
    else:
        return Payload(_dumps(call, 5)), NO_MODULES
    try:
        return _dump(call)
    except Exception as error:
        _refuse_arguments(args, kwargs, function, names, error)


def dumps_value(value: object, what: str = "the result") -> Payload:
    """Return a result, or ``what`` it is, as bytes. Raises `SerializationError`."""
    if type(value) in _SCALARS:
        return Payload(_dumps(value, 5))
    try:
        return _dump(value)[0]
    except Exception as error:
        from skyward.wire import culprit

        path, reason = culprit.find([("", value)], error)
        raise SerializationError(what, path, reason) from error


def too_large(what: str, size: int, limit: int) -> SerializationError:
    """Return the error for what has more bytes than ``max_payload``."""
    return SerializationError(
        what,
        reason=f"{size} bytes exceed max_payload={limit} bytes; pass less, or raise sky.Options(max_payload=...)",
    )


def refuse_size(function: Any, size: int, limit: int) -> NoReturn:
    """Raise `SerializationError` for the arguments of a call that have more bytes than ``max_payload``."""
    raise too_large(f"the arguments of {_name(function)}", size, limit)


def refuse_code(function: Any, size: int, limit: int) -> NoReturn:
    """Raise `SerializationError` for a function that is too large to send, with all that it captures."""
    raise SerializationError(
        f"the function {_name(function)}",
        reason=f"{size} bytes of code and captured values exceed {limit} bytes; pass large values as arguments",
    )


def dumps_alone(value: object) -> tuple[bytes, frozenset[str]]:
    """Return a value as bytes, its buffers among them, and all modules that it refers to; see `loads_element`.

    Raises what pickling it raises.
    """
    data = _dump_plain(value) if _survey(value) == _PLAIN else None
    if data is not None:
        return data, NO_MODULES
    from skyward.wire import pickler

    dumped = pickler.dump(value, in_band=True)
    return dumped.data, dumped.modules


class _NotPlain(Exception):
    """The pickle of a value would name a class or a function."""


class _Plain(pickle.Pickler):
    """Pickles numbers, texts, and containers of these."""

    def reducer_override(self, obj: object) -> Any:
        """Refuse anything else."""
        raise _NotPlain


def _dump_plain(value: object) -> bytes | None:
    """Return a value as bytes, if its pickle names no class and no function; else None."""
    try:
        if not _is_long(value) and _STACK_GLOBAL not in (data := _dumps(value, 5)):
            return data  # in a fifth of the time of what follows, for a small value
        # In the pickle of a long one that byte is there by chance more often than not.
        file = BytesIO()
        _Plain(file, 5).dump(value)
    except Exception:  # not plain further inside: let the other way try
        return None
    return file.getvalue()


def _is_long(value: object) -> bool:
    """Return whether a value, or an entry of it, is a sequence or set of many; dictionaries are not looked into."""
    if type(value) not in _SEQUENCES:
        return False
    items = cast("Sequence[object]", value)
    return len(items) > _MANY or any(
        type(item) in _SEQUENCES and len(cast("list[object]", item)) > _MANY for item in items
    )


def _dump(value: object) -> tuple[Payload, frozenset[str]]:
    kind = _survey(value)
    if kind == _PLAIN and (data := _dump_plain(value)) is not None:
        return Payload(data), NO_MODULES
    from skyward.wire import pickler
    from skyward.wire.modules import users

    dumped = pickler.dump(value, large_bytes=kind == _LARGE_BYTES)
    return Payload(dumped.data, dumped.buffers), users(dumped.modules)


def _survey(value: object) -> int:
    """Say what a value seems to be made of, by a quick look at a part of it."""
    found = _PLAIN
    todo = [value]
    for _ in range(_SURVEYED):
        if not todo:
            break
        item = todo.pop()
        kind = type(item)
        if kind in _SCALARS:
            continue
        if kind in _BYTES:
            if len(cast("bytes", item)) >= _LARGE:
                return _LARGE_BYTES
        elif kind in _SEQUENCES:
            todo.extend(islice(cast("Iterable[object]", item), _WIDTH))
        elif kind is dict:
            todo.extend(chain.from_iterable(islice(cast("dict[object, object]", item).items(), _WIDTH)))
        else:
            found = _OBJECTS
            state: object = getattr(item, "__dict__", None)
            if type(state) is dict:
                todo.append(cast("object", state))
    return found


def _refuse_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], function: Any, names: Sequence[str], error: Exception
) -> NoReturn:
    from skyward.wire import culprit

    if not names and function is not None:
        names = culprit.parameter_names(function)
    labels = [f"argument {name!r}" for name in names[: len(args)]]
    labels += [f"argument {number}" for number in range(len(labels) + 1, len(args) + 1)]
    parts = [*zip(labels, args, strict=True), *((f"argument {name!r}", value) for name, value in kwargs.items())]
    path, reason = culprit.find(parts, error)
    what = "the arguments" if function is None else f"the arguments of {_name(function)}"
    passed = next((value for label, value in parts if path[:1] == (label,)), None)
    if _could_be_fed(passed, function) and "Iterator[" not in reason:
        reason += "; an argument whose parameter is annotated Iterator[T] is fed element by element"
    raise SerializationError(what, path, reason) from error


def _could_be_fed(value: object, function: object) -> bool:
    """Return whether an argument is an iterator, of a marked function."""
    return hasattr(type(function), "inputs") and all(hasattr(type(value), name) for name in ("__iter__", "__next__"))


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", function))


# --- from bytes ----------------------------------------------------------------------------


def loads_call(data: Buffer, buffers: Sequence[Buffer] = ()) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call; arrays are writable. Raises what unpickling them raises."""
    call: Any = _load(data, buffers, keep_classes=False) if buffers else _loads(data)
    return tuple(call) if call.__class__ is list else (call, {})


def loads_value(data: Buffer, buffers: Sequence[Buffer] = ()) -> Any:
    """Return a result; arrays are writable, and no class that exists here is changed.

    Raises `RemoteError` if it cannot be unpickled here; its traceback is that of the attempt.
    """
    try:
        if not buffers:
            if type(data) is not bytes and len(data) < _LARGE:
                data = bytes(data)
            if type(data) is bytes and b"cloudpickle" not in data:
                return _loads(data)
        return _load(data, buffers, keep_classes=True)
    except (Exception, SystemExit) as error:
        reason = "the result cannot be unpickled here"
        from skyward.wire.failures import traceback_text

        raise RemoteError(
            type(error).__name__, safe_text(error), traceback_text(error), reason=reason, here=True
        ) from error


def loads_element(data: Buffer, buffers: Sequence[Buffer] = ()) -> Any:
    """Return an element of an argument that is fed one by one. Raises what unpickling it raises."""
    return _load(data, buffers, keep_classes=False) if buffers else _loads(data)


def _load(data: Buffer, buffers: Iterable[Buffer], *, keep_classes: bool) -> Any:
    from skyward.wire import pickler

    return pickler.load(data, buffers, keep_classes=keep_classes)


def safe_text(error: BaseException) -> str:
    """Return ``str(error)``, whatever the user's ``__str__`` does."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} without text>"
