"""`skyward-mesh status`, `nodes`, `ping`, `logs`: what changes nothing."""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from skyward.errors import ConfigError, UnknownMeshError
from skyward.mesh.console import tag, wants_colour
from skyward.meshes import asking, files, kinds
from skyward.meshes.attached import client_pair
from skyward_scripts.meshes import showing
from skyward_scripts.meshes.exits import UNREACHABLE, code_of
from skyward_scripts.meshes.following import fresh, readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skyward.meshes.asking import Report
    from skyward.meshes.files import Mesh
    from skyward.providers.base import Launched, Provider

ARRAY = click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
MOST: Final = 50  # lines of a node's log that there are: what providers keep at hand


def mesh_as_json(mesh: Mesh, reports: Sequence[Report] = ()) -> dict[str, Any]:
    """Return a mesh as programs see it."""
    said = {report.number: report for report in reports}
    told = [_node_as_json(number, node, said.get(number)) for number, node in enumerate(mesh.nodes)]
    return {
        "name": mesh.name,
        "provider": mesh.kind,
        "state": mesh.state,
        "created": mesh.created,
        "concurrency": mesh.concurrency,
        "executor": mesh.executor,
        "nodes": told,
    }


def _node_as_json(number: int, node: Launched, report: Report | None) -> dict[str, Any]:
    where = {"ident": node.ident, "endpoint": node.endpoint, "public_key": node.public_key, "address": node.address}
    fields = {} if report is None else {**asdict(report), "ok": report.ok}
    return {"node": number, **where} | {name: fields[name] for name in fields if name not in ("number", "node")}


def only_mesh(name: str | None) -> str:
    """Return the name, or that of the only mesh that there is; raises `UnknownMeshError`."""
    if name is not None:
        return name
    known = files.known()
    if len(known) != 1:
        raise UnknownMeshError("", known, "say which with -m NAME" if known else "`skyward-mesh up NAME` makes one")
    return known[0]


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, or without NAME an array of them.")
@click.pass_context
def status(ctx: click.Context, *, name: str | None, as_json: bool) -> None:
    """Show how a mesh is, or without NAME how all are.

    Exits with 6 if a node does not answer, and with 2 if a mesh file makes no sense.
    """
    mistakes: list[ConfigError] = []
    meshes = [files.load(name)] if name is not None else list(_readable(mistakes))
    pair = client_pair()
    reports = [asking.ask(mesh.nodes, pair) for mesh in meshes]
    if as_json:
        told = [mesh_as_json(mesh, each) for mesh, each in zip(meshes, reports, strict=True)]
        showing.as_json(told if name is None else told[0])
    elif name is None:
        _show_all(meshes, reports)
    else:
        _show(meshes[0], reports[0])
    for mistake in mistakes:
        click.echo(f"Error: {mistake}", err=True)
    code = code_of(mistakes[0]) if mistakes else 0
    ctx.exit(code if all(report.ok for each in reports for report in each) else UNREACHABLE)


def _readable(mistakes: list[ConfigError]) -> Iterator[Mesh]:
    """Yield all meshes whose files make sense, and note what is wrong with the others."""
    for name in files.known():
        try:
            yield files.load(name)
        except ConfigError as mistake:
            mistakes.append(mistake)


def _show_all(meshes: Sequence[Mesh], reports: Sequence[Sequence[Report]]) -> None:
    if not files.known():
        click.echo("there is no mesh; `skyward-mesh up NAME` makes one")
        return
    rows = [
        [
            mesh.name,
            mesh.kind,
            mesh.state,
            f"{sum(report.ok for report in each)} of {len(each)}",
            str(sum(report.running for report in each)),
            str(sum(report.queued for report in each)),
            showing.age(time.time() - mesh.created) if mesh.created else "",
        ]
        for mesh, each in zip(meshes, reports, strict=True)
    ]
    showing.table(["mesh", "provider", "state", "nodes", "running", "queued", "age"], rows)


def _show(mesh: Mesh, reports: Sequence[Report]) -> None:
    answering = sum(report.ok for report in reports)
    since = f", for {showing.age(time.time() - mesh.created)}" if mesh.created else ""
    click.echo(f"mesh {mesh.name}: {mesh.state}{since}, {mesh.kind}, {answering} of {len(reports)} nodes answer")
    rows = [_row(report) for report in reports]
    if rows:
        showing.table(["node", "state", "slots", "running", "queued", "ping", "host", "endpoint"], rows)
    for report in reports:
        if not report.ok:
            click.echo(f"node {report.number}: {report.problem}")


def _row(report: Report) -> list[str]:
    if not report.ok:
        return [str(report.number), "down", "", "", "", "", "", report.node.endpoint]
    numbers = [str(report.slots), str(report.running), str(report.queued), milliseconds(report.round_trip)]
    return [str(report.number), "up", *numbers, report.hostname, report.node.endpoint]


def milliseconds(seconds: float) -> str:
    """Return a short time."""
    return f"{seconds * 1000:.1f} ms"


@click.command()
@click.argument("name")
@ARRAY
def nodes(*, name: str, as_json: bool) -> None:
    """Show where the nodes of a mesh are, and by which keys they are known. It asks nobody."""
    mesh = files.load(name)
    if as_json:
        showing.as_json(mesh_as_json(mesh)["nodes"])
        return
    rows = [[str(number), node.ident, node.endpoint, node.public_key] for number, node in enumerate(mesh.nodes)]
    showing.table(["node", "ident", "endpoint", "public key"], rows)


@click.command()
@click.argument("name")
@click.option("--count", "-c", type=click.IntRange(1), default=3, show_default=True, help="How often to ask.")
@ARRAY
@click.pass_context
def ping(ctx: click.Context, *, name: str, count: int, as_json: bool) -> None:
    """Ask the nodes of a mesh who they are, and say how long the answers take.

    Exits with 6 if a node does not answer.
    """
    mesh, pair = files.load(name), client_pair()
    rounds = [asking.ask(mesh.nodes, pair) for _ in range(count)]
    found = [[each[number] for each in rounds] for number in range(len(mesh.nodes))]
    if as_json:
        showing.as_json([_ping_as_json(reports) for reports in found])
    else:
        for reports in found:
            click.echo(_ping_line(reports))
    ctx.exit(0 if all(report.ok for reports in found for report in reports) else UNREACHABLE)


def _ping_as_json(reports: Sequence[Report]) -> dict[str, Any]:
    times = [report.round_trip for report in reports if report.ok]
    problem = next((report.problem for report in reports if not report.ok), "")
    return {"node": reports[0].number, "endpoint": reports[0].node.endpoint, "seconds": times, "problem": problem}


def _ping_line(reports: Sequence[Report]) -> str:
    times = [report.round_trip for report in reports if report.ok]
    where = f"node {reports[0].number} at {reports[0].node.endpoint}"
    if len(times) < len(reports):
        problem = next(report.problem for report in reports if not report.ok)
        return f"{where}: {len(times)} of {len(reports)} answers: {problem}"
    return f"{where}: {milliseconds(min(times))} at best, {milliseconds(statistics.median(times))} in the middle"


@click.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on, until Ctrl-C or the end of the mesh.")
@click.option("--node", "wanted", type=click.IntRange(0), help="Of this node alone.")
@click.option(
    "--lines",
    "-n",
    "count",
    type=click.IntRange(0, MOST),
    default=20,
    show_default=True,
    help="Of each node, at first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each line.")
def logs(*, name: str, follow: bool, wanted: int | None, count: int, as_json: bool) -> None:
    """Show what the nodes of a mesh have logged last."""
    mesh = files.load(name)
    provider = kinds.make(mesh.kind, mesh.settings).for_mesh(mesh.name)
    chosen = {number: node for number, node in enumerate(mesh.nodes) if wanted in (None, number)}
    if not chosen:
        raise click.ClickException(f"mesh {name} has no node {wanted}: it has {len(mesh.nodes)}")
    seen = _say_lines(provider, chosen, {}, as_json=as_json, most=count)
    try:
        while follow and name in files.known():
            time.sleep(provider.log_pause)
            seen = _say_lines(provider, chosen, seen, as_json=as_json)
    except KeyboardInterrupt:  # the usual end of it
        return
    if follow:
        click.echo(f"mesh {name} is gone", err=True)


def _say_lines(
    provider: Provider,
    nodes: dict[int, Launched],
    seen: dict[int, tuple[str, ...]],
    *,
    as_json: bool,
    most: int | None = None,
) -> dict[int, tuple[str, ...]]:
    """Print what is new in each log; return what has been seen."""
    now = {number: provider.log_tail(node) or seen.get(number, ()) for number, node in nodes.items()}
    colours = wants_colour(sys.stdout)
    for number, lines in now.items():
        new = fresh(seen.get(number, ()), lines)
        for line in new if most is None else new[len(new) - min(most, len(new)) :]:
            text = json_line(number, line) if as_json else tag(number, coloured=colours) + readable(line)
            click.echo(text)
    return now


def json_line(number: int, line: str) -> str:
    """Return a line of a log for programs."""
    return json.dumps({"node": number, "line": line})
