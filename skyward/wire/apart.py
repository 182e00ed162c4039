"""Values that travel together and have nothing in common: each is a pickle by itself.

One pickle of many keeps what they share: who changes a list that two of them hold changes it in both. And one that
cannot be made again takes all others along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skyward.wire import payload

if TYPE_CHECKING:
    from collections.abc import Iterator


class NotMade(Exception):
    """A value cannot be made again; ``error`` is why."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class Apart:
    """Some values, as their pickles; ``modules`` are those that the pickles name."""

    __slots__ = ("modules", "pickles")

    def __init__(self, pickles: list[bytes], modules: frozenset[str] = payload.NO_MODULES) -> None:
        self.pickles = pickles
        self.modules = modules

    def __len__(self) -> int:
        return len(self.pickles)

    def __iter__(self) -> Iterator[Any]:
        """Make the values, one by one; `NotMade` is raised for one, and after it the next has its turn."""
        return map(_made, self.pickles)

    def __reduce__(self) -> tuple[Any, ...]:
        return Apart, (self.pickles,)


def _made(data: bytes) -> Any:
    try:
        return payload.loads_element(data)
    except Exception as error:
        raise NotMade(error) from error
