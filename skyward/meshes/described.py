"""`skyward.toml`: what meshes shall be, for the command `skyward-mesh` and for ``sky.Compute("NAME")``.

    [mesh.lab]
    provider = "ssh"                      # local, ssh, aws
    nodes = 3                             # or [2, 8], or {desired = 4, min = 2, max = 8}

    [mesh.lab.ssh]                        # the arguments of sky.SSH
    hosts = ["ada@10.0.0.5", "ada@10.0.0.6"]

    [mesh.lab.image]                      # those of sky.Image
    pip = ["numpy>=2"]

    [mesh.lab.options]                    # those of sky.Options and sky.Worker
    concurrency = 4

The nearest such file counts, in the working directory or above; what it does not describe may stand in the user's own,
``~/.config/skyward/skyward.toml``. Every mistake is told with the file, the line and the key.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from skyward.config import merge_options
from skyward.errors import ConfigError, UnknownMeshError
from skyward.image import Image
from skyward.machine.private import config_home
from skyward.meshes import kinds
from skyward.model import Nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from skyward.providers.base import Provider

FILE: Final = "skyward.toml"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
TABLES: Final = ("provider", "nodes", "image", "options")  # of a mesh, beside the one of its provider
_HEADER: Final = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_.\"' -]+?)\s*=")
_PART: Final = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")

Path = tuple[str, ...]  # of keys
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a mesh, or a pool, shall be."""

    name: str
    place: str = ""  # the file that says so; "": the command line
    kind: str = "local"
    settings: dict[str, Any] = field(default_factory=dict[str, Any])  # arguments of the provider
    nodes: Nodes | None = None
    image: Image = field(default_factory=Image)
    options: dict[str, Any] = field(default_factory=dict[str, Any])  # arguments of `sky.Options` and `sky.Worker`

    def provider(self) -> Provider:
        """Return an unused provider with these settings; raises `ConfigError`."""
        return kinds.make(self.kind, self.settings)


def check_name(name: str) -> str:
    """Return the name if a mesh can have it; raises `ConfigError`."""
    if NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r} is no name of a mesh: one has up to 63 letters, digits, dots, dashes and underscores, and "
            "begins with a letter or a digit"
        )
    return name


def places(start: str | None = None) -> list[str]:
    """Return the files that count, best first: the nearest above ``start`` (the working directory), the user's."""
    directory = os.path.abspath(start or os.getcwd())
    found: list[str] = []
    while True:
        path = os.path.join(directory, FILE)
        if os.path.isfile(path):
            found.append(path)
            break
        if directory == os.path.dirname(directory):
            break
        directory = os.path.dirname(directory)
    own = os.path.join(os.path.abspath(config_home()), FILE)
    return found + ([own] if os.path.isfile(own) and own not in found else [])


def load(name: str, advice: str = "") -> Description:
    """Return what is described under this name; raises `UnknownMeshError`, `ConfigError`."""
    files = [File.read(path) for path in places()]
    for file in files:
        if name in file.names:
            return file.mesh(name)
    known = tuple(sorted({known for file in files for known in file.names}))
    looked = " and ".join(file.path for file in files)
    where = f"looked in {looked}" if looked else f"there is no {FILE} in {os.getcwd()} or above"
    raise UnknownMeshError(name, known, "; ".join(filter(None, (where, advice))))


def load_all() -> tuple[Description, ...]:
    """Return all meshes that are described; raises `ConfigError`."""
    found, mistakes = load_good()
    if mistakes:
        raise mistakes[0]
    return found


def load_good() -> tuple[tuple[Description, ...], tuple[ConfigError, ...]]:
    """Return the meshes whose descriptions make sense, and what is wrong with the others."""
    found: dict[str, Description | None] = {}
    mistakes: list[ConfigError] = []
    for path in places():
        try:
            file = File.read(path)
        except ConfigError as mistake:
            mistakes.append(mistake)
            continue
        for name in file.names:
            if name not in found:
                found[name] = None
                try:
                    found[name] = file.mesh(name)
                except ConfigError as mistake:
                    mistakes.append(mistake)
    return tuple(said for said in found.values() if said is not None), tuple(mistakes)


class File:
    """One `skyward.toml`. A mistake in what describes one mesh is none of those who want another."""

    def __init__(self, text: str, path: str) -> None:
        """Read the text; raises `ConfigError`. It opens and makes nothing."""
        self._text = text
        self.path = path
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:  # it names the line
            end = f"at line {len(text.splitlines())}, the last"
            raise ConfigError(f"{path} is no TOML: {str(error).replace('at end of document', end)}") from error
        except RecursionError as error:
            raise ConfigError(f"{path} makes no sense: its values are nested too deeply") from error
        self.only(data, (), ("mesh",))
        self._meshes = self.table(data, ("mesh",))

    @classmethod
    def read(cls, path: str) -> File:
        """Return the file at this path; raises `ConfigError`."""
        try:
            with open(path, encoding="utf-8") as file:
                return cls(file.read(), path)
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"cannot read {path}: {error}") from error

    @property
    def names(self) -> tuple[str, ...]:
        """Return which meshes it describes."""
        return tuple(self._meshes)

    def refuse(self, keys: Path, reason: str) -> NoReturn:
        """Say what is wrong, and where."""
        line = line_of(self._text, keys)
        where = f"{self.path}, line {line}" if line else self.path
        raise ConfigError(f"{where}: {'.'.join(keys)} {reason}")

    def only(self, table: Mapping[str, Any], keys: Path, known: tuple[str, ...]) -> None:
        """Refuse a table with other keys than these."""
        for name in table:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there may be {', '.join(known)}"
                self.refuse((*keys, name), f"means nothing; {hint}")

    def table(self, data: Mapping[str, Any], keys: Path) -> dict[str, Any]:
        """Return the table that is the last of these keys; an empty one if there is none."""
        value = data.get(keys[-1], {})
        if not isinstance(value, dict):
            self.refuse(keys, f"must be a table, such as [{'.'.join(keys)}], got {value!r}")
        return cast("dict[str, Any]", value)

    def mesh(self, name: str) -> Description:
        """Return what it says of a mesh; raises `ConfigError`."""
        keys = ("mesh", name)
        data = self.table(self._meshes, keys)
        self._tried(keys, lambda: check_name(name))
        kind: Any = data.get("provider", "local")
        if kind not in kinds.names():
            self.refuse((*keys, "provider"), f"must be one of {', '.join(kinds.names())}, got {kind!r}")
        self.only(data, keys, (*TABLES, kind))
        image, options = (self.table(data, (*keys, part)) for part in ("image", "options"))
        self.only(image, (*keys, "image"), tuple(each.name for each in fields(Image)))
        self._tried((*keys, "options"), lambda: merge_options(None, options))
        return Description(
            name=name,
            place=self.path,
            kind=kind,
            settings=self._settings((*keys, kind), kind, self.table(data, (*keys, kind))),
            nodes=self._nodes((*keys, "nodes"), data.get("nodes")),
            image=self._tried((*keys, "image"), lambda: Image(**image)),
            options=options,
        )

    def _settings(self, keys: Path, kind: str, table: dict[str, Any]) -> dict[str, Any]:
        """Return the provider's settings, checked, with paths of files made absolute."""
        provider = kinds.class_of(kind)
        directory = os.path.dirname(os.path.abspath(self.path))
        settings = {
            name: os.path.join(directory, os.path.expanduser(value))
            if name in provider.paths and isinstance(value, str)
            else value
            for name, value in table.items()
        }
        if (wrong := kinds.mistake(kind, settings)) is not None:
            self.refuse((*keys, wrong[0]), wrong[1])
        self._tried(keys, lambda: kinds.make(kind, settings))
        return settings

    def _nodes(self, keys: Path, value: Any) -> Nodes | None:
        if value is None:
            return None
        if isinstance(value, dict):
            table = cast("dict[str, Any]", value)
            self.only(table, keys, ("desired", "min", "max"))
            if "desired" not in table:
                self.refuse(keys, "needs desired = …")
            return self._tried(keys, lambda: Nodes(**table))
        told: Any = tuple(value) if _is_list(value) else value
        return self._tried(keys, lambda: Nodes.parse(told))

    def _tried(self, keys: Path, action: Callable[[], T]) -> T:
        try:
            return action()
        except (TypeError, ValueError) as error:
            self.refuse(keys, f"is wrong: {error}")


def line_of(text: str, keys: Path) -> int:
    """Return the number of the line that says most of this path of keys; 0 if none does. PURE."""
    best, found = 0, 0
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        header, key = _HEADER.fullmatch(line), _KEY.match(line)
        if header is not None:
            table = _parts(header[1])
            path = table
        elif key is not None:
            path = table + _parts(key[1])
        else:
            continue
        common = min(len(path), len(keys))
        if common > best and path[:common] == keys[:common]:
            best, found = common, number
    return found


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _parts(text: str) -> Path:
    return tuple(match[1] or match[2] or match[3] or "" for match in _PART.finditer(text))
