"""Every row of the table of faults has a test that can fail, and states move as their tables and the docs say (T21)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from skyward.dispatch import lives
from skyward.model import NodeState
from skyward.moves import IllegalMove
from tests import diagrams
from tests.test_mutations import MUTATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
FAULTS: Final = tuple(f"F{number}" for number in range(1, 68))


def markers(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Yield what a test is marked with: the name of each marker, and its text if it has one."""
    for each in function.decorator_list:
        call = each if isinstance(each, ast.Call) else None
        name = ast.unparse(call.func if call else each)
        first = call.args[0] if call and call.args else None
        yield name, first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


@cache
def shown_by() -> dict[str, set[str]]:
    """Return the tests of the default suite by the row of the table that they show."""
    found: dict[str, set[str]] = {row: set() for row in FAULTS}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for function in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(function, ast.FunctionDef):
                continue
            marked = set(markers(function))
            if ("pytest.mark.slow", "") not in marked:
                for row in {text for name, text in marked if name == "pytest.mark.rule"}.intersection(FAULTS):
                    found[row].add(f"{path.relative_to(ROOT)}::{function.name}")
    return found


@pytest.mark.rule("T21")
@pytest.mark.parametrize("row", FAULTS)
def test_fault_has_a_test_that_can_fail(row: str) -> None:
    """A short form of it is in the default suite, named after its row, and a line of the source turns one red."""
    tests = shown_by()[row]
    assert tests, f"no test is marked with {row}"
    assert tests & {mutation.test.partition("[")[0] for mutation in MUTATIONS}, f"no line turns {sorted(tests)} red"


@pytest.mark.parametrize("page", sorted(diagrams.DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_diagrams_are_those_of_the_tables(page: Path) -> None:
    """What the pages show is what the code goes by; `python -m tests.diagrams` draws it."""
    text = page.read_text(encoding="utf-8")
    assert diagrams.redraw(text) == text
    assert text.count("```mermaid") == len(diagrams.BLOCK.findall(text))


def test_every_table_has_a_diagram() -> None:
    """And only one."""
    pages = [page.read_text(encoding="utf-8") for page in diagrams.DOCS.rglob("*.md")]
    shown = [match["name"] for text in pages for match in diagrams.BLOCK.finditer(text)]
    assert sorted(shown) == sorted(diagrams.MACHINES)


@pytest.mark.parametrize("name", diagrams.MACHINES)
def test_every_state_can_be_left_and_reached(name: str) -> None:
    """No state is a trap, and none is there for nothing."""
    machine = diagrams.MACHINES[name]
    left = {state for moves in machine.table.values() for state in moves}
    reached = {state for moves in machine.table.values() for state in moves.values()}
    assert left | {machine.last} == set(machine.names) | {machine.last}
    assert reached | {machine.first} == set(machine.names) | {machine.first}


@pytest.mark.parametrize("event", lives.TABLE)
@pytest.mark.parametrize("state", [None, *NodeState])
def test_table_alone_decides_about_nodes(event: str, state: lives.State) -> None:
    """What the table knows happens, and nothing else can."""
    states = {3: state} if state is not None else {}
    before = dict(states)
    if state in lives.TABLE[event]:
        assert lives.move(states, 3, event) is state
        assert states.get(3) is lives.TABLE[event][state]
    else:
        with pytest.raises(IllegalMove, match=f"^node 3, which is .*, cannot '{event}'$"):
            lives.move(states, 3, event)
        assert states == before
