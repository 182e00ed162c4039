r"""Every test of a rule can fail: ``mutations.tsv`` names, for each rule, a line that breaks it.

The columns are the rule, the test, the file, and the line before and after; ``\n`` and ``\t`` stand for
themselves. The long form (``pytest -m slow tests/test_mutations.py``) breaks a copy of the source with each
line in turn, and expects the test to turn red.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.leaks import end_marked

ROOT: Final = Path(__file__).parents[1]
# Those that must be in the table.
RULES: Final = (*range(1, 18), 19, 21, 22, *range(26, 35), 38, 39, *range(47, 53))
HANG: Final = 40  # seconds after which a test that hangs under a mutation counts as red
OPTIONS: Final = ("-q", "-x", "-p", "no:cacheprovider", "-m", "slow or not slow", f"--timeout={HANG}")
LONGEST: Final = 4 * HANG  # seconds that such a run may take: a busy machine is slow to begin
BROKEN: Final = "SKYWARD_BROKEN"  # environment variable that a run with a mutation, and all below it, has


class Mutation(NamedTuple):
    """One line of the table."""

    rule: str
    test: str
    file: str
    old: str
    new: str


def _read() -> list[Mutation]:
    lines = (Path(__file__).parent / "mutations.tsv").read_text(encoding="utf-8").splitlines()
    return [Mutation(*(_plain(cell) for cell in line.split("\t"))) for line in lines if line]


def _plain(cell: str) -> str:
    return cell.replace("\\n", "\n").replace("\\t", "\t")


MUTATIONS: Final = _read()


def test_no_rule_is_missing() -> None:
    """Each rule of the list has a line in the table."""
    assert {f"R{number}" for number in RULES} <= {mutation.rule for mutation in MUTATIONS}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.rule}-{mutation.test}")
def test_mutation_still_fits_the_source(mutation: Mutation) -> None:
    """The line to break stands in the source just once, and the test is there and marked with the rule."""
    source = (ROOT / mutation.file).read_text(encoding="utf-8")
    assert source.count(mutation.old) == 1
    path, _, name = mutation.test.partition("::")
    tests = (ROOT / path).read_text(encoding="utf-8")
    function = name.rpartition("::")[2].partition("[")[0]
    assert f"def {function}(" in tests
    assert f'rule("{mutation.rule}")' in tests


@pytest.mark.slow
@pytest.mark.timeout(LONGEST + 60)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.rule}-{mutation.test}")
def test_mutation_turns_the_test_red(mutation: Mutation, tmp_path: Path, short_path: Path) -> None:
    """With one line of the source broken, the test of the rule fails."""
    for name in ("skyward", "node", "scripts", "tests", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"):
        shutil.copy(ROOT / file, tmp_path / file)
    broken = tmp_path / mutation.file
    broken.write_text(broken.read_text(encoding="utf-8").replace(mutation.old, mutation.new), encoding="utf-8")
    places = [str(tmp_path), str(tmp_path / "node"), str(tmp_path / "scripts")]
    # A run that hangs is ended without cleaning up.
    with tempfile.TemporaryDirectory(prefix="", ignore_cleanup_errors=True) as temporary:
        settings = {"PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": temporary}
        try:
            run = subprocess.run(
                [sys.executable, "-m", "pytest", *OPTIONS, mutation.test],
                cwd=tmp_path,
                env=os.environ | settings | {BROKEN: temporary},
                timeout=LONGEST,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            end_marked(BROKEN, temporary)  # nodes that shall outlive whoever starts them, and what ends them is broken
    assert run.returncode == 1, run.stdout + run.stderr
