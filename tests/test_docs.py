"""README and docs are true: every program runs and prints what they say, every link leads somewhere.

A program that cannot be run here stands below ``<!-- not run: the reason -->``.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import click
import pytest

import skyward as sky
from skyward import errors
from skyward_node.cli import command as node
from skyward_scripts.cli import main as mesh

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
]
GUIDE: Final = ROOT / "docs" / "examples" / "parallel_execution.py"
KEYS: Final = next(command for command in node.commands.values() if isinstance(command, click.Group))
PROTOCOL: Final = ROOT / "docs" / "protocol.md"  # its examples are messages: test_protocol_doc compares their bytes


STARTS: Final = {ROOT / "docs" / name for name in ("getting-started.md", "architecture.md")}  # the README leads there


class Program(NamedTuple):
    """A program on a page."""

    place: str
    text: str
    shown: str | None  # what it prints, if the page says so
    excuse: str | None  # why it is not run


EXCUSE: Final = r"(?:<!-- not run: (?P<excuse>[^>]+) -->\n)?"
SHOWN: Final = r"(?:\n\nprints\n\n```text\n(?P<shown>.*?)```)?"
PROGRAM: Final = re.compile(EXCUSE + r"```python\n(?P<text>.*?)```" + SHOWN, re.DOTALL)


def programs(page: Path) -> list[Program]:
    """Return the Python programs of a page."""
    place = str(page.relative_to(ROOT))
    found = PROGRAM.finditer(page.read_text(encoding="utf-8"))
    return [Program(f"{place}-{n}", m["text"], m["shown"], m["excuse"]) for n, m in enumerate(found)]


PROGRAMS: Final = [program for page in PAGES if page != PROTOCOL for program in programs(page)]
RUNNABLE: Final = [program for program in PROGRAMS if program.excuse is None]


def run(file: Path) -> str:
    """Run a program and return what it prints; it must have nothing to say on stderr."""
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize("program", RUNNABLE, ids=lambda program: program.place)
def test_example_runs(program: Program, tmp_path: Path) -> None:
    """A reader who copies a program into a file can run it, and it prints what the page says."""
    file = tmp_path / "example.py"
    file.write_text(program.text)
    printed = run(file)
    assert printed
    assert program.shown is None or printed == program.shown


def test_examples_have_types(tmp_path: Path) -> None:
    """The programs of the pages, and the examples, pass mypy --strict, so that readers may copy them anywhere."""
    for number, program in enumerate(PROGRAMS):
        (tmp_path / f"page_{number}.py").write_text(f"# {program.place}\n{program.text}")
    files = [*sorted(tmp_path.glob("*.py")), *sorted((ROOT / "docs" / "examples").glob("*.py"))]
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path / 'cache'}"]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_other_program_is_recognised() -> None:
    """No page hides a program from these tests by another way of writing it."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert page == PROTOCOL or text.count("```py") == len(programs(page)), page
        assert text.count("not run:") == sum(program.excuse is not None for program in programs(page)), page
        assert text.count("\nprints\n\n```text") == sum(program.shown is not None for program in programs(page)), page


def test_guide_prints_what_the_readme_shows() -> None:
    """The README has the guide as it is, and its real output, apart from the times."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert GUIDE.read_text(encoding="utf-8") in [program.text for program in programs(ROOT / "README.md")]
    (shown,) = re.findall(r"<!-- output of .*? -->\n```\n(.*?)```", readme, re.DOTALL)
    timeless = re.compile(r"\[\d+\.\ds\]")
    assert timeless.sub("", run(GUIDE)) == timeless.sub("", shown)


def anchors(page: Path) -> set[str]:
    """Return the names that links to the headings of a page end in."""
    headings = re.findall(r"^#+ (.+)$", plain(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def plain(page: Path) -> str:
    """Return a page without its programs and other literal text."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Links between pages name files that exist, and headings in them."""
    for target, heading in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", plain(page)):
        if "://" not in target:
            place = (page.parent / target).resolve() if target else page
            assert place.exists(), target
            assert not heading or heading in anchors(place), (target, heading)


def test_every_page_can_be_found() -> None:
    """The index of the pages has a link to each."""
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs") for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert [str(page) for page in pages if page.name != "index.md" and f"({page})" not in text] == []


def test_no_page_is_a_dead_end() -> None:
    """Each page that people use leads on to another, and more leads to it than the index alone or the README."""
    links = {
        page: {(page.parent / target).resolve() for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", plain(page))} - {page}
        for page in PAGES
        if page.is_relative_to(ROOT / "docs") and page not in (PROTOCOL, ROOT / "docs" / "index.md")
    }
    assert [str(page) for page, targets in links.items() if not targets & links.keys()] == []
    led_to = set().union(*links.values())
    assert [str(page) for page in links if page not in led_to and page not in STARTS] == []


def section(heading: str) -> str:
    """Return a section of the reference."""
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_reference_lists_every_option() -> None:
    """Each option of a pool and of its workers is in the table, with its default and nothing else."""
    listed = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section("Options"), re.MULTILINE))
    fields = {
        field.name: field.default
        for kind in (sky.Worker, sky.Options)
        for field in dataclasses.fields(kind)
        if field.name != "worker"
    }
    assert set(listed) == set(fields)
    for name, default in fields.items():
        if default is not None:
            shown = ast.literal_eval(listed[name].strip("`"))
            assert (shown, type(shown) is bool) == (default, type(default) is bool), name


def test_reference_names_all_that_is_public() -> None:
    """Every public name is there, and every public method of calls, groups, streams and pools."""
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    names = {name for name in sky.__all__ if not name.startswith("_")}
    internal = {"as_this_task", "call_back", "cancel_future", "cancel_tasks", "close_at_exit", "feed_by", "grant"}
    internal |= {"lent", "make_tasks", "pack_element", "placing", "push", "run_group", "slots", "soon", "wait_for"}
    internal |= {"yielding"}
    names |= {name for name in dir(sky.Compute) if not name.startswith("_")} - internal
    names |= {name for name in dir(sky.PendingFunction) if name.startswith("with_")} | {"on", "named", "local"}
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize(
    "command",
    [node, KEYS, *KEYS.commands.values(), mesh, *mesh.commands.values()],
    ids=lambda command: command.name or "skyward-mesh",
)
def test_reference_shows_the_help_of_commands(command: click.Command) -> None:
    """What the commands say of themselves is in the reference, option by option."""
    shown = " ".join(section("Commands").split())
    assert " ".join((command.help or "").split()) in shown
    for option in command.params:
        if isinstance(option, click.Argument):
            assert option.make_metavar(click.Context(command)) in shown
            continue
        assert option.opts[0] in shown
        help_of_option = " ".join(getattr(option, "help", "").split())
        assert help_of_option
        assert help_of_option in shown


def test_reference_lists_every_error() -> None:
    """Each public error is in the table, with the builtin that it is."""
    listed = dict(re.findall(r"^\| `(\w+)` \| ?`?(\w*)`? ?\|", section("Errors"), re.MULTILINE))
    public = {name for name in sky.__all__ if name.endswith("Error") and name != "SkywardError"}
    assert set(listed) == public
    for name, builtin in listed.items():
        assert not builtin or builtin in {base.__name__ for base in getattr(errors, name).__mro__}


def test_readme_commands_are_those_of_the_project() -> None:
    """The two commands set up and run the guide, and set up and pass the tests."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```sh\n(.*?)\n```", readme, re.DOTALL)
    assert first == f"pip install uv && uv run --no-dev {GUIDE.relative_to(ROOT)}"
    assert second == "pip install uv && uv run pytest -n 2 --dist worksteal"
    assert second.partition("&& ")[2] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
