"""The command ``skyward-mesh curves``, and the curves that there are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from skyward_scripts.bench.curves.points import BY_NAME, CURVES, Curve
from skyward_scripts.bench.measures import MEASURES
from skyward_scripts.bench.results import from_json
from skyward_scripts.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def run(*arguments: str) -> Result:
    """Run the command with these arguments."""
    return CliRunner().invoke(main, ["curves", "--quick", *arguments])


def test_curves_are_measured_and_reported(tmp_path: Path) -> None:
    """A quick run does some points of all curves on real pools: each has all of its figures, and the file, too."""
    file = tmp_path / "figures.json"
    result = run("--json", str(file))
    assert result.exit_code == 0, result.output
    assert "1/1: nodes 2" in result.stderr
    found = from_json(json.loads(file.read_text(encoding="utf-8")))
    assert set(found.showings) == set(BY_NAME)
    for curve in CURVES:
        showings = found.showings[curve.name]
        assert list(showings) == list(curve.small)
        assert all(title in result.stdout for title in curve.tables)
        missing = {
            (point, figure.name)
            for point, showing in showings.items()
            for figures in curve.tables.values()
            for figure in figures
            if showing.spread(figure.name) is None
        }
        assert missing == {
            ("0", name) for name in {"size": ("data",), "time": ("ideal", "÷ ideal")}.get(curve.name, ())
        }


def test_one_curve_can_be_chosen() -> None:
    """Others are not measured; a mistyped name is wrong usage, and the names there are are shown."""
    result = run("--curve", "time")
    assert result.exit_code == 0, result.output
    assert "time: a gather on two nodes" in result.stdout
    assert "waiting" not in result.output
    result = run("--curve", "tine")
    assert result.exit_code == 2
    assert "'waiting-futures'" in result.output


def test_failure_is_a_failure_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves with a hole in them are told from whole ones by the exit code."""
    monkeypatch.setattr("skyward_scripts.bench.curves.tour.Session", _fail)
    result = run("--curve", "size")
    assert result.exit_code == 1
    assert "size: 0: nothing works" in result.stdout


def _fail(*_: object) -> None:
    from skyward_scripts.bench.session import ContestantError

    raise ContestantError("nothing works")


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_curve_can_be_measured(curve: Curve) -> None:
    """It names a measure, and its points have the same sizes, by different names; some of them are small."""
    assert curve.measure in MEASURES
    assert len({point.name for point in curve.points}) == len(curve.points)
    assert len({frozenset(point.sizes) for point in curve.points}) == 1
    assert set(curve.small) <= {point.name for point in curve.points}
    assert curve.quick.keys() <= curve.points[0].sizes.keys()
