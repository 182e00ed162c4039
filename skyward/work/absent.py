"""Names that other libraries have for what is called otherwise here: whoever uses one is told what to write.

Such a name is not there: `hasattr`, `dir` and type checkers do not see it, and an attribute of the object's own of that
name stands before it. Other attributes cost what they did; with a ``__getattr__`` Python looks up all of them slowly.
"""

from __future__ import annotations

from abc import ABCMeta
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable

_names: Final[set[str]] = set()


class Absent:
    """Put into a class under a name that it does not have. ``advice`` may name it as ``{name}``."""

    def __init__(self, advice: str, told: str = "{kind!r} object has no attribute {name!r}: ") -> None:
        self._text = told + advice
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        _names.add(name)

    def __get__(self, instance: object, owner: type) -> NoReturn:
        # Without the object, beside which Python would look for a name that is spelt like this one.
        raise AttributeError(self._text.format(kind=owner.__name__, name=self._name), name=self._name)


def _present(of: object, names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in _names or hasattr(of, name)]


class _Listing(ABCMeta):
    def __dir__(cls) -> list[str]:
        return _present(cls, super().__dir__())


class Hinting(metaclass=_Listing):
    """A class that may have such names."""

    __slots__ = ()

    def __dir__(self) -> list[str]:
        return _present(self, super().__dir__())
