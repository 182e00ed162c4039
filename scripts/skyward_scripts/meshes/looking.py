"""`skyward-mesh status`, `nodes`, `ping`, `logs`: what changes nothing."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from skyward.errors import ConfigError, SkywardError, UnknownMeshError
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
    showing.table(["node", "ident", "endpoint", "public key"], rows, whole=True)


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
@click.pass_context
def logs(ctx: click.Context, *, name: str, follow: bool, wanted: int | None, count: int, as_json: bool) -> None:
    """Show what the nodes of a mesh have logged last.

    Exits with 6 if a log cannot be read.
    """
    mesh = files.load(name)
    if not kinds.class_of(mesh.kind).launches:
        raise ConfigError(f"the nodes of mesh {mesh.name} were started by somebody else: their logs are where they run")
    if not mesh.nodes:
        raise ConfigError(f"mesh {name} has no nodes: `skyward-mesh resize {name} N` starts some")
    provider = kinds.make(mesh.kind, mesh.settings).for_mesh(mesh.name)
    chosen = {number: node for number, node in enumerate(mesh.nodes) if wanted in (None, number)}
    if not chosen:
        raise click.ClickException(f"mesh {name} has no node {wanted}: it has {len(mesh.nodes)}")
    shown = _Logs(name, provider, chosen, as_json=as_json)
    try:
        shown.show(most=count)
        while follow and _is_there(name):
            time.sleep(provider.log_pause)
            shown.show()
    except KeyboardInterrupt:
        if not follow:
            raise
        follow = False  # the usual end of it
    finally:
        provider.close()  # connections: the nodes are none that it has launched
    if follow:
        click.echo(f"mesh {name} is gone", err=True)
    ctx.exit(UNREACHABLE if shown.problems else 0)


def _is_there(name: str) -> bool:
    return os.path.exists(os.path.expanduser(name)) if files.is_path(name) else name in files.known()


class _Logs:
    """The logs of some nodes: what has been seen of them, and which cannot be read."""

    def __init__(self, name: str, provider: Provider, nodes: dict[int, Launched], *, as_json: bool) -> None:
        self.problems: dict[int, str] = {}
        self._mesh = name
        self._provider = provider
        self._nodes = nodes
        self._as_json = as_json
        self._seen: dict[int, tuple[str, ...]] = dict.fromkeys(nodes, ())

    def show(self, *, most: int | None = None) -> None:
        """Print what is new in each log, at first the last lines; tell of one that cannot be read, once."""
        problems: dict[int, str] = {}
        for number, node in self._nodes.items():
            try:
                lines = self._provider.read_log(node)
            except SkywardError as error:
                problems[number] = str(error)
            else:
                self._show_lines(number, lines or self._seen[number], most)
        if problems and most is None and not self._serves():  # it is being ended, and its logs go with its nodes
            return
        told, self.problems = self.problems, problems
        for number, problem in problems.items():
            if problem != told.get(number):
                where = tag(number, coloured=wants_colour(sys.stderr))
                click.echo(f"{where}its log cannot be read: {problem}", err=True)

    def _show_lines(self, number: int, lines: tuple[str, ...], most: int | None) -> None:
        new = fresh(self._seen[number], lines)
        self._seen[number] = lines
        where = tag(number, coloured=wants_colour(sys.stdout))
        for line in new if most is None else new[len(new) - min(most, len(new)) :]:
            click.echo(json_line(number, line) if self._as_json else where + readable(line))

    def _serves(self) -> bool:
        try:
            return files.load(self._mesh).serves
        except SkywardError:  # it is gone
            return False


def json_line(number: int, line: str) -> str:
    """Return a line of a log for programs."""
    return json.dumps({"node": number, "line": line})
