"""What tasks of the tests of lean nodes do: functions of a module, which no worker needs a pickler for."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import skyward as sky
from skyward.model import LATER


@sky.function
def is_there(*_: object) -> bool:
    """Return whether the worker has what pickles everything that is not plain."""
    return LATER in sys.modules


@sky.function
def make_path() -> Path:
    """Return what is not plain."""
    return Path("here")


@sky.function
def raise_lookup() -> None:
    """Raise one of Python's own exceptions."""
    raise LookupError("not here", 7)


@sky.function
def exhaust() -> None:
    """Open files until there can be no more, and fail for that reason while they are open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    opened: list[int] = []
    while True:
        opened.append(os.open(os.devnull, os.O_RDONLY))


class Slow:
    """A value that takes its time to be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        time.sleep(0.2)
        return str, ("slow",)


@sky.function
def make_slow() -> Slow:
    """Return it."""
    return Slow()
