"""`skyward-mesh simulate`: the policy on clusters that are not at hand, and beside real daemons."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from time import thread_time
from typing import TYPE_CHECKING, Final

import click

from skyward_scripts.simulation import drawing
from skyward_scripts.simulation.durations import DISTRIBUTIONS

if TYPE_CHECKING:
    from skyward_scripts.simulation.scaling import Row

MEANS: Final = (1.0, 0.1, 0.01)  # seconds: a minute's work in pieces, and what one client just manages
FAR_OFF: Final = 1  # exit code of `--validate` if the model is too far from what was measured


@click.command()
@click.option("--nodes", "-n", multiple=True, type=click.IntRange(min=1), help="Nodes of the cluster. May be repeated.")
@click.option(
    "--distribution", "-d", "distributions", multiple=True, type=click.Choice(list(DISTRIBUTIONS)),
    help="How long tasks take. May be repeated; by default all.",
)  # fmt: skip
@click.option(
    "--mean", "means", multiple=True, type=click.FloatRange(min=0, min_open=True),
    help="Seconds a task takes on average. May be repeated.",
)  # fmt: skip
@click.option("--slots", default=1, show_default=True, type=click.IntRange(min=1), help="Tasks a node runs at once.")
@click.option("--per-slot", default=20, show_default=True, type=click.IntRange(min=1), help="Tasks for each slot.")
@click.option("--life", type=click.FloatRange(min=0, min_open=True), help="Seconds until a node is lost, on average.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Save a picture there; needs `uv run --group bench`.")
@click.option("--validate", is_flag=True, help="Run the same tasks on real daemons, too.")
@click.option("--calibrate", is_flag=True, help="Measure the costs of this machine, and print them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each row.")
def simulate(
    *,
    nodes: tuple[int, ...],
    distributions: tuple[str, ...],
    means: tuple[float, ...],
    slots: int,
    per_slot: int,
    life: float | None,
    plot: str | None,
    validate: bool,
    calibrate: bool,
    as_json: bool,
) -> None:
    """Simulate the shipped scheduling policy on clusters of many sizes.

    With --validate, exits with 1 if real daemons and the simulation differ by more than 15 %.
    """
    names = distributions or tuple(DISTRIBUTIONS)
    if calibrate:
        _calibrate(as_json=as_json)
    elif validate:
        sys.exit(_validate(nodes, names, means, per_slot, as_json=as_json))
    else:
        if plot:
            drawing.library()  # what is missing is said before anything is simulated
        rows = _scale(nodes, names, means or MEANS, slots, per_slot, life, as_json=as_json)
        if plot:
            drawing.draw(
                [(f"tasks of {mean:g} s", [row for row in rows if row.mean == mean]) for mean in means or MEANS], plot
            )


def _scale(
    nodes: tuple[int, ...],
    names: tuple[str, ...],
    means: tuple[float, ...],
    slots: int,
    per_slot: int,
    life: float | None,
    *,
    as_json: bool,
) -> list[Row]:
    from skyward_scripts.simulation.cluster import Churn
    from skyward_scripts.simulation.scaling import NODES, measure, table

    churn = None if life is None else Churn(life)
    rows: list[Row] = []
    for mean in means:
        some = measure(
            nodes or NODES, names, mean=mean, per_slot=per_slot, slots=slots, churn=churn, stopwatch=thread_time
        )
        for row in some:
            rows.append(row)
            if as_json:
                click.echo(json.dumps(row.as_dict()))
    if not as_json:
        click.echo(table(rows))
    return rows


def _validate(
    nodes: tuple[int, ...], names: tuple[str, ...], means: tuple[float, ...], per_slot: int, *, as_json: bool
) -> int:
    from skyward_scripts.simulation.validation import MEAN, NODES, Comparison, compare, table

    rows: list[Comparison] = []
    for mean in means or (MEAN,):
        for row in compare(nodes or NODES, names, mean=mean, per_slot=per_slot):
            rows.append(row)
            if as_json:
                click.echo(json.dumps(row.as_dict()))
    if not as_json:
        click.echo(table(rows))
    return 0 if all(row.ok for row in rows) else FAR_OFF


def _calibrate(*, as_json: bool) -> None:
    from skyward_scripts.simulation.calibration import calibrate

    costs = asdict(calibrate())
    if as_json:
        click.echo(json.dumps(costs))
    else:
        click.echo("\n".join(f"{name:<16}{seconds * 1e6:>12,.1f} µs" for name, seconds in costs.items()))
