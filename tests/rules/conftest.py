"""Pools of this machine for tests of the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import skyward as sky

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pool() -> Iterator[sky.Compute]:
    """Return an open pool of two nodes with one slot each."""
    with sky.Compute(nodes=2) as pool:
        yield pool


@pytest.fixture
def threads() -> Iterator[sky.Compute]:
    """Return an open pool of one node with two threads."""
    with sky.Compute(nodes=1, executor="thread", concurrency=2) as pool:
        yield pool
