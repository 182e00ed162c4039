"""The command ``skyward-mesh``. Thin: it prints what other modules find, and chooses the exit code."""

from __future__ import annotations

import json
import platform

import click

from skyward_scripts.bench.command import bench
from skyward_scripts.bench.curves.command import curves
from skyward_scripts.meshes.admitting import keys
from skyward_scripts.meshes.diagnosis import doctor
from skyward_scripts.meshes.exits import Commands
from skyward_scripts.meshes.lifecycle import down, gc, resize, up
from skyward_scripts.meshes.looking import logs, nodes, ping, status
from skyward_scripts.meshes.running import execute, run
from skyward_scripts.simulation.command import simulate
from skyward_scripts.simulation.following import elastic


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="skyward", prog_name="skyward-mesh")
def main() -> None:
    """Bring up and look after meshes: nodes that outlive the programs that use them.

    Exit codes: 0 all is well; 1 what was run failed, is not well, or no node is there of that number; 2 wrong usage,
    or a file that makes no sense; 3 no mesh of that name, or none was named and there are none or several; 4 there is
    one already, or another command is changing it; 5 nodes could not be started or ended; 6 nodes do not answer; 7 you
    said no; 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP; 141 nobody reads what is printed.
    """


for _command in (
    up, status, nodes, logs, run, execute, ping, resize, keys, down, gc, doctor, simulate, elastic, bench,
    curves,
):  # fmt: skip
    main.add_command(_command)


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
