"""The command ``skyward-mesh elastic``: what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from skyward_scripts.cli import main

if TYPE_CHECKING:
    from click.testing import Result

pytestmark = pytest.mark.rule("R33")


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["elastic", *arguments], catch_exceptions=False)


def rows(*arguments: str) -> list[dict[str, Any]]:
    """Return what it prints as JSON."""
    result = run("--json", *arguments)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


def test_story_is_told_in_a_row() -> None:
    """By default of a pool of this machine; as a table, or for programs."""
    (row,) = rows()
    assert (row["story"], row["most"], row["nodes"][0], row["nodes"][-1]) == ("simulated", 4, 0, 0)
    head, line, told = run().output.splitlines()
    assert head.count("|") == line.count("|") == told.count("|")
    assert told.startswith("| simulated | 4 |")


def test_pool_and_load_can_be_chosen() -> None:
    """Bounds, slots, times and calls."""
    load = ("--load", "0:80x1", "--start-up", "2", "--idle-timeout", "5")
    (narrow,) = rows("--least", "1", "--most", "8", *load)
    (wide,) = rows("--least", "1", "--most", "8", "--slots", "4", *load)
    (small,) = rows("--least", "1", "--most", "2", *load)
    assert narrow["nodes"][-1] == wide["nodes"][-1] == 1
    assert narrow["most"] == 8
    assert small["most"] == 2
    assert wide["finished"] < narrow["finished"] < small["finished"]
    assert wide["node_seconds"] < narrow["node_seconds"]


def test_real_nodes_are_told_of_beside_the_simulated_ones() -> None:
    """The same load on nodes of this machine, which come and go as well."""
    simulated, real = rows("--real", "--load", "0:4x0.3", "--idle-timeout", "0.5", "--most", "2")
    assert (simulated["story"], real["story"]) == ("simulated", "real")
    assert (real["nodes"][0], real["nodes"][-1]) == (0, 0)
    assert 1 <= real["most"] <= 2
    assert real["finished"] >= 0.6


def test_page_shows_what_it_prints() -> None:
    """A simulation comes out the same each time."""
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "elastic-pools.md").read_text(encoding="utf-8")
    [(command, shown)] = re.findall(r"`skyward-mesh elastic (.*?)`.*?```text\n(.*?)```", page, re.DOTALL)
    assert run(*shlex.split(command)).output == shown


def test_picture_without_matplotlib_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do about it, and before anything is played."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("--plot", "/nowhere/x.png")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "--plot needs matplotlib: say `pip install matplotlib`" in result.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--load", "often"], "'often' is neither"),
        (["--load", ""], "a load has pieces"),
        (["--least", "5", "--most", "4"], "nodes must satisfy"),
        (["--most", "0"], "0 is not in the range"),
    ],
)
def test_nonsense_is_refused(arguments: list[str], complaint: str) -> None:
    """As wrong usage, in words."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.output
