"""The archive: the code of all modules that a nursery imports, in one file.

To look for, find and read two hundred modules one by one is a quarter of what a nursery does before it forks, and pools
wait for that. So it keeps what it has imported as one more file of ``__pycache__``, which the next one reads in one go.
It is a cache of the same kind, and as safe: it counts only while every source is the file that it was made of, and
every name would be found where it was found then; else modules are imported as ever, and it is made anew. Modules that
come from it know their files, as all others do. No typing and nothing else that takes time is imported here.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader, all_suffixes
from importlib.util import MAGIC_NUMBER, cache_from_source, spec_from_file_location

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from types import CodeType, ModuleType

    Entry = tuple[str, bool, CodeType]  # source, whether it is a package, and what is in it

_LENGTH = 8  # bytes that say how many those are that tell whether the rest is good


class Archive:
    """Finds modules in the archive that lies beside the cache of ``module``, from `open` to `close`."""

    def __init__(self, module: str) -> None:
        self._path = os.path.splitext(cache_from_source(module))[0] + ".archive"
        self._before: frozenset[str] = frozenset()
        self._modules: dict[str, Entry] = {}  # that have not been imported
        self._is_good = False
        self._imported: list[str] = []  # while it was open
        self._homes: dict[str, list[str]] = {}

    def open(self) -> None:
        """Read it, and have modules found in it if it is good."""
        self._before = frozenset(sys.modules)
        self._modules = _read(self._path, self._before)
        self._is_good = bool(self._modules)
        if self._is_good:
            finders = sys.meta_path
            finders.insert(finders.index(PathFinder) if PathFinder in finders else len(finders), self)

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module, for the import system."""
        if name not in self._modules:
            return None
        source, is_package, code = self._modules.pop(name)
        places = [os.path.dirname(source)] if is_package else None
        return spec_from_file_location(
            name, source, loader=_Loader(name, source, code), submodule_search_locations=places
        )

    def close(self) -> None:
        """Have modules found by others from now on."""
        self._imported = [name for name in sys.modules if name not in self._before]
        if self._is_good:
            sys.meta_path.remove(self)
        else:
            self._homes = _homes({name.partition(".")[0] for name in self._imported}, self._before)

    def save(self) -> None:
        """Make it anew of what was imported while it was open, unless it is good, or nothing is to be kept."""
        if self._is_good or sys.dont_write_bytecode:
            return
        stamps: dict[str, list[int]] = {}
        modules: dict[str, Entry] = {}
        for name in self._imported:
            top = name.partition(".")[0]
            # What another finder than that of paths has found, we could not tell from another module of the name.
            if top in self._homes and (top in self._before or _home(top) == self._homes[top][0]):
                _add(name, stamps, modules)
        head = marshal.dumps((MAGIC_NUMBER, self._homes, stamps))
        _write(self._path, len(head).to_bytes(_LENGTH, "little") + head + marshal.dumps(modules))


class _Loader(SourceFileLoader):
    """Loads a module as ever, but for its code."""

    def __init__(self, name: str, source: str, code: CodeType) -> None:
        super().__init__(name, source)
        self._code: CodeType | None = code

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code; who asks again gets what the source says then."""
        code, self._code = self._code, None
        return super().get_code(fullname) if code is None else code


def _read(path: str, loaded: Collection[str]) -> dict[str, Entry]:
    """Return the modules of an archive by their names; none unless all is as it was when the archive was made."""
    try:
        with open(path, "rb") as file:
            data = file.read()  # at once: marshal would read every number by itself
        begin = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
        magic, homes, stamps = marshal.loads(data[_LENGTH:begin])  # noqa: S302 - as good as the caches beside it
        if magic != MAGIC_NUMBER or homes != _homes(homes, loaded):
            return {}
        if any(_stamp(source) != stamp for source, stamp in stamps.items()):
            return {}
        modules: dict[str, Entry] = marshal.loads(memoryview(data)[begin:])  # noqa: S302 - the same
        return modules
    except (OSError, ValueError, TypeError, EOFError):  # there is none, it is no archive, or a source is gone
        return {}


def _write(path: str, data: bytes) -> None:
    """Replace a file; where that cannot be, leave it as it is."""
    new = f"{path}.{os.getpid()}"
    try:
        with open(new, "xb") as file:
            file.write(data)
        os.replace(new, path)
    except OSError:
        try:
            os.unlink(new)
        except OSError:
            pass


def _add(name: str, stamps: dict[str, list[int]], modules: dict[str, Entry]) -> None:
    """Add a module, and what its source is now; but for one that comes from no source, or from one that has gone."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is None or type(spec.loader) is not SourceFileLoader:
        return
    source = spec.loader.path
    try:
        stamp = _stamp(source)  # before the file is read: if it changes meanwhile, the archive does not count
        code = spec.loader.get_code(name)
    except (OSError, SyntaxError):
        return
    if code is not None:
        stamps[source] = stamp
        modules[name] = source, spec.submodule_search_locations is not None, code


def _stamp(source: str) -> list[int]:
    about = os.stat(source)
    return [about.st_mtime_ns, about.st_size, about.st_ino]


def _home(name: str) -> str:
    """Return the directory that a module without parents is in; "" if it is in none."""
    module = sys.modules[name]
    place = os.path.dirname(getattr(module, "__file__", None) or "")
    return os.path.dirname(place) if hasattr(module, "__path__") else place


def _homes(names: Collection[str], loaded: Collection[str]) -> dict[str, list[str]]:
    """Return by the names of modules without parents where each is found, and what is there that bears the name.

    Packages are where they have been ``loaded`` from.
    """
    found = {name: [os.path.dirname(sys.modules[name].__path__[0])] for name in names if name in loaded}
    endings = frozenset(all_suffixes())
    for place in sys.path:
        if len(found) == len(names):
            break
        try:
            entries = os.listdir(place)
        except OSError:
            continue
        here: dict[str, list[str]] = {}
        for entry in sorted(entries):
            name, dot, rest = entry.partition(".")
            if name not in names or name in found:
                continue
            if dot + rest in endings or (not dot and os.path.exists(f"{place}/{entry}/__init__.py")):
                here.setdefault(name, [place]).append(entry)
        found |= here
    return found
