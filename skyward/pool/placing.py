"""Where large buffers of arguments go, for calls that are serialized in one go, or in batches while their caller waits.

An array that is an argument of many calls of a group is copied once: nothing of the caller's can have changed it in
between, as long as no code of the user's has run here. So what is known is forgotten with the first argument that may
bring its own way to be pickled; whoever copies compares then, if that is cheaper than to copy again
(`skyward.machine.copies`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from skyward.wire.frames import Payload, Repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from skyward.dispatch.tasks import Task
    from skyward.wire.frames import Buffer

WORTH: Final = 128 * 1024  # bytes of a buffer from which it costs more to place it than to look whether it has been
_BYTES: Final = frozenset((bytes, bytearray))
_INERT: Final = frozenset((int, float, str, bool, type(None), complex)) | _BYTES


class Placing:
    """Buffers of arguments that have been placed, by the memory of these arguments.

    It stays theirs at least as long as this is used: the calls have them. From one batch to the next it knows only what
    several calls have: the rest is free when its task has ended.
    """

    __slots__ = ("_again", "_known", "_place", "_snapshot")

    def __init__(self, place: Callable[..., Payload], *, snapshot: bool) -> None:
        """``snapshot``: the caller goes on, and may change what the calls have."""
        self._place = place  # takes a payload, and ``snapshot`` as a keyword
        self._snapshot = snapshot
        self._known: dict[tuple[int, int, bool], Buffer] = {}
        self._again: dict[tuple[int, int, bool], Buffer] = {}  # those of several calls

    def place(
        self, packed: Payload, args: Sequence[Any], kwargs: Mapping[str, Any], *, snapshot: bool = False
    ) -> Payload:
        """Return the payload of a call with these arguments as it waits to be sent; each is placed once.

        With ``snapshot`` they last, whatever those of the others do.
        """
        buffers, known, snapshot = packed.buffers, self._known, snapshot or self._snapshot
        if not buffers and not known:
            return packed
        values = (*args, *kwargs.values())
        if not _are_inert(values):
            known.clear()
            self._again.clear()
            return self._place(packed, snapshot=snapshot) if buffers else packed
        if max(map(len, buffers), default=0) < WORTH:
            return self._place(packed, snapshot=snapshot) if buffers else packed
        from skyward.machine.comparing import locate  # brings ctypes, 4 ms: most pools never need it

        keys = [(*locate(buffer), snapshot) for buffer in buffers]
        new = [buffer for buffer, key in zip(buffers, keys, strict=True) if key not in known]
        self._again.update((key, known[key]) for key in keys if key in known)
        made = self._place(Payload(packed.data, tuple(new)), snapshot=snapshot).buffers if new else ()
        rest = iter(made)
        placed = [known[key] if key in known else _watchable(next(rest)) for key in keys]
        lasting = {(*_memory_of(value), snapshot) for value in values}
        known.update((key, buffer) for key, buffer in zip(keys, placed, strict=True) if key in lasting)
        return Payload(packed.data, Repeated(placed) if type(made) is Repeated else tuple(placed))

    def end_batch(self, tasks: Iterable[Task]) -> None:
        """Mark those of the tasks that share a buffer, for connections that keep it; forget what only one has."""
        if self._known:
            shared = set(map(id, self._again.values()))
            for task in tasks if shared else ():
                if not shared.isdisjoint(map(id, task.buffers)):
                    task.buffers = Repeated(task.buffers)
            self._known = dict(self._again)


def _watchable(buffer: Buffer) -> Buffer:
    """Return a buffer whose end can be told, which that of bytes cannot: a connection remembers what it has sent."""
    return memoryview(buffer) if type(buffer) is bytes else buffer


def _are_inert(values: Iterable[Any]) -> bool:
    """Return whether pickling these values runs nothing but Python's own code and NumPy's."""
    for value in values:
        kind = cast("type[object]", type(value))
        if kind in _INERT:
            continue
        dtype = getattr(value, "dtype", None) if kind.__module__ == "numpy" else None  # arrays and numbers have one
        if dtype is None or dtype.hasobject:
            return False
    return True


def _memory_of(value: Any) -> tuple[int, int]:
    """Return the address and the length of the memory that an argument is or has, if it is without gaps."""
    if type(value) in _BYTES:
        from skyward.machine.comparing import locate

        return locate(value)
    memory = getattr(value, "ctypes", None)  # an array's
    return (0, 0) if memory is None else (memory.data, value.nbytes)
