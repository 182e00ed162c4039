"""Pools of this machine for tests of the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import skyward as sky
from skyward import compute
from tests.rules.work import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def patient_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `cancel` wait for its answer as long as a busy machine may need."""
    monkeypatch.setattr(compute, "_CANCEL_SLACK", LONG)


@pytest.fixture
def pool() -> Iterator[sky.Compute]:
    """Return an open pool of two nodes with one slot each."""
    with sky.Compute(nodes=2) as pool:
        yield pool
        pool.close(cancel=True)  # a test that has failed may have left calls that are held


@pytest.fixture
def threads() -> Iterator[sky.Compute]:
    """Return an open pool of one node with two threads."""
    with sky.Compute(nodes=1, executor="thread", concurrency=2) as pool:
        yield pool
        pool.close(cancel=True)  # the same
