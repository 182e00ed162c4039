"""Exit codes, which scripts may rely on, and which error ends in which."""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from typing import Any, Final

import click

from skyward.errors import MeshError, MeshExistsError, MisuseError, ProvisionError, SkywardError, UnknownMeshError
from skyward_node.unwritten import Printing, is_about_writing, tell_unwritten

FAILED: Final = 1  # what was run failed, or something is wrong with what was looked at
USAGE: Final = 2  # the command line, skyward.toml or a mesh file makes no sense; click uses the same
UNKNOWN: Final = 3  # there is no mesh of that name
EXISTS: Final = 4  # there is one already, or another command is changing it
PROVISION: Final = 5  # nodes could not be started, or ended
UNREACHABLE: Final = 6  # nodes do not answer, or refuse us
DECLINED: Final = 7  # asked whether to go on, somebody said no
KILLED: Final = 128  # by a signal, whose number is added, as a shell says it
INTERRUPTED: Final = KILLED + signal.SIGINT  # by Ctrl-C

_CODES: Final[tuple[tuple[type[SkywardError], int], ...]] = (
    (UnknownMeshError, UNKNOWN),
    (MeshExistsError, EXISTS),
    (ProvisionError, PROVISION),
    (MeshError, UNREACHABLE),
    (MisuseError, USAGE),
)


class Unreachable(click.ClickException):
    """Nodes do not answer."""

    exit_code = UNREACHABLE


class Declined(click.ClickException):
    """Somebody said no."""

    exit_code = DECLINED


def code_of(error: SkywardError) -> int:
    """Return the exit code for an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


class Commands(Printing):
    """A group whose commands end with these codes, and with one line about what went wrong."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Be the whole program: streams that it was started without lead nowhere."""
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - as long as we are there
        return super().main(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SkywardError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(code_of(error))
        except OSError as error:
            if not is_about_writing(error):
                raise
            ctx.exit(tell_unwritten(error))
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        finally:
            # An interrupt that has passed the evaluation of a text (many classes are made so, when they are imported)
            # leaves a mark by which ``python -m`` would end as if nobody had caught it. The next one wipes it off.
            eval("None")  # noqa: S307 - a text of ours


def show_failure(error: BaseException) -> None:
    """Show what the user's own code has raised, as Python would."""
    click.echo("".join(traceback.format_exception(error)), err=True, nl=False)


def reader_is_gone() -> bool:
    """Return whether nobody reads what is printed any more."""
    poller = select.poll()
    try:
        poller.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # no file of the system
        return False
    return any(event & select.POLLERR for _, event in poller.poll(0))
