"""How a daemon's interpreter is started."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

import skyward
from skyward.providers import interpreter

if TYPE_CHECKING:
    from pathlib import Path


class Careless:
    """A finder of old, which importing puts up with."""


@pytest.mark.rule("R31")
def test_daemon_has_the_packages_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is found under their names by now, and whoever else looks for modules."""
    other = tmp_path / "skyward"
    other.mkdir()
    (other / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    careless: Any = Careless()
    monkeypatch.setattr(sys, "meta_path", [careless, *sys.meta_path])
    code = interpreter.command(())[-2]
    assert repr(skyward.__path__[0].rpartition("/")[0]) in code
    assert str(tmp_path) not in code
