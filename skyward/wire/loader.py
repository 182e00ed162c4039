"""Functions on a worker: from what came over the wire to something that can be called.

Modules of the user's are imported under their own names by a finder that stands in front of all others,
so the version that was sent wins over any file. Functions of different versions may be in flight at the
same time. A `_World` is a set of module versions that fit together, with the modules imported from
them; exactly one is in ``sys.modules`` at a time, and loading a function puts its world there. When no
world fits, a new one is made: it shares the modules of the current one, except those that changed and
those that import these. What a running function holds is never touched.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import linecache
import pickle
import sys
import threading
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import decode_source
from typing import TYPE_CHECKING, Any, Final, cast

from skyward.errors import ProtocolError
from skyward.wire.lookup import attribute, unmarked
from skyward.wire.sources import Source, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from importlib.readers import FileReader
    from types import CodeType, ModuleType

    from skyward.wire.frames import Buffer

GARBAGE: Final = 32 * 2**20  # bytes of forgotten code, which may be in cycles, before a collection is worth its time
_WORLDS: Final = 8  # sets of versions kept for functions of earlier ones, which are in flight only briefly


class FunctionLoader:
    """The functions and modules a worker has been sent. Thread-safe."""

    def __init__(self) -> None:
        self._modules: dict[bytes, Source] = {}
        self._functions: dict[bytes, _Loaded] = {}
        self._finder = _Finder()
        self._current = _World()
        self._worlds = [self._current]  # the newest last
        self._lock = threading.RLock()
        self._garbage = 0  # bytes forgotten since the last collection

    def add_module(self, key: bytes, body: Buffer) -> None:
        """Take in a module's source. Raises `ProtocolError` if it is none."""
        try:
            self._modules[key] = unpack(bytes(body))
        except (ValueError, TypeError) as error:
            raise ProtocolError(f"malformed module source: {error}") from error

    def add_function(self, key: bytes, name: str, modules: Sequence[bytes], body: Buffer) -> None:
        """Take in a function; its modules must have come before."""
        self._functions[key] = _Loaded(name, tuple(modules), bytes(body))

    def load(self, key: bytes) -> Callable[..., Any]:
        """Return the function, and make its versions of modules the ones that are imported from now on.

        Raises `ProtocolError` for one that never came, `ImportError` for a module that is missing here,
        and whatever the modules raise when they are imported.
        """
        loaded = self._functions.get(key)
        if loaded is None:
            raise ProtocolError(f"function {key.hex()} was never sent")
        function = loaded.function
        if function is None or loaded.world is not self._current:
            with self._lock:
                self._enter(self._world_of(loaded))
                function = loaded.function
                if function is None or loaded.world is not self._current:
                    function = loaded.function = _function(loaded.body)
                    loaded.world = self._current
        return function

    def forget(self, functions: Iterable[bytes], modules: Iterable[bytes]) -> None:
        """Let go of functions and modules, which are sent again before they are needed again."""
        for key in functions:
            if (loaded := self._functions.pop(key, None)) is not None:
                self._garbage += len(loaded.body)
        for key in modules:
            self._modules.pop(key, None)
        if self._garbage > GARBAGE:  # the collector counts objects, and these are few
            self._garbage = 0
            gc.collect()

    def _world_of(self, loaded: _Loaded) -> _World:
        if loaded.world in self._worlds:
            return loaded.world
        try:
            sources = {key: self._modules[key] for key in loaded.modules}
        except KeyError as error:
            raise ProtocolError(f"a module of function {loaded.name} was never sent") from error
        keys = {source.name: key for key, source in sources.items()}
        for world in (self._current, *reversed(self._worlds)):
            if world.fits(keys):
                break
        else:
            world = self._current.without({name for name, key in keys.items() if self._current.differs(name, key)})
            self._worlds = [*self._worlds[1 - _WORLDS :], world]
            self._abandon()
        world.add(sources)
        return world

    def _abandon(self) -> None:
        """Let go of what belongs to worlds that are not kept."""
        for loaded in list(self._functions.values()):
            if loaded.world not in self._worlds:
                loaded.function, loaded.world = None, _NOWHERE

    def _enter(self, world: _World) -> None:
        if world is not self._current:
            self._current.leave()
            world.enter()
            self._current = world
        self._finder.sources = world.sources
        self._finder.stand_first(world)


class _Loaded:
    """A function and, once it has been loaded, the world it lives in."""

    __slots__ = ("body", "function", "modules", "name", "world")

    def __init__(self, name: str, modules: tuple[bytes, ...], body: bytes) -> None:
        self.name = name
        self.modules = modules
        self.body = body
        self.function: Callable[..., Any] | None = None
        self.world: _World = _NOWHERE


def _function(body: bytes) -> Callable[..., Any]:
    if body[:1] == b"r":
        module, name = json.loads(body[1:])
        return unmarked(attribute(importlib.import_module(module), name))
    file = io.BytesIO(memoryview(body)[1:])
    function: Callable[..., Any] = pickle.load(file)  # noqa: S301  # this process exists to run the client's code
    _remember_lines(pickle.load(file))  # noqa: S301  # the same
    return function


def _remember_lines(files: dict[str, dict[int, list[str]]]) -> None:
    """Let tracebacks show the lines of functions that were sent without their files."""
    for path, pieces in files.items():
        known = linecache.cache.get(path)
        lines = list(known[2]) if known is not None and len(known) == 4 and known[1] is None else []
        for first, piece in pieces.items():
            lines += [""] * (first - 1 + len(piece) - len(lines))
            lines[first - 1 : first - 1 + len(piece)] = piece
        _show(path, lines)


def _show(path: str, lines: list[str]) -> None:
    # Without a time of change, linecache never compares the lines with a file that may exist here.
    linecache.cache[path] = sum(map(len, lines)), None, lines, path


# --- versions ------------------------------------------------------------------------------


class _World:
    """Versions of modules that fit together, at most one of each name."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self._keys: dict[str, bytes] = {}
        self._away: dict[str, ModuleType] = {}  # imported ones, while another world is in sys.modules

    def fits(self, keys: dict[str, bytes]) -> bool:
        """Return whether these versions can be added."""
        return not any(self.differs(name, key) for name, key in keys.items())

    def differs(self, name: str, key: bytes) -> bool:
        """Return whether another version of this module is here."""
        return self._keys.get(name, key) != key

    def add(self, sources: dict[bytes, Source]) -> None:
        """Add versions that fit."""
        for key, source in sources.items():
            self._keys[source.name] = key
            self.sources[source.name] = source

    def without(self, changed: set[str]) -> _World:
        """Return a world without these modules; those that import them are there, to be imported anew."""
        stale = self._dependents(changed)
        other = _World()
        other.sources = {name: source for name, source in self.sources.items() if name not in changed}
        other._keys = {name: key for name, key in self._keys.items() if name not in changed}
        other._away = {name: module for name, module in self._imported().items() if name not in stale}
        return other

    def _dependents(self, changed: set[str]) -> set[str]:
        stale = set(changed)
        grown = True
        while grown:
            more = {name for name, source in self.sources.items() if not stale.isdisjoint(source.needs)} - stale
            stale |= more
            grown = bool(more)
        return stale

    def _imported(self) -> dict[str, ModuleType]:
        found = ((name, sys.modules.get(name)) for name in self.sources)
        return {name: module for name, module in found if module is not None and _is_shipped(module)}

    def leave(self) -> None:
        """Take the modules out of ``sys.modules``, and submodules out of their packages."""
        self._away = self._imported()
        for name, module in self._away.items():
            # `from package import leaf` looks at the package first, which the next world may share.
            package, leaf = _place(name)
            if package.get(leaf) is module:
                del package[leaf]
        for name in self._away:
            del sys.modules[name]

    def enter(self) -> None:
        """Put the modules into ``sys.modules``, and submodules into their packages."""
        sys.modules.update(self._away)
        for name, module in self._away.items():
            package, leaf = _place(name)
            package.setdefault(leaf, module)  # the package may have a function of that name
        self._away = {}


def _place(name: str) -> tuple[dict[str, Any], str]:
    """Return the names of the package that a module is in, and what it is called there."""
    package, _, leaf = name.rpartition(".")
    return vars(sys.modules[package]) if package in sys.modules else {}, leaf


_NOWHERE: Final = _World()


# --- importing -----------------------------------------------------------------------------


class _Finder:
    """Finds the modules of the current world, before anybody else does."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}

    def stand_first(self, world: _World) -> None:
        """Take the first place, and forget what others have imported under the names of the world."""
        if world.sources and (not sys.meta_path or sys.meta_path[0] is not self):
            sys.meta_path[:] = [self, *(finder for finder in sys.meta_path if finder is not self)]
        for name in _foreign(name for name, source in world.sources.items() if source.kind != "namespace"):
            sys.modules.pop(name, None)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        source = self.sources.get(fullname)
        if source is None:
            return None
        if source.kind == "namespace":
            return _namespace(source, path)
        loader = _Loader(source)
        spec = ModuleSpec(fullname, cast("Any", loader), origin=source.path, is_package=source.kind == "package")
        spec.has_location = True  # gives the module its __file__
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(source.path.rpartition("/")[0])
        return spec


def _namespace(source: Source, path: Sequence[str] | None) -> ModuleSpec:
    """Return a namespace package that also has the parts that are installed here."""
    found = PathFinder.find_spec(source.name, path)
    if found is not None:
        return found
    spec = ModuleSpec(source.name, None, is_package=True)
    spec.submodule_search_locations = [source.path]
    return spec


def _foreign(names: Iterable[str]) -> list[str]:
    """Return the imported modules of these names that are not ours, and all that is below them."""
    tops: list[str] = []
    for name in names:
        module = sys.modules.get(name)
        if module is not None and getattr(module, "__file__", None) is not None and not _is_shipped(module):
            tops.append(name)
    prefixes = tuple(f"{top}." for top in tops)
    if not tops:
        return []
    below = [
        name for name, module in list(sys.modules.items()) if name.startswith(prefixes) and not _is_shipped(module)
    ]
    return tops + below


def _is_shipped(module: ModuleType) -> bool:
    return isinstance(getattr(getattr(module, "__spec__", None), "loader", None), _Loader)


class _Loader:
    """Makes a module from its source. The classes of `importlib.abc` would add nothing, and cost 5 ms to import."""

    def __init__(self, source: Source) -> None:
        self.shipped_source = source
        self.path = source.path

    def get_data(self, path: str) -> bytes:
        """Return a file beside the module, where the files of the client are (`pkgutil.get_data`)."""
        with open(path, "rb") as file:
            return file.read()

    def get_resource_reader(self, _fullname: str) -> FileReader:
        """Return what `importlib.resources` reads such files with."""
        from importlib.readers import FileReader

        return FileReader(cast("Any", self))  # it asks for the path alone

    def get_source(self, fullname: str) -> str:  # each of these loads one module
        return decode_source(self.shipped_source.code)

    def is_package(self, fullname: str) -> bool:  # the same
        return self.shipped_source.kind == "package"

    def get_code(self, fullname: str) -> CodeType:  # the same
        source = self.shipped_source
        code: CodeType = compile(source.code, source.path, "exec", dont_inherit=True)
        return code

    def create_module(self, _spec: ModuleSpec) -> ModuleType | None:  # one of the usual kind
        return None

    def exec_module(self, module: ModuleType) -> None:
        source = self.shipped_source
        try:
            _show(source.path, self.get_source(source.name).splitlines(keepends=True))
        except (SyntaxError, UnicodeDecodeError):  # compiling tells it better
            pass
        exec(self.get_code(source.name), vars(module))  # noqa: S102 - as every import does
