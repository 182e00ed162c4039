"""`skyward-mesh doctor`: whether this machine can run nodes and look after meshes, and what to do if not."""

from __future__ import annotations

import os
import shutil
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import click

from skyward.errors import SkywardError
from skyward.meshes import asking, described, files
from skyward.meshes.attached import client_pair
from skyward.model import counted
from skyward.providers.aws.garbage import IDLE
from skyward.providers.aws.journal import left_behind
from skyward_scripts import machine
from skyward_scripts.machine import Finding
from skyward_scripts.meshes import showing
from skyward_scripts.meshes.exits import FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skyward.providers.aws.journal import Left

BOTO3: Final = "sky.AWS needs it: pip install boto3"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Say whether this machine can run nodes and look after meshes, and what to do if not.

    It starts a node, and asks those of all meshes. Exits with 0 if all is well and with 1 if not.
    """
    findings = [*machine.check_machine(), *check_meshes()]
    fit = all(finding.ok for finding in findings)
    if as_json:
        rows = [
            {"name": row.name, "ok": row.ok, "text": row.text, "advice": "" if row.ok else row.advice}
            for row in findings
        ]
        showing.as_json({"ok": fit, "findings": rows})
    else:
        for finding in findings:
            click.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:<16}{finding.text}")
            if not finding.ok and finding.advice:
                click.echo(f"      {'':<16}{finding.advice}")
        click.echo("all is well" if fit else "not all is well")
    ctx.exit(0 if fit else FAILED)


def check_meshes() -> Iterator[Finding]:
    """Yield a finding for each thing that looking after meshes needs."""
    for check in NEEDS:
        yield check()
    yield from _meshes()


def _tried(name: str, look: Callable[[], str], advice: str = "") -> Finding:
    try:
        return Finding(name, ok=True, text=look())
    except (SkywardError, OSError) as error:
        return Finding(name, ok=False, text=str(error), advice=advice)


def _key() -> Finding:
    return _tried("your key", lambda: f"{client_pair().public}")


def _description() -> Finding:
    def look() -> str:
        names = [said.name for said in described.load_all()]
        if not (places := described.places()):
            return f"there is none in {os.getcwd()} or above: none is needed"
        return f"{', '.join(names) or 'no mesh'} in {', '.join(places)}"

    return _tried(described.FILE, look)


def _ssh() -> Finding:
    found = shutil.which("ssh")
    return Finding("ssh", ok=True, text=found or "no OpenSSH client: sky.SSH needs one")


def _aws() -> Finding:
    there = find_spec("boto3") is not None
    lost = [_said_of(left) for left in left_behind() if left.gone or left.silent > IDLE]
    if lost:
        return Finding("aws", ok=False, text="; ".join(lost), advice="skyward-mesh gc" if there else BOTO3)
    return Finding("aws", ok=True, text="boto3 is there" if there else f"no boto3: {BOTO3}")


def _said_of(left: Left) -> str:
    calls = counted(len(left.unanswered), "call")
    lost = f", {calls} without an answer" if left.unanswered else ""
    return f"a program was killed, or could not clear up: it may have left pool {left.pool} in {left.region}{lost}"


def _meshes() -> Iterator[Finding]:
    for name in files.known():
        yield _tried(f"mesh {name}", partial(_look_at, name), f"skyward-mesh status {name}")
    for name in _strays():
        yield Finding("mesh files", ok=False, text=f"{name} is no mesh file", advice=f"remove {name}")


def _look_at(name: str) -> str:
    mesh = files.load(name)
    reports = asking.ask(mesh.nodes, client_pair())
    silent = [f"node {report.number} {report.problem}" for report in reports if not report.ok]
    if not mesh.serves:
        raise SkywardError(f"it is {mesh.state}: if no command is at it, `skyward-mesh gc` ends it")
    if silent:
        raise SkywardError("; ".join(silent))
    return f"{len(reports)} of {len(reports)} nodes answer"


def _strays() -> list[str]:
    """Return what lies among the mesh files and is none."""
    try:
        names = sorted(os.listdir(files.home()))
    except OSError:
        return []
    ours = {f"{name}.json" for name in files.known()}
    return [os.path.join(files.home(), name) for name in names if name not in ours and not name.endswith(".lock")]


NEEDS: Final[tuple[Callable[[], Finding], ...]] = (_key, _description, _ssh, _aws)
