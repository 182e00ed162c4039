"""Who sees what tasks print: which nodes' output is kept, decided on the node, and who takes it on the client.

The decorators leave their wish on a copy of the function, which takes it along wherever it travels. `redirect_output`
stands on the client; `mesh.console` asks for it line by line.
"""

from __future__ import annotations

import functools
import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypeVar, cast

from skyward.calls import BoundFunction, Function
from skyward.task.wishes import STDOUT, WISH, Wish
from skyward.work.abbreviation import abbreviate, abbreviate_arguments

if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Logger
    from types import TracebackType
    from typing import Self

    from skyward.task.wishes import Only

    Taker: TypeAlias = "Callable[[OutputLine], object] | Logger"

F = TypeVar("F", bound="Callable[..., Any]")


class _Decorator(Protocol):
    """What ``sky.stdout(...)`` returns; what it decorates keeps its type."""

    def __call__(self, fn: F, /) -> F: ...


def _told(decorator: F) -> F:
    """Have whoever gives a decorator other arguments than it takes told what to write."""
    name = decorator.__name__
    usage = f"@sky.{name}" if name == "silent" else f"@sky.{name}(only='head'), or only= with a function"

    @functools.wraps(decorator)
    def told(*args: Any, **kwargs: Any) -> Any:
        fits = len(args) == 1 and not kwargs if name == "silent" else not args and kwargs.keys() == {"only"}
        if not fits:
            given = abbreviate_arguments(args, kwargs) or "nothing"
            raise TypeError(f"write {usage}; sky.{name}() was given {given}")
        return decorator(*args, **kwargs)

    return cast("F", told)


@_told
def stdout(*, only: Only) -> _Decorator:
    """Show what a function prints to stdout on some nodes alone: ``only="head"``, or where ``only(info)`` is true.

    The predicate runs on the node, before each task, and gets its `InstanceInfo`. Above or below ``@sky.function``.
    """
    _check(only)

    def decorate(fn: F, /) -> F:
        return _wishing(fn, stdout=only)

    return decorate


@_told
def stderr(*, only: Only) -> _Decorator:
    """Show what a function prints to stderr on some nodes alone; see `stdout`."""
    _check(only)

    def decorate(fn: F, /) -> F:
        return _wishing(fn, stderr=only)

    return decorate


@_told
def silent(fn: F, /) -> F:
    """Show nothing of what a function prints; above or below ``@sky.function``."""
    return _wishing(fn, stdout=False, stderr=False)


def _check(only: object) -> None:
    if only != "head" and not callable(only):
        raise TypeError(f"only= must be 'head' or a function of the InstanceInfo, got {abbreviate(only)}")


def _wishing(fn: F, **changes: Only | bool) -> F:
    """Return a copy of the function with the wish."""
    marked: Any = fn
    if isinstance(marked, BoundFunction):
        method = cast("BoundFunction[..., Any]", marked)
        return cast("F", BoundFunction(_wishing(method.__func__, **changes), method.__self__))
    if isinstance(marked, Function):
        original: Any = cast("Function[..., Any]", marked)
        return cast("F", Function(_wishing(original.__wrapped__, **changes), original.timeout, original.retries))
    if not isinstance(marked, FunctionType):
        raise TypeError(f"output is controlled for functions, got {abbreviate(marked)} ({type(marked).__name__})")
    copy = FunctionType(marked.__code__, marked.__globals__, marked.__name__, marked.__defaults__, marked.__closure__)
    for name in ("__annotations__", "__doc__", "__kwdefaults__", "__module__", "__qualname__", "__type_params__"):
        if hasattr(marked, name):
            setattr(copy, name, getattr(marked, name))
    vars(copy).update(vars(marked))
    setattr(copy, WISH, getattr(marked, WISH, Wish()).but(**changes))
    return cast("F", copy)


# --- on the client ---------------------------------------------------------------------------


class OutputLine(str):
    """A line that a task has printed, without its end, and where it comes from."""

    __slots__ = ("node", "stream", "task")

    node: int  # rank
    stream: Literal["stdout", "stderr"]
    task: int  # 0: the node cannot tell which


class Redirection:
    """A taker of lines, from `redirect_output` to `close` or the end of ``with``."""

    __slots__ = ("has_failed", "take")

    def __init__(self, taker: Taker) -> None:
        self.take: Callable[[OutputLine], object] = _logging(taker)
        self.has_failed = False  # and somebody was told

    def close(self) -> None:
        """Take no more; what has come before is handed over first."""
        if self in _redirections:
            _redirections.remove(self)
        console = sys.modules.get("skyward.mesh.console")
        if console is not None:  # else there has been no pool
            console.wait_for_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# The last one takes. Changed by atomic operations alone: a lock could be held at a fork.
_redirections: Final[list[Redirection]] = []


def redirect_output(taker: Taker, /) -> Redirection:
    """Hand each line that tasks print to a callback or a logger instead of showing it, also with ``console=False``.

    A callback gets an `OutputLine`, which is a str with ``node``, ``stream`` and ``task``; it runs in a thread of its
    own. A logger gets stdout as INFO and stderr as WARNING. Ends with ``with``, or by ``close()`` of what is returned.
    """
    if not callable(taker) and not _is_logger(taker):
        raise TypeError(f"a callback or a logger takes output, got {abbreviate(taker)}")
    redirection = Redirection(taker)
    _redirections.append(redirection)
    return redirection


def taker() -> Redirection | None:
    """Return who takes lines that come now."""
    redirections = _redirections
    try:
        return redirections[-1]
    except IndexError:
        return None


def line_of(text: str, node: int, stream: int, task: int) -> OutputLine:
    """Return a line for a callback."""
    line = OutputLine(text)
    line.node, line.task = node, task
    line.stream = "stdout" if stream == STDOUT else "stderr"
    return line


def _is_logger(taker: object) -> bool:
    logging = sys.modules.get("logging")  # whoever has a logger has imported it
    return logging is not None and isinstance(taker, logging.Logger | logging.LoggerAdapter)


def _logging(taker: Taker) -> Callable[[OutputLine], object]:
    if not _is_logger(taker):
        return cast("Callable[[OutputLine], object]", taker)
    import logging

    logger = cast("Logger", taker)

    def log(line: OutputLine) -> None:
        level = logging.INFO if line.stream == "stdout" else logging.WARNING
        logger.log(level, "[node %d] %s", line.node, line, extra={"node": line.node, "task": line.task})

    return log
