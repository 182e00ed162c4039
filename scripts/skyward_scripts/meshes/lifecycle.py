"""`skyward-mesh up`, `down`, `resize`, `gc`: what starts and ends nodes."""

from __future__ import annotations

import os
import sys
import tomllib
from contextlib import suppress
from dataclasses import replace
from math import isnan
from typing import TYPE_CHECKING, Any, NoReturn

import click

from skyward.errors import ConfigError, SkywardError, UnknownMeshError
from skyward.meshes import collecting, described, files, kinds, raising
from skyward.model import Nodes, counted
from skyward_scripts.meshes import admitting, showing
from skyward_scripts.meshes.endings import ending
from skyward_scripts.meshes.exits import Declined, code_of
from skyward_scripts.meshes.looking import mesh_as_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.meshes.described import Description
    from skyward.meshes.files import Mesh
    from skyward.meshes.telling import Teller
    from skyward.providers.base import Provider, Quote

YES = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
PROVIDER = click.option("--provider", "kind", metavar="KIND", help="Where nodes come from: local, ssh or aws.")
SET = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="An argument of the provider, as in skyward.toml: --set region=eu-central-1. May be repeated.",
)


@click.command()
@click.argument("name")
@PROVIDER
@SET
@click.option("--nodes", "-n", "count", type=click.IntRange(1), help="How many nodes.")
@click.option("--concurrency", type=click.IntRange(1, 4096), help="How many tasks each node runs at once.")
@click.option("--dry-run", is_flag=True, help="Say what would be started, and what it would cost, and start nothing.")
@YES
@JSON
@click.pass_context
def up(
    ctx: click.Context,
    *,
    name: str,
    kind: str | None,
    settings: tuple[str, ...],
    count: int | None,
    concurrency: int | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Start the nodes of a mesh, and leave them running.

    NAME is described in skyward.toml, or here by --provider and --set. Before anything is started that costs money the
    price is shown. Ctrl-C, or a node that does not start, ends all that was started.
    """
    wanted = raising.plan(_described(name, kind, settings, count, concurrency))
    if name in files.known():
        files.claim(files.Mesh(name=name))  # says that it is there, before anybody is asked about a price
    what = _summary(wanted)
    if dry_run:
        if as_json:
            showing.as_json({"name": name, "nodes": wanted.count, "provider": repr(wanted.provider), **_price(wanted)})
        else:
            click.echo(f"{what}\nnothing was started")
        return
    with ending(ctx), showing.teller(quiet=as_json) as teller:
        teller.say(what)
        _agree(wanted.quote, yes=yes)
        mesh = raising.up(wanted, teller)
        if not as_json:
            teller.say(f'mesh {name} is up: sky.Compute(mesh="{name}"), skyward-mesh run -m {name}; then: down {name}')
    if as_json:
        showing.as_json(mesh_as_json(mesh))


def _described(
    name: str, kind: str | None, settings: tuple[str, ...], count: int | None, concurrency: int | None
) -> Description:
    if kind is None:
        said = described.load(name, "describe it there, or say --provider local")
    else:
        said = described.Description(name=described.check_name(name), kind=kind)
    told = {**said.settings, **_settings(said.kind, settings)}
    options = said.options if concurrency is None else {**said.options, "concurrency": concurrency}
    nodes = said.nodes if count is None else Nodes(count)
    return replace(said, settings=told, nodes=nodes, options=options)


def _settings(kind: str, words: tuple[str, ...]) -> dict[str, Any]:
    """Return what ``--set`` says; paths are relative to the working directory."""
    paths = kinds.class_of(kind).paths
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"--set takes KEY=VALUE, got {word!r}")
        value = setting(text)
        found[key] = os.path.abspath(os.path.expanduser(value)) if key in paths and isinstance(value, str) else value
    return found


def setting(text: str) -> Any:
    """Return a value as TOML writes it; what is no TOML is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _summary(wanted: raising.Plan) -> str:
    spec = wanted.spec
    nodes, tasks = counted(wanted.count, "node"), counted(spec.concurrency, "task")
    line = f"mesh {wanted.description.name}: {nodes} of {wanted.provider!r}, {tasks} at once each"
    return line + _cost(wanted.quote)


def _cost(quote: Quote) -> str:
    hourly = "at a price that could not be learnt" if isnan(quote.hourly) else f"about ${quote.hourly:.2f} an hour"
    price = f"{hourly}, until it is ended" if quote.hourly else ""
    text = ": ".join(filter(None, (quote.text, price)))
    return f"\n{text}" if text else ""


def _price(wanted: raising.Plan) -> dict[str, Any]:
    return {"machines": wanted.quote.text, "usd_per_hour": None if isnan(wanted.quote.hourly) else wanted.quote.hourly}


def _agree(quote: Quote, *, yes: bool) -> None:
    """Ask whether to go on, if that costs money and nobody has said so already."""
    if not quote.hourly or yes:
        return
    if not is_asked():
        raise click.UsageError("this costs money, and there is nobody to ask: say -y")
    if not click.confirm("start it?"):
        raise Declined("nothing was started")


def is_asked() -> bool:
    """Return whether there is somebody who could answer."""
    return sys.stdin.isatty()


@click.command()
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="End all meshes.")
@click.option("--force", is_flag=True, help="Forget what cannot be reached, and may run on.")
@PROVIDER
@SET
@YES
def down(*, name: str | None, every: bool, force: bool, kind: str | None, settings: tuple[str, ...], yes: bool) -> None:
    """End a mesh: its nodes, whatever they run, and all else that was made for it.

    It works from any directory. Without a mesh file, as on another machine, the nodes are found by their marks alone:
    then NAME is described in skyward.toml, or --provider and --set say where to look.

    A mesh of which something cannot be ended keeps its file, so that it can be tried again; --all goes on with the
    others then.
    """
    if bool(name) == every:
        raise click.UsageError("say which mesh, or --all")
    names = files.known() if every else (name or "",)
    if not names:
        click.echo("there is no mesh")
    if names and not yes and is_asked() and not click.confirm(f"end {', '.join(names)}?"):
        raise Declined("nothing was ended")
    failures: dict[str, SkywardError] = {}
    with showing.teller() as teller:
        for each in names:
            try:
                _end(each, kind, settings, teller, force=force)
            except SkywardError as error:  # the others are ended all the same
                failures[each] = error
                continue
            teller.say(f"mesh {each} is gone")
    if failures:
        _tell_unended(failures, every=every)


def _tell_unended(failures: dict[str, SkywardError], *, every: bool) -> NoReturn:
    """End with the code of the first failure."""
    first = next(iter(failures.values()))
    if not every:
        raise first
    lines = "\n".join(f"mesh {name}: {failure}" for name, failure in failures.items())
    click.echo(f"Error: {len(failures)} of the meshes could not be ended:\n{lines}", err=True)
    click.get_current_context().exit(code_of(first))


def _end(name: str, kind: str | None, settings: tuple[str, ...], teller: Teller, *, force: bool) -> None:
    """End a mesh as its file says, or if there is none that makes sense, by the marks of its nodes."""
    if not os.path.lexists(files.path_of(described.check_name(name))):
        provider = _provider(name, kind, settings)
        if not collecting.sweep(name, provider, teller):
            raise UnknownMeshError(name, files.known(), f"and {provider!r} has nothing of that name")
        return
    try:
        files.load(name)
    except ConfigError as error:
        if not force:
            try:
                provider = _provider(name, kind, settings)
            except UnknownMeshError as unknown:
                raise ConfigError(f"{error}; {unknown.advice}, or --force to forget it") from None
            collecting.sweep(name, provider, teller)
        teller.say(f"removed the mesh file: {error}")
        files.remove(name)
    else:
        raising.down(name, teller, force=force)


def _provider(name: str, kind: str | None, settings: tuple[str, ...]) -> Provider:
    """Return where the nodes of a mesh are looked for by their marks; raises `UnknownMeshError` if nobody says it."""
    try:
        return _described(name, kind, settings, None, None).provider().for_mesh(name)
    except UnknownMeshError:
        raise UnknownMeshError(name, files.known(), "say --provider and --set to look for its nodes") from None


@click.command()
@click.argument("name")
@click.argument("count", type=click.IntRange(0))
@click.option("--dry-run", is_flag=True, help="Say what it would cost, and change nothing.")
@YES
@click.pass_context
def resize(ctx: click.Context, *, name: str, count: int, dry_run: bool, yes: bool) -> None:
    """Give a mesh COUNT nodes. Nodes without work go first, and the first node last.

    Unless there shall be fewer, nodes that give no answer are replaced: the number that a mesh has already does that
    alone.

    Pools that are attached find new nodes when they are resized themselves; of those that go, they run what was not
    finished elsewhere.
    """
    quote = raising.growth(name, count)
    there = len(files.load(name).nodes)
    if dry_run:
        click.echo(f"mesh {name}: {counted(there, 'node')}, {count} wanted{_cost(quote)}")
        return
    with ending(ctx), showing.teller() as teller:
        if quote.hourly:
            teller.say(f"mesh {name}: {counted(count, 'node')}{_cost(quote)}")
        _agree(quote, yes=yes)
        mesh = raising.resize(name, count, teller, admitting.lists_of(name) if count >= there else ())
        teller.say(f"mesh {name} has {counted(len(mesh.nodes), 'node')}")


@click.command()
@PROVIDER
@SET
@click.option("--dry-run", is_flag=True, help="Say what would be ended, and end nothing.")
@JSON
def gc(*, kind: str | None, settings: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """End what nobody looks after: what commands and programs left that were killed.

    It looks on this machine, and wherever meshes are, or are described in skyward.toml, or programs of this machine
    were killed; or where --provider and --set say. What is found carries our marks, and needs no local file to be
    found. What belongs to a program that was killed on another machine is ended when 15 minutes have passed since its
    last sign of life.

    With a place or a skyward.toml that makes no sense it looks everywhere else, and then exits with 2.
    """
    providers, mistakes = _providers(kind, settings)
    try:
        with showing.teller(quiet=as_json) as teller:
            gone = collecting.collect(providers, teller, dry_run=dry_run)
        if as_json:
            showing.as_json({"dry_run": dry_run, "gone": gone})
        else:
            for line in gone:
                click.echo(f"{'would end' if dry_run else 'ended'}: {line}")
            click.echo(f"{counted(len(gone), 'thing')} {'to end' if dry_run else 'ended'}")
    finally:
        for mistake in mistakes:
            click.echo(f"Error: {mistake}", err=True)
    if mistakes:
        click.get_current_context().exit(code_of(mistakes[0]))


def _providers(kind: str | None, settings: tuple[str, ...]) -> tuple[list[Provider], list[ConfigError]]:
    """Return where to look, and why not wherever somebody has described."""
    places: list[tuple[str, dict[str, Any]]] = [("local", {})]
    mistakes: list[ConfigError] = []
    if kind is not None:
        places.append((kind, _settings(kind, settings)))
    else:
        good, said = described.load_good()
        mistakes += said
        places += [(mesh.kind, mesh.settings) for mesh in _readable()]
        places += [(mesh.kind, mesh.settings) for mesh in good]
        places += [(name, settings) for name in kinds.names() for settings in kinds.class_of(name).remembered()]
    different = {repr(place): place for place in places if place[0] != files.NOBODYS}
    providers: list[Provider] = []
    for place in different.values():
        try:
            providers.append(kinds.make(*place))
        except ConfigError as error:  # such as a file that is not there any more
            mistakes.append(error)
    return providers, mistakes


def _readable() -> Iterator[Mesh]:
    """Yield the meshes whose files can be read; `collecting.collect` tells of the others."""
    for name in files.known():
        with suppress(ConfigError):
            yield files.load(name)
