"""Functions that hold large values, in versions without end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import skyward as sky

if TYPE_CHECKING:
    from skyward.calls import Function


def holding(number: int, size: int) -> Function[[int], int]:
    """Return a function that is sent with ``size`` bytes of its own."""
    data = number.to_bytes(4, "big") * (size // 4)

    @sky.function
    def held(more: int) -> int:
        return len(data) + int.from_bytes(data[:4], "big") + more

    return held


@sky.function
def call_each(count: int, size: int) -> list[int]:
    """Call ``count`` versions from a task, one after the other, and then the first of them again."""
    first = holding(0, size)
    values = [first(0) >> sky]
    values += [holding(number, size)(0) >> sky for number in range(1, count)]
    return [*values, first(1) >> sky]
