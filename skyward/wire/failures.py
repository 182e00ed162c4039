"""Why a task has no value, as bytes: written on the node, raised on the client.

An exception travels as itself when it is an `Exception` that survives pickling, which is tried out where
it was raised. Its traceback travels as text and becomes its ``__cause__``. Everything else, and whatever
is malformed on arrival, becomes an error of ours that says as much as is known.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec import MsgspecError
from msgspec.msgpack import Decoder, Encoder
from msgspec.structs import replace

from skyward.errors import (
    DeadlockError,
    NodeLostError,
    RemoteError,
    RemoteImportError,
    ResultTooLargeError,
    SerializationError,
    TaskError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from skyward.wire import statuses
from skyward.wire.messages import MAX_TEXT
from skyward.wire.payload import safe_text
from skyward.wire.statuses import CRASHED, IMPORT_FAILED, RAISED, REFUSED, UNSERIALIZABLE, Failure

if TYPE_CHECKING:
    from traceback import TracebackException

    from skyward.wire.frames import Buffer

__all__ = ["RemoteTraceback", "decode", "encode", "from_exception", "to_cause", "to_exception"]

MAX_EXCEPTION: Final = 4 * 2**20  # bytes of a pickled exception: one that is larger carries data, not a cause
PART: Final = "__skyward_part__"  # of a function of ours: gives the part of a result that the user knows
_MAX_NAME: Final = 1024  # characters, the protocol's bound
_MAX_FRAMES: Final = 2_000  # of a traceback, the last ones: a million take half a minute to describe
_MAX_LINES: Final = 100
_OURS: Final = ("skyward", "skyward_node")  # packages whose frames say nothing to the user

_encoder: Final = Encoder()
_decoder: Final = Decoder(Failure)

E = TypeVar("E", bound=BaseException)


class RemoteTraceback(Exception):
    """The cause of an exception that a task raised: its traceback on the node."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


# --- on the node ---------------------------------------------------------------------------


def from_exception(error: BaseException, limit: int = MAX_EXCEPTION) -> Failure:
    """Return what a task's exception tells the client; ``limit`` is bytes of the exception itself."""
    pickled, reason = b"", ""
    if _travels(error):
        pickled, reason = _pickled(error, limit)
    message = _cut(safe_text(error))
    return Failure(
        RAISED,
        type_name=_type_name(error),
        message=f"{message} ({reason})" if reason else message,
        traceback=traceback_text(error),
        exception=pickled,
    )


def not_loaded(error: BaseException) -> Failure:
    """Return what it means that a function or an argument cannot be made on the node."""
    failure = from_exception(error)
    if not isinstance(error, ImportError):
        return failure
    return Failure(
        IMPORT_FAILED,
        type_name=type(error).__name__,
        message=str(error)[:MAX_TEXT],
        traceback=failure.traceback,
        module=(error.name or "")[:1024],
    )


def exited(error: SystemExit) -> Failure:
    """Return what ``sys.exit`` in a task means: the code a process would have exited with."""
    code, lines = error.code, list[str]()
    if code is None:
        number = 0
    elif isinstance(code, int):
        number = code & 0xFF
    else:  # Python prints anything else and exits with 1
        number, lines = 1, [str(code)[:1000]]
    return Failure(CRASHED, type_name="WorkerCrashedError", exitcode=number, stderr=lines)


def unserializable(value: Any, error: Exception) -> Failure:
    """Return what it means that a value cannot be pickled."""
    try:
        text = repr(value)
    except Exception:  # the user's __repr__
        text = object.__repr__(value)
    failure = from_exception(error)
    why = error.complaint if isinstance(error, SerializationError) else failure.message
    return Failure(
        UNSERIALIZABLE,
        type_name=failure.type_name,
        message=f"{why}; the result was {text[:1000]}"[:MAX_TEXT],
        traceback=failure.traceback,
    )


def encode(failure: Failure) -> bytes:
    """Return a failure as bytes, texts cut to what the protocol allows."""
    return _encoder.encode(
        replace(
            failure,
            type_name=_cut(failure.type_name, _MAX_NAME),
            message=_cut(failure.message),
            traceback=_cut(failure.traceback),
            stderr=[_cut(line) for line in failure.stderr[-_MAX_LINES:]],
            module=_cut(failure.module, _MAX_NAME),
        )
    )


def _travels(error: BaseException) -> bool:
    """Return whether raising it from a client's call means there what it meant here."""
    return isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration)


def _pickled(error: BaseException, limit: int) -> tuple[bytes, str]:
    """Return the exception's pickle, or nothing and why: many cannot be made again from their ``args``."""
    from skyward.wire import pickler

    try:
        data = pickler.dump(error, in_band=True).data
        again = pickler.load(data, keep_classes=True)
    except (Exception, SystemExit) as trouble:
        return b"", f"the exception cannot be pickled: {_cut(safe_text(trouble), _MAX_NAME)}"
    if type(again) is not type(error):
        return b"", f"the exception unpickles as {_type_name(again)}"
    if safe_text(again) != safe_text(error) and type(error).__reduce__ is BaseException.__reduce__:
        data = pickler.dump(_AsItIs(error), in_band=True).data
    if len(data) > limit:
        return b"", f"the exception has {len(data)} bytes, more than the {limit} allowed"
    return data, ""


class _AsItIs:
    """An exception that says something else when its class makes it again: ``__init__`` has made its text."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_as_it_was, (type(self.error), self.error.args, vars(self.error))


def _make_as_it_was(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(state)
    return error


def _type_name(error: object) -> str:
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    return _cut(name, _MAX_NAME)


def traceback_text(error: BaseException) -> str:
    """Return the traceback without frames of ours, cut to what the protocol allows; never raises."""
    from traceback import TracebackException

    try:
        trace = TracebackException.from_exception(error, limit=-_MAX_FRAMES)
        _drop_our_frames(trace, _our_directories(), set())
        return _cut("".join(trace.format()))
    except Exception as trouble:  # a user's __str__, __cause__ or source file
        return f"{_type_name(error)} (its traceback cannot be shown: {type(trouble).__name__})"


def _drop_our_frames(trace: TracebackException, directories: tuple[str, ...], seen: set[int]) -> None:
    if id(trace) in seen:
        return
    seen.add(id(trace))
    trace.stack[:] = [frame for frame in trace.stack if not frame.filename.startswith(directories)]
    for linked in (trace.__cause__, trace.__context__, *(trace.exceptions or ())):
        if linked is not None:
            _drop_our_frames(linked, directories, seen)


def _our_directories() -> tuple[str, ...]:
    files = (getattr(sys.modules.get(name), "__file__", None) for name in _OURS)
    return tuple(os.path.dirname(file) + os.sep for file in files if file)


def _cut(text: str, length: int = MAX_TEXT) -> str:
    """Return valid text of at most so many characters; the middle is left out."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= length:
        return text
    gap = "\n…\n"
    head = (length - len(gap)) // 2
    return text[:head] + gap + text[len(text) - (length - len(gap) - head) :]


def of_client(error: BaseException) -> Failure:
    """Return what the client's own verdict on a nested call tells its parent: the function has not raised it."""
    failure = from_exception(error)
    return Failure(REFUSED, type_name=failure.type_name, message=failure.message, exception=failure.exception)


# --- on the client -------------------------------------------------------------------------


def decode(data: Buffer) -> Failure:
    """Return a failure; one that is malformed is itself reported as a failure."""
    try:
        return _decoder.decode(data)
    except (MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Failure(
            RAISED, type_name="ProtocolError", message=f"the node's report of a failure is malformed: {error}"
        )


def to_exception(data: Buffer, *, function: str, node: int, task: int) -> BaseException:
    """Return the exception to raise for a task that failed; never raises."""
    failure = decode(data)
    note = f"raised by {function} on node {node}, task {task}"
    error = _exception(failure, function, node, task, note)
    if isinstance(error, TaskError):
        locate(error, function=function, node=node, task=task)
    elif failure.status in (statuses.CANCELLED, UNSERIALIZABLE):
        _annotate(error, note)
    return error


def locate(error: TaskError, *, function: str, node: int, task: int) -> None:
    """Have an error say where its task was, as far as it does not know better."""
    for field, value in (("function", function), ("node", node), ("task", task)):
        if getattr(error, field) is None:
            setattr(error, field, value)


def to_cause(data: Buffer) -> BaseException:
    """Return the exception that a user's iterable has raised on the client; never raises."""
    error = _raised(decode(data), "")
    _annotate(error, "raised by the iterable that was passed to the call, on the client")
    return error


def _exception(failure: Failure, function: str, node: int, task: int, note: str) -> BaseException:
    match failure.status:
        case statuses.CRASHED:
            error: BaseException = _crashed(failure)
        case statuses.TIMED_OUT:
            error = TaskTimeoutError(failure.timeout)
        case statuses.CANCELLED:
            from concurrent.futures import CancelledError

            error = CancelledError(failure.message)
        case statuses.TOO_LARGE:
            error = ResultTooLargeError(failure.size, failure.limit)
        case statuses.UNSERIALIZABLE:
            error = _caused(SerializationError(f"the result of {function}", reason=failure.message), failure)
        case statuses.IMPORT_FAILED:
            name = failure.module
            missing = RemoteImportError(name or "?", failure.message, in_memory=_is_of_memory(name))
            error = _caused(missing, failure)
        case statuses.NODE_LOST:
            error = NodeLostError(node, failure.message, failure.attempts, task)
        case _:
            error = _raised(failure, note if failure.status == RAISED else "")
    return error


def _is_of_memory(name: str) -> bool:
    """Return whether a module exists here and was made by hand: nothing says how to load it, and it is no namespace."""
    module = sys.modules.get(name)
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return module is not None and loader is None and not hasattr(module, "__path__")


def _crashed(failure: Failure) -> WorkerCrashedError:
    return WorkerCrashedError(
        signal=failure.signal or None,
        exitcode=failure.exitcode if failure.exitcode >= 0 and not failure.signal else None,
        stderr=tuple(failure.stderr),
        peak_memory=failure.peak_memory or None,
        memory_limit=failure.memory_limit or None,
        oom=failure.oom,
        attempts=failure.attempts,
    )


def _raised(failure: Failure, note: str) -> BaseException:
    """Return the exception itself, with the note, or what stands for it."""
    reason = ""
    if failure.exception:
        from skyward.wire import pickler

        try:
            error = pickler.load(failure.exception, keep_classes=True)
            if isinstance(error, Exception) and _travels(error):
                if note:
                    _annotate(error, note)
                return _caused(error, failure)
            reason = f"it arrived as {type(error).__name__}, which cannot be raised here"
        except (Exception, SystemExit) as trouble:
            reason = f"the exception cannot be unpickled here: {type(trouble).__name__}: {safe_text(trouble)}"
    if failure.status == REFUSED and failure.type_name == "DeadlockError":
        return DeadlockError(failure.message)
    return RemoteError(failure.type_name or "Exception", failure.message, failure.traceback, reason)


def _caused(error: E, failure: Failure) -> E:
    if failure.traceback:
        try:
            error.__cause__ = RemoteTraceback(failure.traceback)
        except Exception:  # noqa: S110  # a class of the user's that refuses attributes; it is raised all the same
            pass
    return error


def _annotate(error: Any, note: str) -> None:
    try:
        error.add_note(note)
    except Exception:  # noqa: S110  # the same
        pass
