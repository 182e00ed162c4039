"""Values that travel together and have nothing in common: each is a pickle by itself.

One pickle of many keeps what they share: who changes a list that two of them hold changes it in both. And one that
cannot be made again takes all others along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skyward.wire import payload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Apart:
    """Some values, as their pickles; ``modules`` are those that the pickles name."""

    __slots__ = ("modules", "pickles")

    def __init__(self, pickles: Sequence[bytes], modules: frozenset[str] = payload.NO_MODULES) -> None:
        self.pickles = pickles
        self.modules = modules

    def __len__(self) -> int:
        return len(self.pickles)

    def __iter__(self) -> Iterator[Any]:
        """Make the values, one by one; after one that raises the next has its turn."""
        return map(_made, self.pickles)

    def __reduce__(self) -> tuple[Any, ...]:
        return Apart, (self.pickles,)

    @classmethod
    def of(cls, values: Sequence[Any], most: int) -> Apart | None:
        """Return these values, or None if they have more than ``most`` bytes; raises what pickling them raises."""
        pickles: list[bytes] = []
        modules: set[str] = set()
        size = 0
        for value in values:
            data, named = payload.dumps_alone(value)
            pickles.append(data)
            modules |= named
            size += len(data)
            if size > most:
                return None
        return cls(pickles, frozenset(modules))


def _made(data: bytes) -> Any:
    try:
        return payload.loads_element(data)
    except StopIteration as error:  # which would end the iteration
        raise RuntimeError(f"unpickling it raised {error!r}") from error
