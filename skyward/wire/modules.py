"""Which modules are the user's own, and what their sources are at this moment.

The user's modules are those outside the standard library and installed packages; skyward is none of
them. They travel as source. Which ones a function needs is read from the sources themselves, import
statement by import statement, and nothing is executed to find out: a module is looked up among the
imported ones first, then by the finders of ``sys.meta_path``.

A file that has changed is new code, so every use asks the file system for the stamps of all files
concerned, a microsecond each. A file that was read within a moment of its last change may have changed
again without its stamp showing it; such a file is read again until it is old enough.
"""

from __future__ import annotations

import ast
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from skyward.wire.codescan import Import
from skyward.wire.sources import Source, pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec

_OURS: Final = frozenset(("skyward", "skyward_node", "skyward_scripts", "__main__", "__mp_main__"))
_INSTALLED: Final = frozenset(("site-packages", "dist-packages"))
_STDLIB: Final = os.path.dirname(os.__file__) + os.sep
_FRESH: Final = 50_000_000  # ns; stamps tick every 4 ms on Linux, every 10 on some file systems


# --- files ---------------------------------------------------------------------------------

Stamp = tuple[int, int, int]  # mtime in ns, size, inode


class _File(NamedTuple):
    stamp: Stamp
    read_at: int  # wall clock in ns, as file times are
    code: bytes
    imports: tuple[Import, ...]

    def is_settled(self) -> bool:
        return abs(self.read_at - self.stamp[0]) > _FRESH


_files: Final[dict[str, _File]] = {}


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: str) -> _File | None:
    stamp = _stamp(path)
    if stamp is None:
        return None
    known = _files.get(path)
    if known is not None and known.stamp == stamp and known.is_settled():
        return known
    read_at = time.time_ns()
    try:
        with open(path, "rb") as file:
            code = file.read()
    except OSError:
        return None
    imports = known.imports if known is not None and known.code == code else imports_of(code)
    read = _files[path] = _File(stamp, read_at, code, imports)
    return read


def imports_of(code: bytes) -> tuple[Import, ...]:
    """Return the import statements of a source, also those in functions; none if it has syntax errors."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the user's code, which Python has told or will tell
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()  # whoever imports it will be told
    return tuple(dict.fromkeys(_import_statements(tree)))


def _import_statements(tree: ast.Module) -> Iterator[Import]:
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (Import(0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.level, node.module or "", tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            todo += node.orelse
        else:
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                inner = getattr(node, field, ())
                if isinstance(inner, list):  # of an expression it is no list
                    todo += inner


def _is_type_checking(test: ast.expr) -> bool:
    return getattr(test, "attr", getattr(test, "id", "")) == "TYPE_CHECKING"


# --- where modules are ---------------------------------------------------------------------


class _Place(NamedTuple):
    name: str
    kind: str
    path: str
    locations: tuple[str, ...]  # where submodules are looked for
    source: Source | None = None  # of a module that came over the wire itself


_users: Final[dict[str, bool]] = {}  # by name of an imported module


def users(names: Iterable[str]) -> frozenset[str]:
    """Return those of the names that are the user's own modules."""
    return frozenset(name for name in names if _is_users(name))


def _is_users(name: str) -> bool:
    known = _users.get(name)
    if known is None:
        known = name.partition(".")[0] not in _OURS and locate(name) is not None
        if name in sys.modules:
            _users[name] = known
    return known


def locate(name: str) -> _Place | None:
    """Find one of the user's modules without importing anything; None for any other."""
    if name.partition(".")[0] in _OURS:
        return None
    module: Any = sys.modules.get(name)
    if module is not None:
        spec = getattr(module, "__spec__", None)
        file, locations = getattr(module, "__file__", None), getattr(module, "__path__", None)
        loader = getattr(spec, "loader", None)
    else:
        spec = _find_spec(name)
        if spec is None:
            return None
        file = spec.origin if spec.has_location else None
        locations, loader = spec.submodule_search_locations, spec.loader
    shipped = getattr(loader, "shipped_source", None)
    places = tuple(map(str, locations)) if locations is not None else ()
    if isinstance(shipped, Source):
        return _Place(name, shipped.kind, shipped.path, places, shipped)
    if isinstance(file, str) and file.endswith(".py"):
        kind = "module" if locations is None else "package"
        path = os.path.abspath(file)
    elif file is None and places:
        kind, path = "namespace", places[0]
    else:
        return None
    return None if _is_installed(name, path, kind) else _Place(name, kind, path, places)


def _find_spec(name: str) -> ModuleSpec | None:
    parent = name.rpartition(".")[0]
    path: Sequence[str] | None = None
    if parent:
        place = locate(parent)
        if place is None or not place.locations:
            return None
        path = place.locations
    for finder in tuple(sys.meta_path):
        try:
            spec = finder.find_spec(name, path, None)
        except Exception:  # noqa: S112  # a foreign finder; what it cannot tell, another may
            continue
        if spec is not None:
            return spec
    return None


def _is_installed(name: str, path: str, kind: str) -> bool:
    if path.startswith(_STDLIB) or not _INSTALLED.isdisjoint(path.split(os.sep)):
        return True
    root = path
    for _ in range(name.count(".") + 1 + (kind == "package")):
        root = os.path.dirname(root)
    return _holds_packages(root)


_roots: Final[dict[str, bool]] = {}


def _holds_packages(directory: str) -> bool:
    """Return whether packages have been installed into a directory: ``pip install --target`` and the like."""
    known = _roots.get(directory)
    if known is None:
        try:
            known = any(entry.endswith(".dist-info") for entry in os.listdir(directory))
        except OSError:
            known = False
        _roots[directory] = known
    return known


# --- everything a function needs -----------------------------------------------------------


class Closure:
    """Some modules of the user's and all of his that they import, as their files are now."""

    def __init__(self, roots: Iterable[str]) -> None:
        self._places: dict[str, _Place | None] = {}
        self._files: dict[str, _File] = {}  # by path
        self._sources: dict[str, Source] = {}
        self._gone = False
        todo = list(roots)
        while todo:
            name = todo.pop()
            if name not in self._sources and (source := self._source(name)) is not None:
                self._sources[name] = source
                todo += source.needs
        self.modules = tuple(pack(self._sources[name]) for name in sorted(self._sources))
        self._stamps = tuple((path, file.stamp) for path, file in self._files.items())
        self._unsettled = tuple(path for path, file in self._files.items() if not file.is_settled())

    def is_current(self) -> bool:
        """Return whether all files are as they were."""
        stat = os.stat
        try:
            for path, stamp in self._stamps:
                status = stat(path)
                if (status.st_mtime_ns, status.st_size, status.st_ino) != stamp:
                    return False
        except OSError:
            return False
        return not self._gone and (not self._unsettled or self._settle())

    def _settle(self) -> bool:
        """Read again what may have changed unseen."""
        for path in self._unsettled:
            file = _read(path)
            if file is None or file.code != self._files[path].code:
                return False
            self._files[path] = file
        self._unsettled = tuple(path for path in self._unsettled if not self._files[path].is_settled())
        return True

    def _source(self, name: str) -> Source | None:
        place = self._locate(name)
        if place is None:
            return None
        if place.source is not None:
            return place.source
        if place.kind == "namespace":
            return Source(name, place.path, place.kind, self._parents(name), b"")
        file = _read(place.path)
        if file is None:  # perhaps just being saved: ask again next time
            self._gone = True
            return None
        self._files[place.path] = file
        package = name if place.kind == "package" else name.rpartition(".")[0]
        needs = {need for statement in file.imports for need in self._needs(statement, package)}
        needs.update(self._parents(name))
        needs.discard(name)
        return Source(name, place.path, place.kind, tuple(sorted(needs)), file.code)

    def _needs(self, statement: Import, package: str) -> Iterator[str]:
        for candidate in statement.candidates(package):
            if self._locate(candidate) is not None:
                yield candidate
                yield from self._parents(candidate)

    def _parents(self, name: str) -> tuple[str, ...]:
        parents: list[str] = []
        while "." in name:
            name = name.rpartition(".")[0]
            if self._locate(name) is not None:
                parents.append(name)
        return tuple(parents)

    def _locate(self, name: str) -> _Place | None:
        """Like `locate`, but nothing below what is not the user's is looked for."""
        if name not in self._places:
            parent = name.rpartition(".")[0]
            lost = parent and self._locate(parent) is None and name not in sys.modules
            self._places[name] = None if lost else locate(name)
        return self._places[name]
