"""Maps of libraries whose documentation says: put many small pieces of work into one task, by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward_scripts.bench.contestant import Task

CHUNK: Final = 2_500  # items


def chunks_of(items: Sequence[Any]) -> list[Sequence[Any]]:
    """Return the items in chunks."""
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]


def run_chunk(task: Task, items: Sequence[Any]) -> list[Any]:
    """Run a task on each item of a chunk, on a worker."""
    return [task(item) for item in items]
