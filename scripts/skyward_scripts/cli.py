"""The command ``skyward-mesh``. Thin: it prints what other modules find, and chooses the exit code."""

from __future__ import annotations

import json
import platform
import sys
from typing import Final

import click

from skyward_scripts.bench.command import bench
from skyward_scripts.simulation.command import simulate
from skyward_scripts.simulation.following import elastic

UNFIT: Final = 1  # exit code of `check` on a machine that cannot run nodes; click uses 2 for wrong usage


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Bootstrap and look after meshes of machines that run skyward nodes."""


main.add_command(simulate)
main.add_command(elastic)
main.add_command(bench)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def version(*, as_json: bool) -> None:
    """Print the versions that two ends of a link have to agree on."""
    from skyward.wire.messages import PROTOCOL

    versions = {"skyward": _installed(), "protocol": str(PROTOCOL), "python": platform.python_version()}
    if as_json:
        click.echo(json.dumps(versions))
    else:
        click.echo("\n".join(f"{name} {text}" for name, text in versions.items()))


def _installed() -> str:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        return version_of("skyward")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(*, as_json: bool) -> None:
    """Say whether this machine can run local nodes, and what to do if not.

    Exits with 0 if it can and with 1 if it cannot.
    """
    from skyward_scripts.machine import check_machine

    findings = list(check_machine())
    fit = all(finding.ok for finding in findings)
    if as_json:
        rows = [
            {"name": row.name, "ok": row.ok, "text": row.text, "advice": _advice(row.ok, row.advice)}
            for row in findings
        ]
        click.echo(json.dumps({"ok": fit, "findings": rows}))
    else:
        for finding in findings:
            click.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:<14}{finding.text}")
            if advice := _advice(finding.ok, finding.advice):
                click.echo(f"      {'':<14}{advice}")
        click.echo("this machine can run local nodes" if fit else "this machine cannot run local nodes")
    sys.exit(0 if fit else UNFIT)


def _advice(ok: bool, advice: str) -> str:
    return "" if ok else advice
