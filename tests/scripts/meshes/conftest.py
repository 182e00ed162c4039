"""Meshes of this machine, in homes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.meshing import Homes, make_homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def homes(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Homes]:
    """Give the test homes of its own, and end whatever mesh it leaves."""
    with make_homes(short_path, monkeypatch) as made:
        yield made
