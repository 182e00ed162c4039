"""`skyward-mesh keys`: who may use a mesh. Its nodes keep the lists, and change them whatever their tasks do.

The file of the mesh notes them, for nodes that come later: see `skyward.meshes.admitted`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from skyward.errors import ConfigError
from skyward.meshes import asking, files
from skyward.meshes.admitted import Change, Clients, with_client, without_client
from skyward.meshes.attached import client_pair
from skyward_scripts.meshes import showing
from skyward_scripts.meshes.exits import Unreachable
from skyward_scripts.meshes.looking import only_mesh
from skyward_scripts.meshes.running import MESH

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from skyward.meshes.asking import Report

LOOK: Final = Change()

# A label may begin with a dash, too.
TAKES_KEY = {"ignore_unknown_options": True, "help_option_names": ["--help"]}


class TakesKey(click.Command):
    """Has a key as an argument: one may begin with a dash, and then hold the letter of a short option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Hide what is as long as a key from whoever looks for options, and put it back."""
        from skyward.transport.keys import LENGTH

        hidden = {
            f"key {number}": word
            for number, word in enumerate(args)
            if len(word) == LENGTH and word.startswith("-") and not word.startswith("--mesh=")
        }
        words = [f"key {number}" if f"key {number}" in hidden else word for number, word in enumerate(args)]
        rest = super().parse_args(ctx, words)
        ctx.params.update({name: hidden[value] for name, value in ctx.params.items() if value in hidden})
        return rest


class Listed(NamedTuple):
    """Whom one node admits."""

    node: int
    clients: Clients


@click.group()
def keys() -> None:
    """Show your own key; list, add and remove the keys of those who may use a mesh.

    Whoever has brought a mesh up may always use it. Nodes that are added later admit the same keys.
    """


@keys.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(*, as_json: bool) -> None:
    """Print your public key: whoever has a mesh adds it there, and you can use it with a copy of the mesh file."""
    key = client_pair().public
    if as_json:
        showing.as_json({"key": key})
    else:
        click.echo(key)


@keys.command(name="list")
@MESH
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_(*, mesh: str | None, as_json: bool) -> None:
    """Print the keys that the nodes of a mesh admit, beside that of its owner."""
    lists = _everywhere(only_mesh(mesh), LOOK)
    where = {
        client: [each.node for each in lists if client in each.clients] for listed in lists for client in listed.clients
    }
    if as_json:
        showing.as_json([{"key": key, "label": label, "nodes": nodes} for (key, label), nodes in where.items()])
        return
    for (key, label), nodes in where.items():
        some = f"  ({len(nodes)} of {len(lists)} nodes)" if len(nodes) < len(lists) else ""
        click.echo(f"{key} {label}".rstrip() + some)


@keys.command(cls=TakesKey, context_settings=TAKES_KEY)
@MESH
@click.argument("key")
@click.argument("label", default="")
def add(*, mesh: str | None, key: str, label: str) -> None:
    """Let the client with this public key use a mesh; LABEL says whose it is."""
    from skyward.transport.keys import check_public

    name, public = only_mesh(mesh), check_public(key)
    with _changing(name):
        _everywhere(name, Change(add=public, label=label))
        _note(name, lambda clients: with_client(clients, public, label))


@keys.command(cls=TakesKey, context_settings=TAKES_KEY)
@MESH
@click.argument("key")
def remove(*, mesh: str | None, key: str) -> None:
    """Let the client with this public key or label use a mesh no more; what it runs there ends within a second."""
    name = only_mesh(mesh)
    with _changing(name):
        known = [files.load(name).clients, *(each.clients for each in _everywhere(name, LOOK))]
        if not any(key in client for clients in known for client in clients):
            raise click.ClickException(f"no client {key!r} is admitted; see `skyward-mesh keys list`")
        _note(name, lambda clients: without_client(clients, key))  # first: whatever comes then, it is not let in anew
        _everywhere(name, Change(remove=key))


def lists_of(name: str) -> list[Clients]:
    """Return whom the nodes of a mesh admit that answer and keep a list."""
    try:
        return [each.clients for each in _everywhere(name, LOOK)]
    except (ConfigError, Unreachable):
        return []


@contextmanager
def _changing(name: str) -> Generator[None]:
    """Keep every other command from changing this mesh, if it is one of ours and no file from elsewhere."""
    if files.is_path(name):
        yield
        return
    files.load(name)
    with files.locked(name):
        yield


def _note(name: str, change: Callable[[Clients], Clients]) -> None:
    if not files.is_path(name):
        mesh = files.load(name)
        files.write(replace(mesh, clients=change(mesh.clients)))


def _everywhere(name: str, change: Change) -> list[Listed]:
    """Change, or read, the lists of all nodes of a mesh that answer; return them. Those that do not are named."""
    reports = asking.ask(files.load(name).nodes, client_pair(), change=change)
    answering = [report for report in reports if report.ok]
    if not answering:
        raise Unreachable("\n".join(["no node of this mesh answers", *map(_told, reports)]))
    for report in reports if change != LOOK else ():
        if not report.ok:
            click.echo(f"{_told(report)}: its list is as it was", err=True)
    lists = [Listed(report.number, report.clients) for report in answering if report.clients is not None]
    if len(lists) < len(answering):
        raise ConfigError("the nodes of this mesh keep no list of keys: they admit whoever has brought it up alone")
    return lists


def _told(report: Report) -> str:
    return f"node {report.number} at {report.node.endpoint} {report.problem}"
