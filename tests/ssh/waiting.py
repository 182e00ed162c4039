"""Waiting for what happens in another namespace, of which there are no events here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.ssh.machines import PATIENCE, PAUSE

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_for(fact: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Return when something is so; raises `AssertionError` if that takes too long."""
    deadline = time.monotonic() + patience
    while not fact():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(PAUSE)
