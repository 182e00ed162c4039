"""``skyward-node`` for people: its options make a `NodeConfig`, ``keys`` looks after who is admitted. Thin."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from skyward.config import LONGEST
from skyward.errors import ConfigError
from skyward.model import NodeConfig
from skyward.transport import keys as key_files
from skyward_node.access import CLIENTS, NODE_KEY, change_list
from skyward_node.boot import serve
from skyward_node.unwritten import Printing, is_about_writing, tell_unwritten

if TYPE_CHECKING:
    from collections.abc import Callable

    Body = Callable[..., Any]

T = TypeVar("T")

# Whose arguments are keys: one may begin with a dash, and hold the letter of any short option.
TAKES_KEY = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
KEYS_HELP = "Directory of the node's key and of the keys it admits; mode 0700."


class Seconds(click.FloatRange):
    """A time; what is no number is in no range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is no time", param, ctx)
        return seconds


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("skyward")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"


def _default_directory() -> str:
    return os.path.join(key_files.home(), "node")


def _keys_option(name: str) -> Callable[[Body], Body]:
    return click.option(
        name,
        "directory",
        metavar="DIRECTORY",
        default=_default_directory,
        show_default="~/.config/skyward/node",
        help=KEYS_HELP,
    )


class Command(Printing):
    """The command, with its own."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a node that serves prints nothing, so that its errors are about something else."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if ctx.invoked_subcommand is None or not is_about_writing(error):
                raise
            raise click.exceptions.Exit(tell_unwritten(error)) from error


@click.group(
    name="skyward-node",
    cls=Command,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--bind",
    metavar="ENDPOINT",
    help="Where to listen: tcp://ADDRESS:PORT (always encrypted, keys required) or ipc:///directory/name.sock "
    "(the directory must be yours with mode 0700; it is made if need be).",
)
@_keys_option("--keys")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 4096),
    default=1,
    show_default=True,
    help="How many tasks run at once.",
)
@click.option(
    "--executor",
    type=click.Choice(["process", "thread"]),
    default="process",
    show_default=True,
    help="Run each task in a process of its own slot, or all slots as threads of one process.",
)
@click.option("--fresh-processes", is_flag=True, help="Run each task in a process that has run no other.")
@click.option(
    "--lease",
    type=Seconds(0.1, LONGEST),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a client may be silent before its tasks are stopped, if it names no lease itself. Every pool does: "
    "what counts for it is its option lease=, not this.",
)
@click.option(
    "--max-payload",
    type=click.IntRange(0),
    default=0,
    metavar="BYTES",
    help="The largest result; 0 means half of the memory that is available now.  [default: 0]",
)
@click.option(
    "--metrics",
    type=click.IntRange(0, 65_535),
    default=None,
    metavar="PORT",
    help="Answer at http://127.0.0.1:PORT/health and /metrics, for this machine alone; 0 takes any free port.",
)
@click.option(
    "--log-format",
    type=click.Choice(["console", "json", "journal"]),
    default="console",
    show_default=True,
    help="How log lines look; journal is for systemd, which adds the time. They go to stderr.",
)
@click.option(
    "--log-file",
    metavar="FILE",
    default="",
    help="Write them, and whatever else would be printed, there; one of 16 MiB becomes FILE.1.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least important events that are logged.",
)
@click.version_option(_version(), prog_name="skyward-node")
@click.pass_context
def command(
    context: click.Context,
    *,
    bind: str | None,
    directory: str,
    concurrency: int,
    executor: Literal["process", "thread"],
    fresh_processes: bool,
    lease: float,
    max_payload: int,
    metrics: int | None,
    log_format: Literal["console", "json", "journal"],
    log_file: str,
    log_level: str,
) -> None:
    """Run a node: a daemon that runs the tasks of skyward pools on this machine.

    It serves until it is told to stop: SIGTERM lets running tasks finish (30 s at most), Ctrl-C ends it at once.
    A program that launches nodes passes --config-fd N instead, and writes the configuration there as JSON.
    """
    if context.invoked_subcommand is not None:
        return
    if bind is None:
        raise click.UsageError("say where to listen, such as --bind tcp://127.0.0.1:7700")
    try:
        config = NodeConfig(
            bind=bind,
            keys=directory,
            concurrency=concurrency,
            executor=executor,
            reuse_processes=not fresh_processes,
            lease=lease,
            max_payload=max_payload,
            log_format=log_format,
            log_level=log_level,
            log_file=os.path.abspath(log_file) if log_file else "",
            metrics=-1 if metrics is None else metrics,
        )
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    sys.exit(serve(config, interactive=True))


@command.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "--user",
    metavar="NAME",
    default="",
    help="Make a unit of the system that runs the node as this user, instead of one of your own.",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, required=True)
def unit(user: str, options: tuple[str, ...]) -> None:
    """Print a systemd unit that runs a node with these OPTIONS, such as --bind tcp://0.0.0.0:7700 --metrics 9464.

    Where it belongs, and how it is started, stands at its top. It logs to the journal unless OPTIONS say otherwise.
    """
    from skyward_node.unit import render

    chosen = list(options)
    told = command.make_context("skyward-node", list(options), resilient_parsing=False).params
    if told["bind"] is None:
        raise click.UsageError("say where to listen, such as --bind tcp://0.0.0.0:7700")
    if not told["log_file"] and not any(word.startswith("--log-format") for word in chosen):
        chosen += ["--log-format", "journal"]
    click.echo(render([*_own_command(), *chosen], user=user), nl=False)


def _own_command() -> list[str]:
    """Return what runs this command, wherever it is run from."""
    own = os.path.abspath(sys.argv[0])
    if os.path.basename(own) == "skyward-node" and os.access(own, os.X_OK):
        return [own]
    return [sys.executable, "-m", "skyward_node"]


@command.group()
def keys() -> None:
    """Show this node's key; list, add and remove the keys of the clients it admits.

    A node that serves notices within a second, and ends the sessions of clients that are removed.
    """


@keys.command()
@_keys_option("--dir")
def show(directory: str) -> None:
    """Print the node's public key, which clients need; a new pair is made if there is none."""
    click.echo(_tried(lambda: key_files.read_or_make_pair(os.path.join(directory, NODE_KEY))).public)


@keys.command(name="list")
@_keys_option("--dir")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_(directory: str, *, as_json: bool) -> None:
    """Print the keys of the clients that are admitted."""
    clients = _tried(lambda: key_files.read_clients(os.path.join(directory, CLIENTS)))
    if as_json:
        click.echo(json.dumps([client._asdict() for client in clients]))
    for client in () if as_json else clients:
        click.echo(f"{client.key} {client.label}".rstrip())


@keys.command(context_settings=TAKES_KEY)
@click.argument("key")
@click.argument("label", default="")
@_keys_option("--dir")
def add(key: str, label: str, directory: str) -> None:
    """Admit the client with this public key; LABEL says whose it is."""
    _tried(lambda: change_list(directory, add=key_files.check_public(key), label=label))


@keys.command(context_settings=TAKES_KEY)
@click.argument("key")
@_keys_option("--dir")
def remove(key: str, directory: str) -> None:
    """Admit the client with this public key or label no more."""
    clients = _tried(lambda: key_files.read_clients(os.path.join(directory, CLIENTS)))
    if len(_tried(lambda: change_list(directory, remove=key))) == len(clients):
        raise click.ClickException(f"no client {key!r} is admitted; see `skyward-node keys list`")


def _tried(action: Callable[[], T]) -> T:
    try:
        return action()
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
