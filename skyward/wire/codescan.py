"""What a piece of code refers to by name: globals, and modules it imports when it runs."""

from __future__ import annotations

import dis
from functools import lru_cache
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_GLOBAL: Final = frozenset(("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"))
_CLASS_BODY: Final = frozenset(("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"))  # reads the body's own names first
_CONSTANT: Final = frozenset(("LOAD_CONST", "LOAD_SMALL_INT"))


class Import(Struct, frozen=True):
    """One import statement: ``from ..a.b import c`` has level 2, module ``a.b`` and names ``(c,)``."""

    level: int
    module: str
    names: tuple[str, ...] = ()

    def candidates(self, package: str) -> Iterator[str]:
        """Yield the full names of the modules this may load, when it stands in a module of ``package``."""
        base = self.module
        if self.level:
            if not package:
                return
            parent = package.rsplit(".", self.level - 1)[0] if self.level > 1 else package
            base = f"{parent}.{base}" if base else parent
        if base:
            yield base
            yield from (f"{base}.{name}" for name in self.names if name != "*")


class Scan(Struct, frozen=True):
    """Names that code refers to, nested functions and classes included."""

    globals: frozenset[str]
    imports: tuple[Import, ...]

    def imported(self, namespace: Mapping[str, Any]) -> Iterator[str]:
        """Yield the modules that may be imported when the code runs with these globals."""
        package = namespace.get("__package__") or ""
        for statement in self.imports:
            yield from statement.candidates(package)


@lru_cache(maxsize=4096)  # the code of a class is looked at again for each of its instances that travels
def scan(code: CodeType) -> Scan:
    """Return what a code object refers to."""
    names: set[str] = set()
    own: set[str] = set()
    imports: list[Import] = []
    constants: list[Any] = [0, ()]
    for instruction in dis.get_instructions(code):
        if instruction.opname in _CONSTANT:
            constants.append(instruction.argval)
        elif instruction.opname in _GLOBAL:
            names.add(instruction.argval)
        elif instruction.opname == "STORE_NAME":
            own.add(instruction.argval)
        elif instruction.opname in _CLASS_BODY and instruction.argval not in own:
            names.add(instruction.argval)
        elif instruction.opname == "IMPORT_NAME":  # stands behind the constants level and names
            level, wanted = constants[-2:]
            imports.append(Import(level, instruction.argval, wanted or ()))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = scan(constant)
            names |= inner.globals
            imports += inner.imports
    return Scan(frozenset(names), tuple(imports))
