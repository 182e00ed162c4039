"""Tasks for SSH hosts, where nothing of the tests is installed."""

from __future__ import annotations

import subprocess

import skyward as sky


@sky.function
def hostname() -> str:
    """Return where it runs, by the one address of the machine."""
    return subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.strip()


@sky.function
def double(x: int) -> int:
    """Return twice as much."""
    return 2 * x
