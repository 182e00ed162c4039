"""Calls and groups: work that is described, and not yet run.

Both are frozen. The operators only find out which pool is meant and hand themselves to it; what the pool does with
them is not known here. There is one `PendingFunction` per task and users make hundreds of thousands of them, so a
plain one has three slots, and options cost a subclass with its own.
"""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    NoReturn,
    SupportsIndex,
    TypeAlias,
    TypeGuard,
    TypeVar,
    TypeVarTuple,
    overload,
)

from skyward.config import check_retries, check_timeout, said_timeout
from skyward.errors import ConfigError
from skyward.model import as_whole
from skyward.runtime import resolve_pool
from skyward.work.abbreviation import abbreviate, abbreviate_arguments
from skyward.work.mistakes import Several, refuse_operand

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

    from skyward.answers.futures import Future
    from skyward.answers.streams import ResultStream
    from skyward.calls import Function
    from skyward.runtime import PoolOperand
    from skyward.work.gathering import Source

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Ts = TypeVarTuple("Ts")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
I = TypeVar("I")  # noqa: E741 - in a row of twelve it is not mistaken for a number
J = TypeVar("J")
K = TypeVar("K")
L = TypeVar("L")

HEAD: Final = 0  # rank of the head node
_SHOWN: Final = 3  # members of a group in its repr: enough to recognize it


class _Frozen:
    """Attributes are set once, by ``__init__``."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        self._refuse(name)

    def __delattr__(self, name: str) -> NoReturn:
        self._refuse(name)

    def __copy__(self) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot travel to another process: run it first and pass its value, like f(g(1) >> pool)"
        )

    def _refuse(self, name: str) -> NoReturn:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot change {name!r}: {self!r} is frozen; methods like with_timeout() copy")


_set: Final = object.__setattr__

_PARTS: Final = ("function", "args", "kwargs")
_OPTIONS: Final = ("timeout", "retries", "rank", "label")


class PendingFunction(_Frozen, Generic[T_co]):
    """A call of a marked function, to be run by ``>>``, ``>`` or ``@`` on a pool.

    ``timeout`` (seconds; 0: no limit) and ``retries`` are None where the call itself says nothing; ``rank`` is
    the node it must run on, or None for any.
    """

    __slots__ = _PARTS

    if not TYPE_CHECKING:  # overlaid by slots in the subclass that has options
        timeout = retries = rank = label = None

    def __init__(self, function: Function[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if TYPE_CHECKING:
            # Not in the class body, where the function would be taken for a method; see `Function.__get__`.
            self.function: Final = function
            self.args: Final = args
            self.kwargs: Final = kwargs
            self.timeout: Final[float | None] = None
            self.retries: Final[int | None] = None
            self.rank: Final[int | None] = None
            self.label: Final[str | None] = None
        _set_function(self, function)
        _set_args(self, args)
        _set_kwargs(self, kwargs)

    # --- copies with a change ----------------------------------------------------------------

    def with_timeout(self, seconds: float | None) -> PendingFunction[T_co]:
        """Return the call with a time limit from its start; None: no limit, whatever function and pool say."""
        return _changed(self, timeout=said_timeout(seconds))

    def with_retries(self, retries: SupportsIndex) -> PendingFunction[T_co]:
        """Return the call with a number of re-runs after lost nodes; after a crash of its worker 1, or none with 0."""
        return _changed(self, retries=check_retries(retries))

    def on(self, rank: SupportsIndex | Literal["head"]) -> PendingFunction[T_co]:
        """Return the call bound to the node of that rank; it is never moved to another."""
        return _changed(self, rank=_checked_rank(rank))

    def named(self, label: str) -> PendingFunction[T_co]:
        """Return the call with a name of its own for logs and errors."""
        return _changed(self, label=_checked_label(label))

    # --- operators ---------------------------------------------------------------------------

    def __rshift__(self, pool: PoolOperand) -> T_co:
        return resolve_pool(pool).run(self)

    def __gt__(self, pool: PoolOperand) -> Future[T_co]:
        return resolve_pool(pool).run_async(self)

    def __matmul__(self, pool: PoolOperand) -> list[T_co]:
        return resolve_pool(pool).broadcast(self)

    @overload
    def __and__(self, other: PendingFunction[T]) -> PendingFunctionGroup[T_co, T]: ...
    @overload
    def __and__(self, other: PendingFunctionGroup[*Ts]) -> PendingFunctionGroup[T_co, *Ts]: ...
    def __and__(self, other: Any) -> PendingFunctionGroup[*tuple[Any, ...]]:
        return PendingFunctionGroup((self, *_operand_calls(other)))

    if not TYPE_CHECKING:  # for checkers `5 & call` is no operator at all

        def __rand__(self, other: Any) -> NoReturn:
            refuse_operand(other)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} only describes work and is neither true nor false; run it first: "
            "`if call >> pool:` (or compare with `is None`)"
        )

    # --- the rest ----------------------------------------------------------------------------

    def __repr__(self) -> str:
        timeout = shown_timeout(self.timeout)
        options = [("timeout", timeout), ("retries", self.retries), ("on", self.rank), ("named", self.label)]
        return f"<call {_written(self)}{_shown(options)}>"


_set_function: Final = PendingFunction.__dict__["function"].__set__
_set_args: Final = PendingFunction.__dict__["args"].__set__
_set_kwargs: Final = PendingFunction.__dict__["kwargs"].__set__


class OptionedCall(PendingFunction[T_co]):
    """A call that has options of its own."""

    __slots__ = _OPTIONS


def _changed(call: PendingFunction[T], **changes: float | str | None) -> PendingFunction[T]:
    copy: OptionedCall[T] = OptionedCall(call.function, call.args, call.kwargs)
    for name in _OPTIONS:
        _set(copy, name, changes[name] if name in changes else getattr(call, name))
    return copy


def _checked_rank(rank: object) -> int:
    if isinstance(rank, str) and rank == "head":
        return HEAD
    if (number := as_whole(rank)) is None:
        raise TypeError(f"a node's rank must be an int or 'head', got {abbreviate(rank)}")
    if number < 0:
        raise ConfigError(f"a node's rank must be 0 or more, got {number}")
    return number


def _checked_label(label: object) -> str:
    if not isinstance(label, str):
        raise TypeError(f"a call's name must be a str, got {abbreviate(label)}")
    return label


class PendingFunctionGroup(_Frozen, Several, Generic[*Ts]):
    """Calls that are run together; the result is the tuple of their values, in this order.

    ``timeout`` (seconds) is for the whole group, from dispatch. The other options are `gather`'s.
    """

    __slots__ = ("calls", "ordered", "progress", "return_exceptions", "source", "stream", "timeout")

    def __init__(
        self,
        calls: tuple[PendingFunction[Any], ...],
        *,
        timeout: float | None = None,
        stream: bool = False,
        ordered: bool = True,
        return_exceptions: bool = False,
        source: Source | None = None,
        progress: bool | str = False,
    ) -> None:
        if TYPE_CHECKING:
            self.progress: Final = progress
            self.source: Final = source
            self.calls: Final = calls
            self.timeout: Final = timeout
            self.stream: Final = stream
            self.ordered: Final = ordered
            self.return_exceptions: Final = return_exceptions
        # With a source, whose calls are pulled at dispatch, there are no ``calls``.
        values = calls, ordered, progress, return_exceptions, source, stream, timeout
        for name, value in zip(PendingFunctionGroup.__slots__, values, strict=True):
            _set(self, name, value)

    def __len__(self) -> int:
        if self.source is not None:
            raise TypeError("the length of this group is not known: its calls come from an iterator; run it: `>> pool`")
        return len(self.calls)

    def __iter__(self) -> Iterator[PendingFunction[Any]]:
        if self.source is not None:
            raise TypeError("this group has no calls to iterate over yet: they are pulled as it runs, by `>> pool`")
        return iter(self.calls)

    def with_timeout(self, seconds: float | None) -> Self:
        """Return the group with a time limit for all of it, generators included, from dispatch; None: no limit."""
        return type(self)(
            self.calls,
            timeout=check_timeout(seconds),
            stream=self.stream,
            ordered=self.ordered,
            return_exceptions=self.return_exceptions,
            source=self.source,
            progress=self.progress,
        )

    def __rshift__(self, pool: PoolOperand) -> tuple[*Ts]:
        values: tuple[*Ts] = resolve_pool(pool).run_group(self)
        return values

    def __gt__(self, pool: PoolOperand) -> Future[tuple[*Ts]]:
        return resolve_pool(pool).run_async(self)

    # A type can have one tuple of unknown length only, so the right one is spelled out.
    @overload
    def __and__(self, other: PendingFunction[A]) -> PendingFunctionGroup[*Ts, A]: ...
    @overload
    def __and__(self, other: PendingFunctionGroup[A]) -> PendingFunctionGroup[*Ts, A]: ...
    @overload
    def __and__(self, other: PendingFunctionGroup[A, B]) -> PendingFunctionGroup[*Ts, A, B]: ...
    @overload
    def __and__(self, other: PendingFunctionGroup[A, B, C]) -> PendingFunctionGroup[*Ts, A, B, C]: ...
    @overload
    def __and__(self, other: PendingFunctionGroup[A, B, C, D]) -> PendingFunctionGroup[*Ts, A, B, C, D]: ...
    @overload
    def __and__(self, other: PendingFunctionGroup[A, B, C, D, E]) -> PendingFunctionGroup[*Ts, A, B, C, D, E]: ...
    @overload
    def __and__(self, other: PendingFunctionGroup[A, B, C, D, E, F]) -> PendingFunctionGroup[*Ts, A, B, C, D, E, F]: ...
    @overload
    def __and__(
        self, other: PendingFunctionGroup[A, B, C, D, E, F, G]
    ) -> PendingFunctionGroup[*Ts, A, B, C, D, E, F, G]: ...
    @overload
    def __and__(
        self, other: PendingFunctionGroup[A, B, C, D, E, F, G, H]
    ) -> PendingFunctionGroup[*Ts, A, B, C, D, E, F, G, H]: ...
    @overload
    def __and__(
        self, other: PendingFunctionGroup[A, B, C, D, E, F, G, H, I]
    ) -> PendingFunctionGroup[*Ts, A, B, C, D, E, F, G, H, I]: ...
    @overload
    def __and__(
        self, other: PendingFunctionGroup[A, B, C, D, E, F, G, H, I, J]
    ) -> PendingFunctionGroup[*Ts, A, B, C, D, E, F, G, H, I, J]: ...
    @overload
    def __and__(
        self, other: PendingFunctionGroup[A, B, C, D, E, F, G, H, I, J, K]
    ) -> PendingFunctionGroup[*Ts, A, B, C, D, E, F, G, H, I, J, K]: ...
    @overload
    def __and__(
        self, other: PendingFunctionGroup[A, B, C, D, E, F, G, H, I, J, K, L]
    ) -> PendingFunctionGroup[*Ts, A, B, C, D, E, F, G, H, I, J, K, L]: ...
    @overload
    def __and__(self, other: PendingFunctionGroup[*tuple[Any, ...]]) -> PendingFunctionGroup[*tuple[Any, ...]]: ...
    def __and__(self, other: Any) -> PendingFunctionGroup[*tuple[Any, ...]]:
        return PendingFunctionGroup((*own_calls(self), *_operand_calls(other)))

    if not TYPE_CHECKING:

        def __rand__(self, other: Any) -> NoReturn:
            refuse_operand(other)

    def __repr__(self) -> str:
        members = [_written(call) for call in self.calls[:_SHOWN]]
        members += ["…"] if len(self.calls) > _SHOWN else []
        options = [
            ("timeout", self.timeout),
            ("stream", self.stream or None),
            ("ordered", None if self.ordered else False),
            ("return_exceptions", self.return_exceptions or None),
            ("progress", self.progress or None),
        ]
        count: object = len(self.calls) if self.source is None else self.source
        return f"<group of {count}{': ' if members else ''}{' & '.join(members)}{_shown(options)}>"


class PendingStream(PendingFunctionGroup[*tuple[T, ...]]):
    """A group whose results come one by one, as an iterator; what ``gather(…, stream=True)`` makes."""

    __slots__ = ()

    def __rshift__(self, pool: PoolOperand) -> ResultStream[T]:  # type: ignore[override]  # that is the difference
        stream: ResultStream[T] = resolve_pool(pool).run_group(self)
        return stream

    def __gt__(self, pool: PoolOperand) -> NoReturn:
        raise TypeError(
            "a stream has no future: write gather(..., stream=True) >> pool, which returns at once, "
            "or gather(...) > pool for a future of all results"
        )


# Any group, when its types do not matter.
Group: TypeAlias = PendingFunctionGroup[*tuple[Any, ...]]


def is_call(value: object) -> TypeGuard[PendingFunction[Any]]:
    """Return whether the value is a call."""
    return isinstance(value, PendingFunction)


def is_group(value: object) -> TypeGuard[Group]:
    """Return whether the value is a group of calls."""
    return isinstance(value, PendingFunctionGroup)


# --- operands of & -----------------------------------------------------------------------------


def _operand_calls(operand: object) -> tuple[PendingFunction[Any], ...]:
    if is_call(operand):
        return (operand,)
    if not is_group(operand):
        refuse_operand(operand)
    return own_calls(operand)


def own_calls(group: Group) -> tuple[PendingFunction[Any], ...]:
    """Return a group's calls; refuse one with options, of which a larger group could only lose some."""
    if group.timeout is not None or group.stream or group.return_exceptions or group.progress:
        example = "(a() & b() & c()).with_timeout(5), or gather(a(), b(), c(), stream=True)"
        raise TypeError(f"{group!r} has options for the whole group and cannot grow; build the group first: {example}")
    return group.calls


# --- text --------------------------------------------------------------------------------------


def _written(call: PendingFunction[Any]) -> str:
    return f"{call.function.__name__}({abbreviate_arguments(call.args, call.kwargs)})"


def shown_timeout(timeout: float | None) -> object:
    """Return how a repr shows a time limit; None if nothing is said."""
    return "no limit" if timeout == 0 else timeout


def _shown(options: list[tuple[str, Any]]) -> str:
    return "".join(f" {name}={value!r}" for name, value in options if value is not None)
