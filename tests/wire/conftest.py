"""What tests of the protocol share: another process, and projects of a user's."""

from __future__ import annotations

import importlib
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from tests.wire.elsewhere import Elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """Return another process to run functions in."""
    with Elsewhere() as process:
        yield process


class Project:
    """A directory with modules of a user's, on the import path of this process only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, name: str, source: str) -> Path:
        """Write a file, as an editor does: in one step."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(textwrap.dedent(source))
        new.replace(path)
        importlib.invalidate_caches()
        return path

    def load(self, name: str, source: str | None = None) -> Any:
        """Import a module, written first if there is a source."""
        if source is not None:
            self.write(name.replace(".", "/") + ".py", source)
        return importlib.import_module(name)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Return an empty project; what was imported from it is gone afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield Project(tmp_path)
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        places = [getattr(module, "__file__", None) or "", *map(str, getattr(module, "__path__", ()))]
        if any(place.startswith(str(tmp_path)) for place in places):
            del sys.modules[name]
