"""Clients that are killed at any moment leave no process behind (T11)."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import pytest

from tests.chaos.test_client_death import LATEST, one_death
from tests.long.figures import told

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

ROUNDS: Final = 500
BAR: Final = 2.0  # seconds after which nothing is left


@pytest.mark.slow
@pytest.mark.rule("T11")
@pytest.mark.timeout(7_200)
def test_killed_clients_leave_no_orphans(chance: random.Random, short_path: Path, share: Callable[[int], int]) -> None:
    """Neither a process, nor a file, nor shared memory."""
    times = [one_death(signal.SIGKILL, chance.uniform(0, LATEST), short_path) for _ in range(share(ROUNDS))]
    print(told("T11, client killed, until nothing is left", times, BAR))
