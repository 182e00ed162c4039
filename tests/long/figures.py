"""What long runs have measured, as one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def told(name: str, seconds: Sequence[float], bar: float) -> str:
    """Return a line about durations: how many, the usual, the late, the longest, and how many are over the bar."""
    ordered = sorted(seconds)
    late = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    over = sum(each > bar for each in ordered)
    middle = ordered[len(ordered) // 2]
    return (
        f"{name}: {len(ordered)} times, median {middle * 1e3:.1f} ms, p99 {late * 1e3:.1f} ms, "
        f"longest {ordered[-1] * 1e3:.1f} ms; {over} over the bar of {bar * 1e3:.0f} ms"
    )
