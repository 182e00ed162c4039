"""The command `skyward-mesh simulate`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from skyward_scripts.cli import main
from skyward_scripts.simulation import validation
from skyward_scripts.simulation.durations import DISTRIBUTIONS

if TYPE_CHECKING:
    from click.testing import Result


def simulate(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["simulate", *arguments])


def test_simulate_prints_a_table() -> None:
    """A row for each distribution and size."""
    result = simulate("-n", "2", "-n", "4", "-d", "constant", "--mean", "0.1")
    assert result.exit_code == 0, result.output
    head, _, *rows = result.output.splitlines()
    assert "makespan ÷ ideal" in head
    assert [row.split(" | ")[1] for row in rows] == ["2", "4"]


def test_simulate_prints_json() -> None:
    """One object a line, for programs."""
    result = simulate("-n", "2", "--mean", "0.05", "--json")
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert [row["distribution"] for row in rows] == list(DISTRIBUTIONS)
    assert all(row["ratio"] < 1.1 for row in rows)


def test_simulate_loses_nodes_when_asked() -> None:
    """With a short life of nodes everything takes longer."""
    rows = [
        json.loads(simulate("-n", "4", "-d", "constant", "--mean", "0.1", "--json", *life).output)
        for life in ([], ["--life", "1"])
    ]
    assert rows[1]["ratio"] > rows[0]["ratio"]


@pytest.mark.parametrize(("seconds", "code"), [(0.1, 0), (9.0, 1)])
def test_validate_fails_if_the_model_is_wrong(monkeypatch: pytest.MonkeyPatch, seconds: float, code: int) -> None:
    """Its exit code is 1 if real daemons take another time than simulated ones."""
    monkeypatch.setattr(validation, "_measure", lambda *_: seconds)
    result = simulate("--validate", "-n", "1", "-d", "constant", "--mean", "0.1", "--per-slot", "1")
    assert result.exit_code == code, result.output
    assert "real ÷ simulated" in result.output


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("nodes", validation.NODES)
def test_real_daemons_take_as_long_as_simulated_ones(nodes: int) -> None:
    """Within fifteen percent, for every distribution of task times."""
    wrong = [row for row in validation.compare([nodes], rounds=3) if not row.ok]
    assert not wrong


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_calibrate_measures_what_calls_cost() -> None:
    """Messages cost more than tasks, on both sides."""
    told = json.loads(simulate("--calibrate", "--json").output)
    assert 0 < told["client_task"] < told["client_message"] < 0.01
    assert 0 < told["node_task"] < told["node_message"] < 0.01
