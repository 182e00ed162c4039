"""The command ``skyward-mesh curves``. Thin: it chooses, runs, and shows what other modules find."""

from __future__ import annotations

import json
import sys
import tempfile
from typing import IO, Final

import click

from skyward_scripts.bench.curves.points import BY_NAME, CURVES

FAILED: Final = 1  # exit code if a point of a curve has failed


@click.command()
@click.option(
    "--curve",
    "names",
    multiple=True,
    metavar="NAME",
    type=click.Choice(list(BY_NAME)),
    help=f"Measure this one only; may be given several times: {', '.join(BY_NAME)}.",
)
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True, help="Rounds of all curves.")
@click.option("--quick", is_flag=True, help="Do a few small points in one round: it shows that everything works.")
@click.option("--json", "json_file", type=click.File("w", lazy=False), help="Write all figures to this file as JSON.")
def curves(*, names: tuple[str, ...], runs: int, quick: bool, json_file: IO[str] | None) -> None:
    """Measure what a call costs, from small to large, on nodes of this machine.

    Curves are over the bytes of an argument, the time of a task, the number of nodes up to 64, and the number of
    calls that wait up to a million. It takes up to ten minutes.

    Exits with 1 if a point of a curve has failed.
    """
    from skyward_scripts.bench.curves.report import failed, render
    from skyward_scripts.bench.curves.tour import Tour
    from skyward_scripts.bench.facts import gather_facts
    from skyward_scripts.bench.results import Results
    from skyward_scripts.bench.stage import Stage

    chosen = [curve for curve in CURVES if not names or curve.name in names]
    results = Results(gather_facts())
    with tempfile.TemporaryDirectory(prefix="b", ignore_cleanup_errors=True) as root:
        Tour(chosen, Stage(root), results, _note, 1 if quick else runs, quick).run()
    click.echo(render(results, chosen, quick=quick))
    if json_file is not None:
        json.dump(results.as_json(), json_file, indent=1)
        json_file.write("\n")
    if failed(results):
        sys.exit(FAILED)


def _note(text: str) -> None:
    click.echo(text, err=True)
