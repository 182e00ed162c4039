"""Modules that open a pool when they are imported."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.rules.work import LONG

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
import skyward as sky

@sky.function
def add(a, b):
    return a + b

with sky.Compute(nodes=1) as pool:
    {body}
"""


@pytest.mark.rule("R31")
def test_module_that_opens_a_pool_is_not_opened_in_its_workers(tmp_path: Path) -> None:
    """They import it to run its function: each would open a pool, and so would the workers of that."""
    (tmp_path / "opens.py").write_text(MODULE.format(body="add(1, 2) >> pool"))
    done = run(tmp_path, "import opens")
    assert done.returncode == 1
    assert "MisuseError: opens opens a pool when it is imported" in done.stderr
    assert 'put what opens the pool under `if __name__ == "__main__":`' in done.stderr


@pytest.mark.rule("R31")
def test_module_opens_a_pool_when_it_is_imported_by_the_client(tmp_path: Path) -> None:
    """As long as no worker needs it; and a task may open one, also in a program that it runs."""
    (tmp_path / "opens.py").write_text(MODULE.format(body="print(sky.function(sum)([1, 2]) >> pool)"))
    (tmp_path / "runs.py").write_text(
        "import runpy\nimport skyward as sky\n\n@sky.function\ndef task(path):\n    runpy.run_path(path)\n\n"
        f"with sky.Compute(nodes=1) as pool:\n    task({str(tmp_path / 'opens.py')!r}) >> pool\n"
    )
    imported, ran = run(tmp_path, "import opens"), run(tmp_path, "import runpy; runpy.run_path('runs.py')")
    assert (imported.returncode, imported.stdout) == (0, "3\n"), imported.stderr
    assert (ran.returncode, ran.stdout.splitlines()[-1:]) == (0, ["[node 0] 3"]), ran.stderr


def run(place: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a directory."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=LONG)
