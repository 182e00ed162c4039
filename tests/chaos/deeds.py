"""What tasks of these tests do. Apart from the tests, so that workers need not import pytest."""

from __future__ import annotations

import time
from pathlib import Path

import skyward as sky
from tests.chaos.operations import Log
from tests.rules.work import until


@sky.function
def deed(directory: str, number: int, token: str, seconds: float) -> str:
    """Note that it starts, take its time, note that it has finished, and return the token."""
    info = sky.instance_info()
    log = Log(directory, f"node{info.node if info else ''}")
    log.note("started", number, token)
    time.sleep(seconds)
    log.note("finished", number, token)
    log.close()
    return token


@sky.function
def nap(seconds: float) -> float:
    """Take its time."""
    time.sleep(seconds)
    return seconds


@sky.function
def gated(directory: str, number: int, token: str, gate: str) -> str:
    """Do the same, but wait until a file is there."""
    info = sky.instance_info()
    log = Log(directory, f"node{info.node if info else ''}")
    log.note("started", number, token)
    until(Path(gate).exists)
    log.note("finished", number, token)
    log.close()
    return token
