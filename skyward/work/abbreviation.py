"""Short forms of any value, for the log line that someone reads at night.

Never raises, never longer than a line, and never walks a large value: an array is shown by its
shape, a container by its first few items.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTH: Final = 60  # characters of one value: five arguments still fit on two lines


class _Abbreviation(reprlib.Repr):
    """`reprlib`, taught about buffers and arrays."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxarray = 4
        self.maxdict = 3
        self.maxstring = self.maxother = 40

    def repr_bytes(self, value: bytes | bytearray, _level: int) -> str:
        """Show the first bytes and the length."""
        return repr(value) if len(value) <= self.maxstring // 2 else f"<{len(value)} {type(value).__name__}>"

    repr_bytearray = repr_bytes

    def repr_instance(self, x: Any, level: int) -> str:
        """Show an array or a frame by its shape, anything else by a piece of its own repr."""
        try:
            shape = getattr(x, "shape", None)
            if isinstance(shape, tuple) and not isinstance(x, type):
                dtype = getattr(x, "dtype", None)
                return f"<{type(x).__name__} {shape}{'' if dtype is None else f' {dtype}'}>"
        except Exception:  # a property of the user's that raises says nothing worth raising here
            return object.__repr__(x)
        return super().repr_instance(x, level)


_abbreviation: Final = _Abbreviation()


def abbreviate(value: object) -> str:
    """Return a value's repr, cut to `WIDTH` characters, on one line."""
    try:
        text = _abbreviation.repr(value)
    except Exception:  # whatever it is, a log line must come out
        text = object.__repr__(value)
    text = text.replace("\n", " ")
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def abbreviate_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return the arguments as one would write them in a call, each abbreviated, six at most."""
    parts = [abbreviate(arg) for arg in args[:7]]
    parts += [f"{name}={abbreviate(value)}" for name, value in list(kwargs.items())[:7]]
    return ", ".join(parts if len(args) + len(kwargs) <= 6 else [*parts[:6], "…"])
