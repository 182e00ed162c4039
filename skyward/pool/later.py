"""Names that a module's functions use, and that are imported only when a pool opens, while its nodes start.

What a pool is made of takes longer to import than all else that is done before its first node starts. A module that is
needed before says what it will need, beside the same imports for type checkers; its functions find the names among
their globals, as they find any other. Only what cannot be called before a pool is open may be written so.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
