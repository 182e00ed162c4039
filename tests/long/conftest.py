"""Long runs, by one command: ``uv run pytest -m slow tests/long -s``. ``SKYWARD_SHARE=0.1`` runs a tenth of each.

Each prints what was measured, beside its bar.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def share() -> Callable[[int], int]:
    """Return a function that tells how many rounds of so many this run has."""
    part = float(os.environ.get("SKYWARD_SHARE") or 1)
    return lambda rounds: max(1, round(rounds * part))


@pytest.fixture
def chance() -> random.Random:
    """Return a source of random numbers whose seed is printed."""
    seed = int(os.environ.get("SKYWARD_SEED") or random.SystemRandom().randrange(10**9))
    print(f"SKYWARD_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(autouse=True)
def chosen_transport(transport: str) -> str:
    """Let ``--transport`` decide about all pools of these tests."""
    return transport
