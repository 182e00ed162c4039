"""How the code is written, as far as that can be counted: short files and functions, reasons for exceptions."""

from __future__ import annotations

import ast
import io
import re
import statistics
import tokenize

import pytest

from tests.sources import ROOT, sources, sources_of_tests

pytestmark = pytest.mark.usefixtures("forget_sources")

LONGEST_FILE = 399  # lines
LONGEST_FUNCTION = 70  # lines
MEDIAN_FUNCTION = 10  # lines

NOTE = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X]|HAC[K])\b")  # written so that it does not find itself
DIRECTIVE = re.compile(r"#\s*(noqa:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*|type:\s*ignore\[[\w, -]+\]|pyright:\s*ignore\[\w+\])")
IGNORE = re.compile(r"#\s*(noqa|type:\s*ignore|pyright:\s*(ignore|basic)|mypy:|ruff:)")


def test_files_are_short() -> None:
    """No file reaches 400 lines, of the source or of the tests."""
    lines = {file: text.count("\n") for file, (text, _) in (sources() | sources_of_tests()).items()}
    assert not {file: count for file, count in lines.items() if count > LONGEST_FILE}


def test_functions_are_short() -> None:
    """No function is longer than 70 lines, and half of them take at most 10."""
    lengths = {
        f"{file}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for file, (_, tree) in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION}
    assert statistics.median(lengths.values()) <= MEDIAN_FUNCTION


def test_modules_say_what_they_are() -> None:
    """Every module opens with a docstring."""
    assert not [file for file, (text, tree) in sources().items() if text and ast.get_docstring(tree) is None]


def test_tests_state_a_fact() -> None:
    """The docstring of a test is a sentence."""
    tests = [
        (f"{file}: {node.name}", ast.get_docstring(node) or "")
        for file, (_, tree) in sources_of_tests().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    assert [name for name, fact in tests if not re.match(r"\S.*[.:!?)]$", fact.partition("\n\n")[0], re.DOTALL)] == []


def test_nothing_is_left_for_later() -> None:
    """No file holds a note about what should be done to it: that is said where work is planned, or done."""
    files = [*sources(), *sources_of_tests(), *(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md"))]
    assert [file for file in files if NOTE.search((ROOT / file).read_text(encoding="utf-8"))] == []


def unreasoned(text: str) -> list[str]:
    """Return the comments that switch a checker off without naming what, or without saying why."""
    comments = [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and IGNORE.search(token.string)
    ]
    rests = [(comment, DIRECTIVE.sub("", comment)) for comment in comments]
    return [comment for comment, rest in rests if IGNORE.search(rest) or not re.search(r"\w{2}", rest)]


def test_every_ignore_says_why() -> None:
    """A comment that silences a checker names its rule and gives a reason."""
    files = (sources() | sources_of_tests()).items()
    wrong = [f"{file}: {comment}" for file, (text, _) in files for comment in unreasoned(text)]
    assert not wrong, "\n".join(wrong)


def test_every_rule_that_is_off_says_why() -> None:
    """In pyproject.toml, too, whatever is ignored has its reason beside it."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = re.findall(r"^ignore = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    lists += re.findall(r"per-file-ignores\]\n(.*?)\n\n", text, re.DOTALL)
    entries = [line for found in lists for line in found.splitlines() if re.search(r'"[A-Z]+\d*"', line)]
    assert entries
    assert [line for line in entries if "#" not in line] == []
    assert [line for line in text.splitlines() if line.endswith("= false")] == []


@pytest.mark.parametrize(
    ("comment", "wrong"),
    [
        ("# noqa", True),
        ("# noqa: S301", True),
        ("# noqa: S301 - it is ours", False),
        ("# type: ignore", True),
        ("# type: ignore  # because", True),
        ("# type: ignore[misc]", True),
        ("# type: ignore[misc]  # because", False),
        ("# type: ignore[misc]  # pyright: ignore[reportAny]", True),
        ("# type: ignore[misc]  # so  # pyright: ignore[reportAny]", False),
        ("# an ordinary comment", False),
    ],
)
def test_checker_sees_an_ignore_without_a_reason(comment: str, wrong: bool) -> None:
    """The check above is able to fail."""
    assert bool(unreasoned(f"x = 1  {comment}\n")) == wrong
