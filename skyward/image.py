"""`Image`: what a pool's tasks need to find on every node, whatever its provider.

It describes, and does nothing by itself: providers install and copy what it says, or refuse what they cannot have
(`skyward.providers.present`). It is checked when it is made, so that a misspelt requirement fails before a machine is
paid for. Values of ``env`` may be secret: they stand in no repr and in no error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from fnmatch import fnmatch
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from skyward.errors import ConfigError
from skyward.frozen import Frozen, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CHUNK: Final = 1 << 20  # bytes read at once of a file that is hashed
USUALLY_LEFT: Final = ("__pycache__", "*.pyc", ".git", ".venv")  # nobody wants them on a node

_PYTHON: Final = r"3\.\d+(\.\d+)?"
_APT: Final = r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+)?"


class Image(Frozen, kw_only=True):
    """What tasks need on a node: ``sky.Compute(image=sky.Image(pip=["numpy>=2"], env={"MODE": "fast"}))``.

    ``python``: the version, such as ``"3.12"`` or ``"3.12.4"``; None: the client's.
    ``pip``: requirements, as ``pip install`` takes them: ``"numpy>=2"``, ``"pandas[parquet]"``.
    ``apt``: Debian packages, such as ``"ffmpeg"``.
    ``env``: environment variables of the workers.
    ``includes``: files and directories below the working directory. Tasks find them at the same relative paths, and
    import modules from where these begin. The modules of your functions travel without this.
    ``excludes``: patterns of names or of relative paths that are left out of ``includes``.
    """

    python: str | None = None
    pip: Sequence[str] = ()
    apt: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    includes: Sequence[str] = ()
    excludes: Sequence[str] = USUALLY_LEFT

    def __post_init__(self) -> None:
        if self.python is not None:
            _check_python(self.python)
        for name, check in _CHECKS.items():
            entries = _strings(name, getattr(self, name))
            for entry in entries:
                check(entry)
            object.__setattr__(self, name, entries)
        object.__setattr__(self, "env", MappingProxyType(_checked_env(self.env)))

    @property
    def is_empty(self) -> bool:
        """Return whether it asks for nothing."""
        return not (self.python or self.pip or self.apt or self.env or self.includes)

    def files(self, root: str) -> Iterator[str]:
        """Yield the files that ``includes`` means below ``root``, as sorted relative paths.

        Symbolic links to directories are not followed. Raises `ConfigError` for an entry that is not there.
        """
        found: set[str] = set()
        for entry in self.includes:
            path = os.path.join(root, entry)
            if os.path.isdir(path):
                found.update(self._below(root, path))
            elif os.path.exists(path):
                found.add(os.path.relpath(path, root))
            else:
                raise ConfigError(f"includes names {entry!r}, which does not exist in the working directory {root}")
        yield from sorted(name for name in found if not self._is_left_out(name))

    def _below(self, root: str, directory: str) -> Iterator[str]:
        for place, directories, names in os.walk(directory):
            here = os.path.relpath(place, root)
            directories[:] = [name for name in directories if not self._is_left_out(os.path.join(here, name))]
            yield from (os.path.normpath(os.path.join(here, name)) for name in names)

    def _is_left_out(self, path: str) -> bool:
        names = os.path.normpath(path).split(os.sep)
        beginnings = [os.sep.join(names[: end + 1]) for end in range(len(names))]
        return any(fnmatch(text, pattern.rstrip("/")) for pattern in self.excludes for text in (*names, *beginnings))

    def content_hash(self, root: str) -> str:
        """Return a hash of all that it says, and of what the included files below ``root`` contain."""
        import hashlib
        import json

        said = {"python": self.python, "pip": self.pip, "apt": self.apt, "env": dict(sorted(self.env.items()))}
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
        for name in self.files(root):
            path = os.path.join(root, name)
            mode = os.stat(path).st_mode & 0o111  # that a script may be run is a part of it, whose file it is is not
            digest.update(json.dumps([name, mode, _hash_of(path)]).encode())
        return digest.hexdigest()

    def __hash__(self) -> int:
        return hash((self.python, self.pip, self.apt, frozenset(self.env.items()), self.includes, self.excludes))

    def __reduce__(self) -> Any:
        return _rebuilt, (self.as_dict() | {"env": dict(self.env)},)

    def __repr__(self) -> str:
        said = [f"python={self.python!r}"] if self.python else []
        said += [f"{name}={list(entries)}" for name in ("pip", "apt", "includes") if (entries := getattr(self, name))]
        said += [f"env={sorted(self.env)}"] if self.env else []  # names alone: a value may be secret
        return f"sky.Image({', '.join(said)})"


def _rebuilt(values: dict[str, Any]) -> Image:
    return Image(**values)


def _hash_of(path: str) -> str:
    import hashlib  # 2 ms, for most images in vain

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


# --- checking ----------------------------------------------------------------------------------


def _strings(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError(f"{name} must be a list of strings, got a string: {name}=[{value!r}]")
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} must be a list of strings, got {value!r}")
    for entry in cast("Sequence[object]", value):
        if not isinstance(entry, str):
            raise TypeError(f"{name} must be a list of strings, and has {entry!r} in it")
    return tuple(cast("Sequence[str]", value))


def _check_pattern(entry: str) -> None:
    if not entry.strip(" /") or "\0" in entry:
        raise ConfigError(f"excludes has {entry!r}, which is no pattern of names or paths")


def _check_python(value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f'python must be a version as a string, such as "3.12", got {value!r}')
    if re.fullmatch(_PYTHON, value) is None:
        raise ConfigError(f'python must be a version such as "3.12" or "3.12.4", got {value!r}')


def _check_pip(entry: str) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(entry)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        hint = "; own code goes into includes" if entry.startswith((".", "/", "-")) else ""
        raise ConfigError(f"pip has {entry!r}, which is no requirement: {reason}{hint}") from error


def _check_apt(entry: str) -> None:
    if re.fullmatch(_APT, entry) is None:
        raise ConfigError(f"apt has {entry!r}, which is no name of a Debian package")


def _check_path(entry: str) -> None:
    if not entry.strip() or "\0" in entry:
        raise ConfigError(f"includes has {entry!r}, which is no path")
    if os.path.isabs(entry) or os.path.normpath(entry).split(os.sep)[0] == os.pardir:
        raise ConfigError(f"includes has {entry!r}: paths are relative to the working directory, and stay within it")


_CHECKS: Final[dict[str, Callable[[str], None]]] = {
    "pip": _check_pip,
    "apt": _check_apt,
    "includes": _check_path,
    "excludes": _check_pattern,
}


def _checked_env(env: object) -> dict[str, str]:
    if not isinstance(env, Mapping):
        raise TypeError(f"env must be a dict of strings, got {type(env).__name__}")
    checked: dict[str, str] = {}
    for name, value in cast("Mapping[object, object]", env).items():
        if not isinstance(name, str):
            raise TypeError(f"env must be a dict of strings: the name {name!r} is of type {type(name).__name__}")
        if not isinstance(value, str):
            # Its value is not shown, as it may be secret.
            raise TypeError(f"env must be a dict of strings: the value of {name!r} is of type {type(value).__name__}")
        if not name or "=" in name or "\0" in name + value:
            raise ConfigError(f"env has the variable {name!r}, which no process can have")
        checked[name] = value
    return checked
