"""What tests of `pool.map` share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from skyward.pool import chunks
from skyward.wire import payload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.operating import OperatedPool


def taken(results: Iterator[Any], count: int) -> list[Any]:
    """Return so many results; an exception stands for itself."""
    found: list[Any] = []
    for _ in range(count):
        try:
            found.append(next(results))
        except Exception as error:  # the test is about these
            found.append(error)
    return found


def sizes(pool: OperatedPool) -> list[int]:
    """Return how many items each chunk that was sent has."""
    return [len(payload.loads_call(bytes(task.data), task.buffers)[0][0]) for tasks in pool.submitted for task in tasks]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every item take no time, so that chunks grow as fast as they may."""
    monkeypatch.setattr(chunks, "time", SimpleNamespace(perf_counter=lambda: 0.0))
