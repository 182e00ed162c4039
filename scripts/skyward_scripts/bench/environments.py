"""Virtual environments of the contestants, made by uv in a cache directory and used again by later runs.

Each peer has one of its own, so that its dependencies meet neither ours nor those of another peer. All others share one
that is as a user's: it has skyward, what skyward needs, and numpy, and not the tools of whoever works on skyward.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, version
from typing import Final
from urllib.parse import unquote

from skyward_scripts.bench.catalogue import NUMPY

PATIENCE: Final = 900.0  # seconds to install one environment
COMPLETE: Final = "complete"  # the file that says so
_EDITABLE: Final = "--editable="


class InstallError(Exception):
    """An environment cannot be made; the text is the reason."""


def default_cache() -> str:
    """Return where environments are kept unless the user says otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "skyward", "bench")


def own() -> tuple[str, ...]:
    """Return what makes an environment with this skyward; nothing if it is no tree that somebody works on.

    Whatever it needs has the version that it has here, of which the report tells.
    """
    try:
        installed = Distribution.from_name("skyward")
    except PackageNotFoundError:  # run from a source tree
        return ()
    needs = [need for need in installed.requires or [] if "extra ==" not in need]
    names = [*(re.split(r"[^\w.-]", need)[0] for need in needs), "numpy"]
    return _own(installed.read_text("direct_url.json"), {name: _version(name) for name in names})


def _own(origin: str | None, versions: dict[str, str]) -> tuple[str, ...]:
    place = json.loads(origin or "{}")
    if not place.get("dir_info", {}).get("editable"):
        return ()
    tree = unquote(place["url"].removeprefix("file://"))
    return (_EDITABLE + tree, *(f"{name}=={text}" for name, text in versions.items()))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # only numpy may be missing, without which nothing runs here
        return NUMPY.rpartition("=")[2]


class Environments:
    """Gives out interpreters, and makes environments when they are first asked for.

    ``ours`` makes the one of contestants that say nothing. Without, or if it cannot be made, they run in that of the
    command, and `versions` does not name it.
    """

    def __init__(self, cache: str, ours: tuple[str, ...] = ()) -> None:
        self._cache = cache
        self._ours = ours
        self._found: dict[tuple[str, ...], str | InstallError] = {}

    def python(self, requirements: tuple[str, ...]) -> str:
        """Return the interpreter that finds these packages, or without any our own; raises `InstallError`."""
        if requirements:
            return self._python(requirements)
        try:
            return self._python(self._ours) if self._ours else sys.executable
        except InstallError:
            return sys.executable

    def _python(self, requirements: tuple[str, ...]) -> str:
        if requirements not in self._found:
            try:
                self._found[requirements] = self._make(requirements)
            except InstallError as error:
                self._found[requirements] = error  # every workload would fail alike
        found = self._found[requirements]
        if isinstance(found, InstallError):
            raise found
        return found

    def versions(self) -> dict[str, list[str]]:
        """Return the packages of every environment that was used, by its first package."""
        return {
            _name(requirements): _run("pip", "freeze", "--python", python).split()
            for requirements, python in self._found.items()
            if isinstance(python, str)
        }

    def _make(self, requirements: tuple[str, ...]) -> str:
        path = os.path.join(self._cache, directory_name(requirements))
        python = os.path.join(path, "bin", "python")
        if not os.path.exists(os.path.join(path, COMPLETE)):
            shutil.rmtree(path, ignore_errors=True)  # whatever was interrupted
            os.makedirs(self._cache, exist_ok=True)
            _run("venv", "--quiet", "--python", sys.executable, path)
            _run("pip", "install", "--quiet", "--python", python, *requirements)
            with open(os.path.join(path, COMPLETE), "w", encoding="utf-8") as file:
                file.write("\n".join(requirements) + "\n")
        return python


def directory_name(requirements: tuple[str, ...]) -> str:
    """Return the directory of an environment: another version of anything in it makes it another one."""
    key = "\n".join((sys.version, sys.executable, *requirements))
    return f"{_name(requirements)}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _name(requirements: tuple[str, ...]) -> str:
    return "skyward" if requirements[0].startswith(_EDITABLE) else requirements[0].partition("=")[0]


def _run(*arguments: str) -> str:
    uv = shutil.which("uv")
    if uv is None:
        raise InstallError("uv is not there: pip install uv")
    # The user's own settings of registries apply; that another environment is active does not.
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")}
    try:
        done = subprocess.run([uv, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE, env=env)
    except subprocess.TimeoutExpired:
        raise InstallError(f"uv {arguments[0]} took longer than {PATIENCE:.0f} seconds") from None
    if done.returncode:
        raise InstallError(f"uv {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout
