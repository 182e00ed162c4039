"""What a command does when what it prints cannot be written: one line about it, or none if nobody reads it any more."""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress
from typing import Any, Final

import click

FAILED: Final = 1
CLOSED: Final = 128 + signal.SIGPIPE  # exit code if what is printed goes where nobody reads it, as a shell says it

# What writing fails with: nobody reads, no room on a disk.
_WRITING: Final = {errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT, errno.EBADF}


class Printing(click.Group):
    """A command whose help and version may be what cannot be written."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the command line, which prints these."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except OSError as error:
            if not is_about_writing(error):
                raise
            raise click.exceptions.Exit(tell_unwritten(error)) from error


def is_about_writing(error: OSError) -> bool:
    """Return whether it says that output could not be written: it is about no file of a name."""
    return error.errno in _WRITING and error.filename is None


def tell_unwritten(error: OSError) -> int:
    """Say that output could not be written, unless whoever read it has gone; return the exit code."""
    if error.errno != errno.EPIPE:
        with suppress(OSError):  # it may be stderr that fails
            click.echo(f"Error: cannot write the output: {error.strerror}", err=True)
    _forget_the_rest()
    return CLOSED if error.errno == errno.EPIPE else FAILED


def _forget_the_rest() -> None:
    """Have the interpreter not fail on what it still would write at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):  # a stream of somebody else, without a descriptor
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
