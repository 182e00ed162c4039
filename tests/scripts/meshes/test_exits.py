"""Exit codes, where Python has its own mind."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import click

from skyward_scripts.meshes.exits import Commands


@click.group(cls=Commands)
def main():
    pass


@main.command()
def work():
    exec("raise KeyboardInterrupt")


main()
"""


@pytest.mark.rule("R30")
def test_interrupt_while_a_text_is_evaluated_is_one(tmp_path: Path) -> None:
    """As dataclasses do it when they are imported: exit code 130, not death by a signal."""
    (tmp_path / "program.py").write_text(PROGRAM)
    path = os.pathsep.join(sys.path)
    ended = subprocess.run(
        [sys.executable, "-m", "program", "work"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")
