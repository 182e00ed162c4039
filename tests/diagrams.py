"""The diagrams of states in docs/ are made from the tables that the code goes by: ``python -m tests.diagrams``.

A page has a diagram between ``<!-- states: NAME -->`` and the end of the block of Mermaid text that follows.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from skyward.dispatch import lives
from skyward.dispatch import tasks as sent
from skyward.model import NodeState
from skyward_node.core import tasks as held

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCS: Final = Path(__file__).parents[1] / "docs"
BLOCK: Final = re.compile(r"(<!-- states: (?P<name>[\w ]+) -->\n```mermaid\n)(?P<text>.*?)(```)", re.DOTALL)


class Machine(NamedTuple):
    """A table of moves, with the names of its states; None is where things come from and go to."""

    table: Mapping[str, Mapping[Any, Any]]
    names: Mapping[Any, str]
    first: Any
    last: Any


MACHINES: Final = {
    "a task on a node": Machine(held.TABLE, dict(enumerate(held.STATES)), held.HELD, held.DONE),
    "a task of a client": Machine(sent.TABLE, dict(enumerate(sent.STATES)), sent.QUEUED, sent.SETTLED),
    "a node of a pool": Machine(lives.TABLE, {state: state.value for state in NodeState}, None, None),
}


def draw(machine: Machine) -> str:
    """Return the diagram; an arrow has all events that make the move."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for event, moves in machine.table.items():
        for before, after in moves.items():
            ends = machine.names.get(before, "[*]"), machine.names.get(after, "[*]")
            if ends != ("[*]", "[*]"):
                arrows.setdefault(ends, []).append(event)
    lines = [f"    {before} --> {after}: {', '.join(events)}" for (before, after), events in arrows.items()]
    if machine.first is not None:
        lines.insert(0, f"    [*] --> {machine.names[machine.first]}")
        lines.append(f"    {machine.names[machine.last]} --> [*]")
    return "\n".join(["stateDiagram-v2", *lines, ""])


def redraw(text: str) -> str:
    """Return a page with its diagrams as they should be; raises `KeyError` for one that nobody knows."""
    return BLOCK.sub(lambda m: m[1] + draw(MACHINES[m["name"]]) + m[4], text)


def main() -> None:
    """Redraw the diagrams of all pages."""
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (new := redraw(text)) != text:
            page.write_text(new, encoding="utf-8")
            print(page.relative_to(DOCS.parent))


if __name__ == "__main__":
    main()
