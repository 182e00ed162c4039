"""The command ``skyward-mesh bench``. Thin: it chooses, runs, and shows what other modules find."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import IO, Any, Final

import click

from skyward_scripts.bench.catalogue import PEER_NAMES, choose
from skyward_scripts.bench.workloads import BY_NAME, WORKLOADS

FAILED: Final = 1  # exit code if skyward or a reference has failed; a peer that fails is only reported
NO_PEER: Final = "none"


@click.command()
@click.option(
    "--workload",
    "workloads",
    multiple=True,
    metavar="NAME",
    type=click.Choice(list(BY_NAME)),
    help=f"Measure this only; may be given several times: {', '.join(BY_NAME)}.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="NAME",
    type=click.Choice([*PEER_NAMES, NO_PEER]),
    help=f"Compare with this peer only; may be given several times: {', '.join(PEER_NAMES)}, or {NO_PEER}.",
)
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True, help="Rounds of each workload.")
@click.option("--quick", is_flag=True, help="Use tiny sizes and one round: it shows that everything works, no more.")
@click.option("--json", "json_file", type=click.File("w", lazy=False), help="Write all figures to this file as JSON.")
@click.option("--png", type=click.Path(dir_okay=False, writable=True), help="Draw the figures into this file.")
@click.option(
    "--cache",
    type=click.Path(file_okay=False),
    help="Keep environments here, instead of in the user's cache directory.",
)
def bench(
    *, workloads: tuple[str, ...], peers: tuple[str, ...], runs: int, quick: bool, json_file: IO[str] | None,
    png: str | None, cache: str | None,
) -> None:  # fmt: skip
    """Measure skyward beside plain ZeroMQ and beside other libraries, in one run.

    Every peer gets an environment of its own, and skyward one with what it needs and no more, made by uv when they are
    first needed. All contestants of a workload
    take turns, round by round, so that they meet the same machine. The report ends with the project's targets,
    and whether this run meets them.

    Exits with 1 if skyward or a reference in plain ZeroMQ has failed.
    """
    from skyward_scripts.bench.environments import Environments, InstallError, default_cache, own
    from skyward_scripts.bench.facts import gather_facts
    from skyward_scripts.bench.report import render
    from skyward_scripts.bench.results import Results
    from skyward_scripts.bench.rounds import Plan, Run
    from skyward_scripts.bench.stage import Stage

    chosen = [workload for workload in WORKLOADS if not workloads or workload.name in workloads]
    entries = choose(peers or None)
    results = Results(gather_facts())
    environments = Environments(cache or default_cache(), own())
    plan = Plan(chosen, entries, 1 if quick else runs, quick)
    with tempfile.TemporaryDirectory(prefix="b", ignore_cleanup_errors=True) as root:
        stage = Stage(root)
        Run(plan, stage, environments, results, _note).run()
        results.facts["environments"] = environments.versions()
        results.facts["load at the end"] = os.getloadavg()[0]
        click.echo(render(results, chosen, entries, quick=quick))
        if json_file is not None:
            _write(results.as_json(), json_file)
        if png is not None:
            from skyward_scripts.bench.chart import draw, panels

            try:
                draw(panels(results, chosen, entries), png, stage, environments)
            except InstallError as error:
                raise click.ClickException(str(error)) from error
    if results.failures(entry.name for entry in entries if entry.kind != "peer"):
        sys.exit(FAILED)


def _note(text: str) -> None:
    click.echo(text, err=True)


def _write(told: dict[str, Any], file: IO[str]) -> None:
    json.dump(told, file, indent=1)
    file.write("\n")
