"""`gather`: many calls as one group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any, Final, Literal, NoReturn, TypeVar, cast, overload

from skyward.config import check_flag
from skyward.work.abbreviation import abbreviate
from skyward.work.mistakes import is_future
from skyward.work.pending import (
    Group,
    OptionedCall,
    PendingFunction,
    PendingFunctionGroup,
    PendingStream,
    is_call,
    is_group,
    own_calls,
)

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")

_CALLS: Final = frozenset({PendingFunction, OptionedCall})


# Up to six calls keep a type each, by position.
@overload
def gather(
    a: PendingFunction[A],
    b: PendingFunction[B],
    /,
    *,
    stream: Literal[False] = False,
    ordered: Literal[True] = True,
    return_exceptions: Literal[False] = False,
    progress: bool | str = False,
) -> PendingFunctionGroup[A, B]: ...
@overload
def gather(
    a: PendingFunction[A],
    b: PendingFunction[B],
    c: PendingFunction[C],
    /,
    *,
    stream: Literal[False] = False,
    ordered: Literal[True] = True,
    return_exceptions: Literal[False] = False,
    progress: bool | str = False,
) -> PendingFunctionGroup[A, B, C]: ...
@overload
def gather(
    a: PendingFunction[A],
    b: PendingFunction[B],
    c: PendingFunction[C],
    d: PendingFunction[D],
    /,
    *,
    stream: Literal[False] = False,
    ordered: Literal[True] = True,
    return_exceptions: Literal[False] = False,
    progress: bool | str = False,
) -> PendingFunctionGroup[A, B, C, D]: ...
@overload
def gather(
    a: PendingFunction[A],
    b: PendingFunction[B],
    c: PendingFunction[C],
    d: PendingFunction[D],
    e: PendingFunction[E],
    /,
    *,
    stream: Literal[False] = False,
    ordered: Literal[True] = True,
    return_exceptions: Literal[False] = False,
    progress: bool | str = False,
) -> PendingFunctionGroup[A, B, C, D, E]: ...
@overload
def gather(
    a: PendingFunction[A],
    b: PendingFunction[B],
    c: PendingFunction[C],
    d: PendingFunction[D],
    e: PendingFunction[E],
    f: PendingFunction[F],
    /,
    *,
    stream: Literal[False] = False,
    ordered: Literal[True] = True,
    return_exceptions: Literal[False] = False,
    progress: bool | str = False,
) -> PendingFunctionGroup[A, B, C, D, E, F]: ...
@overload
def gather(
    *calls: PendingFunction[T],
    stream: Literal[False] = False,
    ordered: Literal[True] = True,
    return_exceptions: Literal[False] = False,
    progress: bool | str = False,
) -> PendingFunctionGroup[*tuple[T, ...]]: ...
@overload
def gather(
    calls: Iterable[PendingFunction[T]],
    /,
    *,
    stream: Literal[False] = False,
    ordered: Literal[True] = True,
    return_exceptions: Literal[False] = False,
    progress: bool | str = False,
) -> PendingFunctionGroup[*tuple[T, ...]]: ...
@overload
def gather(
    *calls: PendingFunction[T],
    stream: Literal[False] = False,
    ordered: Literal[True] = True,
    return_exceptions: Literal[True],
    progress: bool | str = False,
) -> PendingFunctionGroup[*tuple[T | BaseException, ...]]: ...
@overload
def gather(
    calls: Iterable[PendingFunction[T]],
    /,
    *,
    stream: Literal[False] = False,
    ordered: Literal[True] = True,
    return_exceptions: Literal[True],
    progress: bool | str = False,
) -> PendingFunctionGroup[*tuple[T | BaseException, ...]]: ...
@overload
def gather(
    *calls: PendingFunction[T],
    stream: Literal[True],
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    progress: bool | str = False,
) -> PendingStream[T]: ...
@overload
def gather(
    calls: Iterable[PendingFunction[T]],
    /,
    *,
    stream: Literal[True],
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    progress: bool | str = False,
) -> PendingStream[T]: ...
@overload
def gather(
    *calls: PendingFunction[T],
    stream: Literal[True],
    ordered: bool = True,
    return_exceptions: Literal[True],
    progress: bool | str = False,
) -> PendingStream[T | BaseException]: ...
@overload
def gather(
    calls: Iterable[PendingFunction[T]],
    /,
    *,
    stream: Literal[True],
    ordered: bool = True,
    return_exceptions: Literal[True],
    progress: bool | str = False,
) -> PendingStream[T | BaseException]: ...
@overload
def gather(
    *calls: PendingFunction[Any],
    stream: bool = False,
    ordered: bool = True,
    return_exceptions: bool = False,
    progress: bool | str = False,
) -> PendingFunctionGroup[*tuple[Any, ...]] | PendingStream[Any]: ...
@overload
def gather(
    calls: Iterable[PendingFunction[Any]],
    /,
    *,
    stream: bool = False,
    ordered: bool = True,
    return_exceptions: bool = False,
    progress: bool | str = False,
) -> PendingFunctionGroup[*tuple[Any, ...]] | PendingStream[Any]: ...
def gather(
    *calls: Any,
    stream: bool = False,
    ordered: bool = True,
    return_exceptions: bool = False,
    progress: bool | str = False,
) -> Group:
    """Join calls, or one iterable of calls, to a group; ``group >> pool`` runs them at once.

    The result is the tuple of values in submission order. With ``stream=True`` it is an iterator, in
    submission order or, with ``ordered=False``, in completion order; calls of a generator are then pulled as they
    are needed, at most 1,000 ahead of those that have ended. With ``return_exceptions=True`` a
    failure stands in its call's place; otherwise the first one is raised and the rest cancelled.
    With ``progress=True``, or a label, the console shows how far the group is.
    Raises `TypeError` for what is no call or flag, `ValueError` for ``ordered=False`` without a stream.
    """
    for name, flag in (("stream", stream), ("ordered", ordered), ("return_exceptions", return_exceptions)):
        check_flag(name, flag)
    if not (stream or ordered):
        raise ValueError("ordered=False needs stream=True: without a stream the results are one tuple, in order")
    if type(progress) not in (bool, str):
        raise TypeError(f"progress must be True, False or a label, got {abbreviate(progress)}")
    if stream and len(calls) == 1 and _is_lazy(calls[0]):
        lazy: PendingStream[Any] = PendingStream(
            (),
            stream=True,
            ordered=ordered,
            return_exceptions=return_exceptions,
            source=Source(calls[0]),
            progress=progress,
        )
        return lazy
    members = _members(calls)
    if stream:
        kept: PendingStream[Any] = PendingStream(
            members, stream=True, ordered=ordered, return_exceptions=return_exceptions, progress=progress
        )
        return kept
    return PendingFunctionGroup(members, return_exceptions=return_exceptions, progress=progress)


class Source:
    """Calls that are pulled when a stream is dispatched."""

    def __init__(self, calls: Any) -> None:
        self._calls = calls
        self._taken = False

    def take(self) -> Iterator[Any]:
        """Return the iterator; raises `ValueError` if it has been taken and can be pulled only once."""
        calls: Iterator[Any] = iter(self._calls)
        if calls is self._calls and self._taken:
            raise ValueError("this stream of calls was dispatched already, and its iterator can be pulled only once")
        self._taken = True
        return calls

    def __repr__(self) -> str:
        return abbreviate(self._calls)


def _is_lazy(calls: object) -> bool:
    """Return whether calls come one by one; a container has them all already."""
    if is_call(calls) or is_group(calls):
        return False
    return isinstance(calls, Iterable) and not isinstance(calls, Sized)


def _members(calls: tuple[Any, ...]) -> tuple[PendingFunction[Any], ...]:
    if len(calls) == 1 and is_group(calls[0]):
        return own_calls(calls[0])
    from_iterable = len(calls) == 1 and isinstance(calls[0], Iterable)
    members = tuple(cast("Iterable[Any]", calls[0])) if from_iterable else calls
    if not _CALLS.issuperset(map(type, members)):  # the types are few: this costs 20 ns a call
        for index, member in enumerate(members):
            if not is_call(member):
                _refuse(member, f"item {index}" if from_iterable else f"argument {index + 1}")
    return members


def _refuse(member: object, where: str) -> NoReturn:
    got = f"{where} is {abbreviate(member)} ({type(member).__name__})"
    if is_group(member):
        hint = "unpack a group: gather(*group, call)"
    elif is_future(member):
        hint = "its call has begun already: take future.result(), or give the call itself, f(1) and not f(1) > pool"
    elif callable(member):
        hint = "call the function: gather(f(1), f(2)), with f marked by @sky.function"
    elif isinstance(member, Iterable) and not isinstance(member, str | bytes):
        hint = "give one iterable of calls alone, or unpack it: gather(*calls)"
    else:
        hint = "mark the function with @sky.function, so that calling it gives a call and not a value"
    raise TypeError(f"gather() takes calls, but {got}; {hint}")
