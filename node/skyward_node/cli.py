"""The options of ``skyward-node`` for people. Thin: it makes a `NodeConfig` and serves."""

from __future__ import annotations

import sys
from typing import Literal

import click

from skyward.errors import ConfigError
from skyward.model import NodeConfig
from skyward_node.boot import serve


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("skyward")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"


@click.command(name="skyward-node", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--bind", required=True, metavar="ENDPOINT", help="Where to listen: ipc:///directory/name.sock.")
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
    type=click.FloatRange(0.1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a client may be silent before its tasks are stopped.",
)
@click.option(
    "--max-payload",
    type=click.IntRange(0),
    default=0,
    metavar="BYTES",
    help="The largest result; 0 means half of the memory that is available now.  [default: 0]",
)
@click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    default="console",
    show_default=True,
    help="How log lines look. They go to stderr.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least important events that are logged.",
)
@click.version_option(_version(), prog_name="skyward-node")
def command(
    *,
    bind: str,
    concurrency: int,
    executor: Literal["process", "thread"],
    fresh_processes: bool,
    lease: float,
    max_payload: int,
    log_format: Literal["console", "json"],
    log_level: str,
) -> None:
    """Run a node: a daemon that runs the tasks of skyward pools on this machine.

    It serves until it is told to stop: SIGTERM lets running tasks finish (30 s at most), Ctrl-C ends it at once.
    A program that launches nodes passes --config-fd N instead, and writes the configuration there as JSON.
    """
    try:
        config = NodeConfig(
            bind=bind,
            concurrency=concurrency,
            executor=executor,
            reuse_processes=not fresh_processes,
            lease=lease,
            max_payload=max_payload,
            log_format=log_format,
            log_level=log_level,
        )
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    sys.exit(serve(config, interactive=True))
