"""Names that a module's functions use, and that are imported only when a pool opens, while its nodes start.

What a pool is made of takes longer to import than all else that is done before its first node starts. A module that is
needed before says what it will need, beside the same imports for type checkers; its functions find the names among
their globals, as they find any other. Only what cannot be called before a pool is open may be written so.

The garbage collector rests while much is imported: it would look again and again at what is no garbage.
"""

from __future__ import annotations

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    Names = Mapping[str, Sequence[str]]

_waiting: Final[dict[int, tuple[dict[str, Any], Names]]] = {}


def later(place: dict[str, Any], names: Names) -> None:
    """Note that these names, by module, shall be among the globals ``place`` when `arrive` has been called."""
    _waiting[id(place)] = place, names


def arrive(*modules: str) -> None:
    """Import all that has been noted, and these. Any thread may call it, and again: it costs nothing then."""
    for module in modules:
        import_module(module)
    while _waiting:
        for key, (place, names) in list(_waiting.items()):
            for module, wanted in names.items():
                found = __import__(module, fromlist=tuple(wanted))  # as `from … import …`: they may be modules, too
                place.update({name: getattr(found, name) for name in wanted})
            _waiting.pop(key, None)  # only now: another thread that finds nothing here has all it needs


class CollectorRests:
    """A block in which nobody looks for garbage, unless somebody else turns the collector on."""

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()
        gc.disable()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._was_on:
            return
        if not gc.get_freeze_count():  # else somebody's objects would thaw
            gc.freeze()
            gc.unfreeze()  # all there is counts as old now: without this, the next object that is made has it looked at
        gc.enable()
