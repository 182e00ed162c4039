"""What functions sent by value have captured, to notice when a name is bound anew.

A pickled function holds the values its names had at that moment. Names are compared by identity at
every dispatch, so a rebound global, cell or default makes new code; what happens inside a captured
object is not seen. References are strong: an identity means nothing once its object is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from skyward.wire.codescan import scan

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CellType, CodeType, FunctionType

_ABSENT: Final = object()


class Captures:
    """The bindings that some functions depend on."""

    __slots__ = ("_cells", "_functions", "_names")

    def __init__(self, functions: Iterable[FunctionType]) -> None:
        names: dict[tuple[int, str], tuple[dict[str, Any], str, Any]] = {}
        cells: dict[int, tuple[CellType, Any]] = {}
        self._functions: list[tuple[FunctionType, CodeType, Any, Any]] = []
        for function in functions:
            namespace = function.__globals__
            for name in scan(function.__code__).globals:
                names[id(namespace), name] = namespace, name, namespace.get(name, _ABSENT)
            for cell in function.__closure__ or ():
                cells[id(cell)] = cell, _content(cell)
            kept = (function, function.__code__, function.__defaults__, function.__kwdefaults__)
            self._functions.append(kept)
        self._names = list(names.values())
        self._cells = list(cells.values())

    def are_current(self) -> bool:
        """Return whether everything is bound as it was."""
        for namespace, name, value in self._names:
            if namespace.get(name, _ABSENT) is not value:
                return False
        for function, code, defaults, kwdefaults in self._functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not kwdefaults
            ):
                return False
        return not self._cells or all(_content(cell) is value for cell, value in self._cells)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return _ABSENT
