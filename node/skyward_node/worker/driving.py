"""Running generators: what they yield goes to an `Emitter`, which says how far they may go.

Most streams are of small values that nothing can change once they are yielded. Those gather as they are, in a loop that
does nothing else, so that a million of them a second can be yielded; everything else is pickled as it comes, because a
generator may change it as soon as it goes on. The loop runs for a *stint*: one element at first, twice as many each
time if that took next to no time. It ends early, at the next element, for whatever is not small, and when somebody else
has *hurried* the emitter: because nobody wants the stream any more, because the generator has become slow, or because
this is a forked child.

Only the generator's own code can be interrupted. An interrupt between an element and the next counts as one before it.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from skyward_node.worker.interrupts import Interrupts
    from skyward_node.worker.yields import Emitter

SHORT: Final = 256  # characters, or bytes: longer ones are worth a pickle of their own
FEW: Final = 8  # elements of a tuple

_ATOMS: Final = frozenset((int, float, bool, type(None)))  # what is small, whatever its value
_END: Final = object()
_MORE: Final = object()


def drive(
    emitter: Emitter,
    generator: Generator[Any, Any, Any],
    task: int,
    interrupts: Interrupts,
    check_fork: Callable[[], object],
) -> None:
    """Run a generator to its end; only its own code can be interrupted."""
    values = chain(generator, (_END,))
    atoms, gather = _ATOMS, emitter.gather
    try:
        while True:
            try:
                interrupts.arm(task)
                for value in islice(values, emitter.stint()):
                    if (type(value) not in atoms and not _is_small(value)) or emitter.hurried:
                        break
                    gather(value)
                else:
                    value = _MORE
            finally:
                interrupts.armed = None
            check_fork()
            if value is _END:
                return
            if not (emitter.look() if value is _MORE else emitter.add(*emitter.pack(value))):
                del value  # while it waits the generator alone decides what it keeps
                emitter.wait()
    finally:
        generator.close()


async def drive_async(emitter: Emitter, generator: AsyncGenerator[Any, Any], interrupts: Interrupts) -> None:
    """Run an asynchronous generator to its end; what it does to end is not interrupted."""
    try:
        async for value in generator:
            if not emitter.add(*emitter.pack(value)):
                await emitter.wait_async()
    finally:
        interrupts.disarm()
        await _take_cancel()
        await generator.aclose()


async def _take_cancel() -> None:
    """Let a cancel strike here that was on its way already."""
    import asyncio

    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()


def _is_small(value: Any) -> bool:
    """Return whether nothing can change a value, which is no atom, and it is small."""
    return type(value) in _CHECKS and _CHECKS[type(value)](value)


def _is_short(value: Any) -> bool:
    return len(value) <= SHORT


def _is_simple(value: Any) -> bool:
    return len(value) <= FEW and all(map(_is_single, value))


def _is_single(value: Any) -> bool:
    return type(value) in _ATOMS or ((type(value) is str or type(value) is bytes) and len(value) <= SHORT)


_CHECKS: Final[dict[type[Any], Callable[[Any], bool]]] = {str: _is_short, bytes: _is_short, tuple: _is_simple}
