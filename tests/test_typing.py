"""The types that users see, checked by mypy --strict and pyright strict from outside the checkout."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent / "typing"
MARKER = re.compile(r"# E: (\S+) (\S+)$")

Errors = dict[tuple[str, int], set[str]]  # (file, line) -> codes


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Return a copy of the samples where neither the checkout nor its settings are near."""
    target = tmp_path / "samples"
    shutil.copytree(SAMPLES, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def expected_errors(directory: Path, checker: int) -> Errors:
    """Return what the markers demand of a checker: 1 is mypy, 2 is pyright."""
    return {
        (file.name, number): {match[checker]}
        for file in directory.glob("*.py")
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if (match := MARKER.search(line))
    }


def mypy_errors(directory: Path) -> Errors:
    """Return what mypy --strict says."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--show-error-codes", "--output=json"]
    options = ["--config-file=", f"--cache-dir={directory.parent / 'cache'}", f"--python-executable={sys.executable}"]
    names = sorted(file.name for file in directory.glob("*.py"))
    done = subprocess.run([*command, *options, *names], cwd=directory, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    errors: Errors = {}
    for line in done.stdout.splitlines():
        entry = json.loads(line)
        if entry["severity"] == "error":
            errors.setdefault((entry["file"], entry["line"]), set()).add(entry["code"])
    return errors


def pyright_errors(directory: Path) -> Errors:
    """Return what pyright says in strict mode."""
    (directory / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    errors: Errors = {}
    for entry in json.loads(done.stdout)["generalDiagnostics"]:
        place = Path(entry["file"]).name, entry["range"]["start"]["line"] + 1
        errors.setdefault(place, set()).add(entry["rule"])
    return errors


def assert_as_marked(found: Errors, expected: Errors) -> None:
    """Fail unless the lines with errors are the marked ones, each for the marked reason."""
    assert expected
    surplus = {place: codes for place, codes in found.items() if place not in expected}
    assert not surplus, "errors where there should be none"
    wrong = {
        place: (codes, found.get(place)) for place, codes in expected.items() if not codes <= found.get(place, set())
    }
    assert not wrong, "lines that should be errors, but are not, or for another reason"


@pytest.mark.rule("R16")
def test_mypy_sees_the_types(samples: Path) -> None:
    """Under mypy --strict every operator has the type the specification gives it, and mistakes are errors."""
    assert_as_marked(mypy_errors(samples), expected_errors(samples, 1))


@pytest.mark.rule("R16")
def test_pyright_sees_the_types(samples: Path) -> None:
    """Under pyright strict every operator has the type the specification gives it, and mistakes are errors."""
    assert_as_marked(pyright_errors(samples), expected_errors(samples, 2))


@pytest.mark.rule("R16")
def test_package_says_that_it_is_typed() -> None:
    """``py.typed`` lies beside the library, so that checkers look inside."""
    import skyward

    assert (Path(skyward.__file__).parent / "py.typed").is_file()
