"""What a file is: a program, or functions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from skyward_scripts.meshes.loading import idle_functions, load

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "from typing import TYPE_CHECKING\nimport skyward as sky\n@sky.function\ndef f(x=1):\n    return x\n"


@pytest.mark.parametrize(
    ("more", "idle"),
    [
        ("", True),
        ("'words'\nclass C:\n    x = f()\n", True),
        ("import logging\nlog: object = logging.getLogger(__name__)\nx: int\n", True),
        ("if TYPE_CHECKING:\n    import os\nelse:\n    os = None\n", True),
        ("try:\n    import os\nexcept ImportError:\n    os = None\n", True),
        ("print(1)\n", False),
        ("x = f() >> sky\n", False),
        ("x = f() @ sky\n", False),
        ("x = f() > sky\n", False),
        ("x = [f(1)]\n", False),
        ("x = f(\n", False),
        ("if __name__ == '__main__':\n    print(1)\n", False),
        ("for _ in ():\n    pass\n", False),
        ("with open('/dev/null'):\n    pass\n", False),
    ],
)
def test_program_is_told_from_a_file_of_functions(tmp_path: Path, more: str, idle: bool) -> None:
    """By what stands at its top level: definitions, imports and plain values run nothing."""
    (tmp_path / "file.py").write_text(HEAD + more)
    assert idle_functions(str(tmp_path / "file.py")) == (["f"] if idle else [])


def test_file_may_have_a_dot_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no package for that."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "a.b.py").write_text("X = 3\n")
    assert load(str(tmp_path / "a.b.py")).X == 3
    del sys.modules["a.b"]


def test_functions_that_others_may_call_are_named(tmp_path: Path) -> None:
    """In the order of the file; a file that is not there has none."""
    (tmp_path / "file.py").write_text("def b(): pass\nasync def a(): pass\ndef _own(): pass\n")
    assert idle_functions(str(tmp_path / "file.py")) == ["b", "a"]
    assert idle_functions(str(tmp_path / "none.py")) == []
