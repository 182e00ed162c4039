"""Describing work: marked functions, their calls, and groups of calls.

``@sky.function`` makes a `Function`; calling that makes a `PendingFunction` and runs nothing; ``&`` and
`gather` make a `PendingFunctionGroup`. Wrong arguments, options and operands fail here, where the user
wrote them. How anything is sent is not known here: an operator hands the call to its pool, and that is all.

This module holds the functions; `skyward.work.pending` the calls, groups and operators; `skyward.work.gathering`
holds `gather`.
"""

from __future__ import annotations

import functools
import sys
from types import FunctionType, MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from skyward.config import check_retries, said_timeout
from skyward.work.abbreviation import abbreviate
from skyward.work.gathering import gather
from skyward.work.mistakes import Uncalled
from skyward.work.parameters import Inputs, find_inputs, yields
from skyward.work.pending import PendingFunction, PendingFunctionGroup, PendingStream, shown_timeout
from skyward.work.signature import make_checker

if TYPE_CHECKING:
    import inspect
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping
    from typing import Self

    from skyward.answers.values import ValueStream

__all__ = [
    "BoundFunction",
    "Function",
    "PendingFunction",
    "PendingFunctionGroup",
    "PendingStream",
    "function",
    "gather",
]

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
S = TypeVar("S")

# Shared by all calls without keywords: a dict weighs 64 bytes, more than the call itself.
_NO_KWARGS: Final[Mapping[str, Any]] = MappingProxyType({})
_ABSENT: Final = object()  # not None: marking None is a mistake to be told


class Function(Uncalled, Generic[P, R_co]):
    """A marked function. Calling it checks the arguments and returns a `PendingFunction`.

    ``timeout`` (seconds; 0: no limit) and ``retries`` are for all its calls; None leaves them to the pool.
    """

    __name__: str
    __qualname__: str

    def __init__(self, wrapped: Callable[P, R_co], timeout: float | None, retries: int | None) -> None:
        # The state of a callable object is its own; what somebody put on a function is metadata.
        plain = isinstance(wrapped, FunctionType | MethodType)
        functools.update_wrapper(self, wrapped, updated=("__dict__",) if plain else ())
        if "__name__" not in vars(self):
            self.__name__ = self.__qualname__ = _name_of(wrapped)
        self.__wrapped__ = wrapped
        self.timeout = timeout
        self.retries = retries
        self._check = make_checker(wrapped, self.__qualname__)
        self.yields = yields(wrapped)  # its calls give iterators

    @overload  # an `async def`: the call's value is what awaiting the coroutine gives
    def __call__(
        self: Function[Q, Coroutine[Any, Any, T]], /, *args: Q.args, **kwargs: Q.kwargs
    ) -> PendingFunction[T]: ...
    @overload  # what yields: the call's value is an iterator, for `for` and for `async for`
    def __call__(
        self: Function[Q, Generator[T, Any, Any]], /, *args: Q.args, **kwargs: Q.kwargs
    ) -> PendingFunction[ValueStream[T]]: ...
    @overload
    def __call__(
        self: Function[Q, AsyncIterator[T]], /, *args: Q.args, **kwargs: Q.kwargs
    ) -> PendingFunction[ValueStream[T]]: ...
    @overload
    def __call__(self: Function[Q, T], /, *args: Q.args, **kwargs: Q.kwargs) -> PendingFunction[T]: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> PendingFunction[Any]:
        """Describe a call; raises `TypeError` for arguments the original would not take."""
        self._check(*args, **kwargs)
        # Copies with a change share it, so nobody may change it.
        return PendingFunction(self, args, MappingProxyType(kwargs) if kwargs else _NO_KWARGS)

    def local(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the original here and now, with no pool; an ``async def`` gives its coroutine."""
        return self.__wrapped__(*args, **kwargs)

    @functools.cached_property
    def inputs(self) -> Inputs | None:
        """Which parameters are fed element by element; None if there is none."""
        return find_inputs(self.__wrapped__)

    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> Self: ...
    @overload
    def __get__(
        self: Function[Concatenate[S, Q], R_co], instance: S, owner: type[Any] | None = None, /
    ) -> BoundFunction[Q, R_co]: ...
    def __get__(self, instance: Any, owner: type[Any] | None = None, /) -> Any:
        return self if instance is None else BoundFunction(self, instance)

    @property
    def __signature__(self) -> inspect.Signature:
        import inspect

        try:
            return inspect.signature(self.__wrapped__)
        except ValueError as error:  # `hasattr` and `inspect` expect an absent attribute
            raise AttributeError(str(error)) from error

    def __reduce__(self) -> str | tuple[Any, ...]:
        if _is_importable(self):
            return self.__qualname__
        return _mark, (self.__wrapped__, self.timeout, self.retries)

    def __repr__(self) -> str:
        options = [("timeout", shown_timeout(self.timeout)), ("retries", self.retries)]
        shown = "".join(f" {name}={value!r}" for name, value in options if value is not None)
        return f"<sky.function {self.__module__}.{self.__qualname__}{shown}>"


class BoundFunction(Uncalled, Generic[P, R_co]):
    """A marked method of one object, which travels as the first argument of its calls."""

    __name__: str
    __qualname__: str

    def __init__(self, func: Function[..., R_co], instance: object) -> None:
        self.__func__ = func
        self.__self__ = instance
        # Not by `__getattr__`, which would not be asked for the last two: the class has its own.
        self.__name__, self.__qualname__ = func.__name__, func.__qualname__
        self.__doc__, self.__module__ = func.__doc__, func.__module__

    @overload
    def __call__(
        self: BoundFunction[Q, Coroutine[Any, Any, T]], /, *args: Q.args, **kwargs: Q.kwargs
    ) -> PendingFunction[T]: ...
    @overload
    def __call__(
        self: BoundFunction[Q, Generator[T, Any, Any]], /, *args: Q.args, **kwargs: Q.kwargs
    ) -> PendingFunction[ValueStream[T]]: ...
    @overload
    def __call__(
        self: BoundFunction[Q, AsyncIterator[T]], /, *args: Q.args, **kwargs: Q.kwargs
    ) -> PendingFunction[ValueStream[T]]: ...
    @overload
    def __call__(self: BoundFunction[Q, T], /, *args: Q.args, **kwargs: Q.kwargs) -> PendingFunction[T]: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> PendingFunction[Any]:
        """Describe a call of the method."""
        return self.__func__(self.__self__, *args, **kwargs)

    def local(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the original here and now on the object; an ``async def`` gives its coroutine."""
        return self.__func__.local(self.__self__, *args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[P, Any]:
        return MethodType(self.__func__.__wrapped__, self.__self__)

    def __eq__(self, other: object) -> bool:
        """Return whether it is the same method of the same object, as Python's own methods do."""
        if not isinstance(other, BoundFunction):
            return NotImplemented
        same = cast("BoundFunction[..., Any]", other)
        return self.__self__ is same.__self__ and self.__func__ == same.__func__

    def __hash__(self) -> int:
        return hash((id(self.__self__), self.__func__))

    def __reduce__(self) -> tuple[Any, ...]:
        return BoundFunction, (self.__func__, self.__self__)

    def __repr__(self) -> str:
        return f"<sky.function {self.__func__.__qualname__} of {abbreviate(self.__self__)}>"


class Marker(Protocol):
    """What ``sky.function`` with options returns: a decorator."""

    @overload
    def __call__(self, fn: Function[P, T] | BoundFunction[P, T], /) -> Function[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Function[P, T]: ...


# Of a method it gives a method; with a type of its own, what comes of something untyped would be of no type at all.
@overload
def function(
    fn: Function[P, T] | BoundFunction[P, T], /, *, timeout: float | None = ..., retries: int | None = None
) -> Function[P, T]: ...
@overload
def function(fn: Callable[P, T], /, *, timeout: float | None = ..., retries: int | None = None) -> Function[P, T]: ...
@overload
def function(*, timeout: float | None = ..., retries: int | None = None) -> Marker: ...
def function(fn: Any = _ABSENT, /, *, timeout: Any = _ABSENT, retries: int | None = None) -> Any:
    """Mark a function, so that calling it describes a call and runs nothing.

    Use it bare or with options: ``timeout`` is the time limit of a call in seconds from its start; None says that
    there is none, whatever the pool's is; what is not said is left to the pool. ``retries``
    is how often a call may run again after its node was lost; after a crash of its worker it runs again once, if
    ``retries`` is not 0. Raises `TypeError` for what is no function, `TypeError` and `ValueError` for bad options.
    """
    timeout = None if timeout is _ABSENT else said_timeout(timeout)
    if retries is not None:
        retries = check_retries(retries)
    if fn is _ABSENT:
        return functools.partial(_mark, timeout=timeout, retries=retries)
    return _mark(fn, timeout, retries)


def _mark(fn: Any, timeout: float | None, retries: int | None) -> Any:
    if isinstance(fn, BoundFunction):
        method = cast("BoundFunction[..., Any]", fn)
        return BoundFunction(_mark(method.__func__, timeout, retries), method.__self__)
    if isinstance(fn, Function):
        marked = cast("Function[..., Any]", fn)
        if timeout is None and retries is None:
            return marked
        timeout = marked.timeout if timeout is None else timeout
        retries = marked.retries if retries is None else retries
        return Function(marked.__wrapped__, timeout, retries)
    _refuse_unless_function(fn)
    return Function(fn, timeout, retries)


def _refuse_unless_function(fn: Any) -> None:
    if isinstance(fn, type):
        raise TypeError(f"@sky.function marks functions, got the class {fn.__qualname__}; mark a function that uses it")
    kind = type(fn).__name__
    if kind in ("staticmethod", "classmethod", "property"):
        raise TypeError(f"@sky.function marks functions, got a {kind}; write it below @{kind}")
    if isinstance(fn, PendingFunction | PendingFunctionGroup):
        raise TypeError(f"@sky.function marks functions, got {fn!r}, which is a call already")
    if not callable(fn):
        raise TypeError(
            f"@sky.function marks functions, got {abbreviate(fn)} ({kind}); "
            "options have names: @sky.function(timeout=..., retries=...)"
        )


def _name_of(fn: Any) -> str:
    if isinstance(fn, functools.partial):
        inner: Any = fn.func
        return str(getattr(inner, "__qualname__", type(inner).__qualname__))
    return type(fn).__qualname__


def _is_importable(fn: Function[..., Any]) -> bool:
    """Return whether importing its module elsewhere gives the function under its name."""
    module = sys.modules.get(fn.__module__)
    # A module without a spec was made by hand, or is the main script or a notebook.
    if module is None or module.__spec__ is None or module.__name__ in ("__main__", "__mp_main__"):
        return False
    found: Any = module
    for name in fn.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is fn
