"""`skyward-mesh keys`: who may use a mesh. Its nodes keep the lists, which tasks change that run there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import skyward as sky
from skyward.errors import ConfigError
from skyward.meshes.attached import client_pair
from skyward_scripts.meshes import showing
from skyward_scripts.meshes.exits import FAILED
from skyward_scripts.meshes.running import MESH, attached

if TYPE_CHECKING:
    from collections.abc import Callable

# An argument that is a key may begin with a dash, and hold the letter of any short option.
TAKES_KEY = {"ignore_unknown_options": True, "help_option_names": ["--help"]}

Listed = list[tuple[str, str]]


@click.group()
def keys() -> None:
    """Show your own key; list, add and remove the keys of those who may use a mesh.

    Whoever has brought a mesh up may always use it. Nodes that are added later know nobody else: add them there again.
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
    lists = _everywhere(mesh, "list", "", "")
    entries = list(dict.fromkeys(tuple(entry) for each in lists for entry in each))
    if as_json:
        told = [
            {
                "key": key,
                "label": label,
                "nodes": [n for n, each in enumerate(lists) if (key, label) in map(tuple, each)],
            }
            for key, label in entries
        ]
        showing.as_json(told)
        return
    for key, label in entries:
        nodes = sum((key, label) in map(tuple, each) for each in lists)
        some = f"  ({nodes} of {len(lists)} nodes)" if nodes < len(lists) else ""
        click.echo(f"{key} {label}".rstrip() + some)


@keys.command(context_settings=TAKES_KEY)
@MESH
@click.argument("key")
@click.argument("label", default="")
def add(*, mesh: str | None, key: str, label: str) -> None:
    """Let the client with this public key use a mesh; LABEL says whose it is."""
    from skyward.transport.keys import check_public

    _everywhere(mesh, "add", check_public(key), label)


@keys.command(context_settings=TAKES_KEY)
@MESH
@click.argument("key")
@click.pass_context
def remove(ctx: click.Context, *, mesh: str | None, key: str) -> None:
    """Let the client with this public key or label use a mesh no more; what it runs there ends within a second."""
    before = _everywhere(mesh, "list", "", "")
    if not any(key in entry for each in before for entry in each):
        click.echo(f"Error: no client {key!r} is admitted; see `skyward-mesh keys list`", err=True)
        ctx.exit(FAILED)
    _everywhere(mesh, "remove", key, "")


def _everywhere(mesh: str | None, action: str, key: str, label: str) -> list[Listed]:
    """Change, or read, the lists of all nodes of a mesh; return them."""
    with attached(mesh) as pool:
        found: list[Listed | None] = sky.function(_kept_there())(action, key, label) @ pool
    lists = [each for each in found if each is not None]
    if len(lists) < len(found):
        raise ConfigError("the nodes of this mesh keep no list of keys: they admit whoever has brought it up alone")
    return lists


def _kept_there() -> Callable[[str, str, str], Any]:
    """Return a function that looks after a node's list: one that travels by value, as we are not installed there."""

    def change(action: str, key: str, label: str) -> Any:
        import os

        from skyward.transport.keys import Client, read_clients, write_clients

        directory = os.environ.get("SKYWARD_KEYS")
        if not directory:
            return None
        path = os.path.join(directory, "clients")
        clients = list(read_clients(path))
        if action != "list":
            clients = [client for client in clients if key not in (client.key, client.label)]
            clients += [Client(key, label)] if action == "add" else []
            write_clients(path, clients)
        return [(client.key, client.label) for client in clients]

    return change
