"""What befalls whom, and when: the same for the same seed.

PURE.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that befalls a host so many seconds after the beginning, and how many it lasts, if it does."""

    at: float
    host: int
    kind: str
    lasts: float


def schedule(
    seed: int,
    kinds: Sequence[str],
    hosts: int,
    *,
    every: float,
    length: float,
    lasts: tuple[float, float] = (0.0, 0.0),
) -> tuple[Fault, ...]:
    """Return the faults of so many seconds, about one in every so many.

    Each kind comes as often as it is named: they are dealt like cards, from a deck that is shuffled when it is empty.
    """
    chance = random.Random(seed)
    faults: list[Fault] = []
    deck: list[str] = []
    at = chance.uniform(0.5, 1.0) * every
    while at < length:
        if not deck:
            deck = list(kinds)
            chance.shuffle(deck)
        faults.append(Fault(at, chance.randrange(hosts), deck.pop(), chance.uniform(*lasts)))
        at += chance.uniform(0.8, 1.2) * every
    return tuple(faults)
