"""Functions that tests run on instances. Nothing is imported here that a node does not have."""

from __future__ import annotations

import os
import subprocess
import time

import skyward as sky


@sky.function
def where() -> str:
    """Return the address that a node's machine has."""
    said = subprocess.run(["ip", "-4", "-o", "address", "show", "eth0"], capture_output=True, text=True, check=True)
    return said.stdout.split()[3]


@sky.function
def variable(name: str) -> str | None:
    """Return a variable of the node's environment."""
    return os.environ.get(name)


@sky.function
def has(name: str) -> bool:
    """Return whether a worker has a variable, without saying what is in it."""
    return name in os.environ


@sky.function
def slowly(x: int) -> int:
    """Return the argument, after a while."""
    time.sleep(0.2)
    return x


@sky.function
def hold(seconds: float) -> float:
    """Return after so long."""
    time.sleep(seconds)
    return seconds
