"""README and docs are true: every example runs, every link leads somewhere, every name is there."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import skyward as sky
from skyward import errors

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GUIDE: Final = ROOT / "docs" / "examples" / "parallel_execution.py"
PROTOCOL: Final = ROOT / "docs" / "protocol.md"  # its examples are messages: test_protocol_doc compares their bytes


def blocks(page: Path) -> list[str]:
    """Return the Python programs of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


PROGRAMS: Final = [
    pytest.param(program, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    if page != PROTOCOL
    for number, program in enumerate(blocks(page))
]


def run(file: Path) -> str:
    """Run a program and return what it prints."""
    done = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, check=False, timeout=100, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_example_runs(program: str, tmp_path: Path) -> None:
    """A reader who copies a program into a file can run it."""
    file = tmp_path / "example.py"
    file.write_text(program)
    assert run(file)


def test_guide_prints_what_the_readme_shows() -> None:
    """The README has the guide as it is, and its real output, apart from the times."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert GUIDE.read_text(encoding="utf-8") in blocks(ROOT / "README.md")
    (shown,) = re.findall(r"<!-- output of .*? -->\n```\n(.*?)```", readme, re.DOTALL)
    timeless = re.compile(r"\[\d+\.\ds\]")
    assert timeless.sub("", run(GUIDE)) == timeless.sub("", shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Links between pages name files that exist."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_reference_lists_every_option() -> None:
    """Each option of a pool and of its workers is in the table, with nothing else."""
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    section = text.partition("## Options")[2].partition("## Calls")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    fields = [field.name for kind in (sky.Worker, sky.Options) for field in dataclasses.fields(kind)]
    assert sorted(listed) == sorted(set(fields) - {"worker"})


def test_reference_lists_every_error() -> None:
    """Each public error is in the table, with the builtin that it is."""
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8").partition("## Errors")[2]
    listed = dict(re.findall(r"^\| `(\w+)` \| ?`?(\w*)`? ?\|", text, re.MULTILINE))
    public = {name for name in sky.__all__ if name.endswith("Error") and name != "SkywardError"}
    assert set(listed) == public
    for name, builtin in listed.items():
        assert not builtin or builtin in {base.__name__ for base in getattr(errors, name).__mro__}


def test_readme_commands_are_those_of_the_project() -> None:
    """The two commands set up and run the guide, and set up and pass the tests."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```sh\n(.*?)\n```", readme, re.DOTALL)
    assert first == f"pip install uv && uv run --no-dev {GUIDE.relative_to(ROOT)}"
    assert second == "pip install uv && uv run pytest"
    assert second.partition("&& ")[2] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
