"""Loops for the tests of who polls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.transport.rigs import LONG, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Return a loop without its background thread; whatever is started is ended."""
    rig = Rig()
    yield rig
    rig.loop.close(LONG)
    rig.loop.release_fd()
    assert rig.errors == []


@pytest.fixture
def running(rig: Rig) -> Rig:
    """Return a loop whose background thread runs."""
    rig.loop.start()
    return rig
