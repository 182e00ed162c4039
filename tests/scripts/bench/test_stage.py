"""The files that contestants' processes find."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from skyward_scripts.bench.stage import FIRST, SERVE, Stage

if TYPE_CHECKING:
    from pathlib import Path


def run(stage: Stage, code: str) -> str:
    """Run code with the stage on its path, without any package of ours, and return what it prints."""
    command = [sys.executable, "-S", "-c", code]
    env = {"PYTHONPATH": stage.path}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env, cwd=stage.root).stdout


def test_stage_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    """A peer's process finds its contestant and the functions there, and nothing that we depend on."""
    stage = Stage(str(tmp_path))
    code = (
        "import plain_tasks, skyward_scripts.bench.runner as runner\n"
        "from skyward_scripts.bench.contestant import find\n"
        "print(find('skyward_scripts.bench.peers.ray:Tasks').__name__, plain_tasks.__name__)\n"
        "print(runner.__file__.startswith(runner.sys.argv[0] or '/'))\n"
    )
    assert run(stage, code).splitlines()[0] == "Tasks plain_tasks"


def test_functions_of_a_script_are_in_main(tmp_path: Path) -> None:
    """The script holds them itself, and serves only if it is run, not if a worker imports it."""
    stage = Stage(str(tmp_path))
    path = stage.script("marked script", SERVE)
    assert stage.script("marked script", SERVE) == path
    assert path != stage.script("marked script", FIRST) != stage.script("marked module", FIRST)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    compile(text, path, "exec")
    assert "def noop(item: Any) -> int:" in text
    assert "import marked_tasks" not in text
    assert text.count('if __name__ == "__main__":') == 1


def test_every_contestant_has_a_directory_of_its_own(tmp_path: Path) -> None:
    """It is empty, and no other has it."""
    stage = Stage(str(tmp_path))
    assert stage.scratch() != stage.scratch()
