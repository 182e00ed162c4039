"""Chaos has a seed: it is shown by a test that fails, and ``SKYWARD_SEED`` sets it."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.chaos.hosts import PACKAGES, Net
from tests.ssh.machines import subnet
from tests.system import install

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


@pytest.fixture(scope="session")
def addresses() -> int:
    """Return the number of a subnet that is ours, on a machine that has what nets need."""
    install(PACKAGES)
    return subnet()


@pytest.fixture
def net(addresses: int, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Net]:
    """Return a net without hosts."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(short_path))
    made = Net(addresses, short_path)
    yield made
    made.close()
