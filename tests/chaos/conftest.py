"""Chaos has a seed: it is shown by a test that fails, and ``SKYWARD_SEED`` sets it."""

from __future__ import annotations

import os
import random

import pytest


@pytest.fixture(autouse=True)
def chosen_transport(transport: str) -> str:
    """Let ``--transport`` decide about all pools of these tests."""
    return transport


@pytest.fixture
def chance() -> random.Random:
    """Return a source of random numbers whose seed is printed."""
    seed = int(os.environ.get("SKYWARD_SEED") or random.SystemRandom().randrange(10**9))
    print(f"SKYWARD_SEED={seed}")
    return random.Random(seed)
