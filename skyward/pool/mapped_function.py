"""The function of `pool.map`: what it may be, and how it is sent, as a call that applies it to the items of a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from skyward.calls import BoundFunction, Function
from skyward.errors import SerializationError
from skyward.pool.chunks import Items
from skyward.wire import payload
from skyward.work.parameters import yields

if TYPE_CHECKING:
    from skyward.config import Options
    from skyward.pool.chunks import Carried
    from skyward.work.pending import PendingFunction


def _marked(fn: Any) -> Function[..., Any] | None:
    """Return the marked function that a function, or a method of an object, is."""
    found: Any = cast("Any", fn).__func__ if isinstance(fn, BoundFunction) else fn
    return cast("Function[..., Any]", found) if isinstance(found, Function) else None


class MappedFunction:
    """A function over items, each of which is one argument, or with ``several`` a tuple of them."""

    def __init__(self, fn: Any, *, several: bool) -> None:
        """Raise `TypeError` if it is none that can be mapped."""
        if not callable(fn):
            raise TypeError(f"map takes a function, got {fn!r}")
        marked = _marked(fn)
        chunk = Items(fn, getattr(marked or fn, "__qualname__", type(fn).__name__), several=several)
        self.name = chunk.__qualname__
        if yields(fn if marked is None else marked.__wrapped__):
            raise TypeError(
                f"map takes a function that returns its values, and {self.name} yields them; mark it with "
                "@sky.function and call it: for value in f(item) >> pool, or sky.gather(*[f(i) for i in items]) >> pool"
            )
        if marked is not None and marked.inputs is not None:
            raise TypeError(
                f"map passes items as they are, and {self.name} takes an iterator, which is fed while it "
                "runs; call it: sky.gather(*[f(i) for i in items]) >> pool"
            )
        timeout, retries = (None, None) if marked is None else (marked.timeout, marked.retries)
        self._several = several
        self._original = fn if marked is None else cast("Any", fn).__wrapped__
        self._run = Function(chunk, timeout, retries)

    def stands_alone(self, options: Options) -> bool:
        """Return whether no two items may go together: each has a time limit or a process, or none may run twice."""
        timeout = options.timeout if self._run.timeout is None else self._run.timeout
        retries = options.retries if self._run.retries is None else self._run.retries
        return bool(timeout) or retries == 0 or not options.worker.reuse_processes

    def call(self, items: list[Any] | Carried) -> PendingFunction[Any]:
        """Return the call that applies it to items."""
        return self._run(items)

    def explained(self, items: list[Any], error: SerializationError) -> SerializationError:
        """Return the error with the path that the user knows: of his function's own arguments, with no chunk."""
        if error.path[:1] == (".fn",):
            return SerializationError(error.what, error.path[1:], error.reason)
        if len(items) == 1:  # else they are sent again one by one
            try:
                payload.dumps_call(items[0] if self._several else (items[0],), {}, function=self._original)
            except SerializationError as own:
                return own
        return error
