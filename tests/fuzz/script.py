"""What the fuzzer feeds a target: a script of steps, as bytes; and how a script is changed.

A step is a list of frames. The first, the *control*, tells the target what to do with the others, which are
most often a message. On bytes a frame stands behind four bytes: its length, and in the highest bit whether the
step ends with it. Any bytes are a script, so that the engine's own mutations, too, lead somewhere.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from tests.fuzz.mutations import mutate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Step = list[bytes]

LAST: Final = 2**31
MOST_STEPS: Final = 40  # in one script: what takes more to show is found no faster
ROUNDS: Final = (1, 1, 1, 2, 4)  # changes in one mutation
BLIND: Final = 0.1  # share of the mutations that know nothing of steps


class Blind(Protocol):
    """The engine's own mutation of bytes."""

    def __call__(self, data: bytes, max_size: int, /) -> bytes:
        """Return changed bytes, at most ``max_size``."""
        ...


def dump(steps: Sequence[Step]) -> bytes:
    """Return a script as bytes."""
    parts: list[bytes] = []
    for step in steps:
        for index, frame in enumerate(step):
            parts += ((len(frame) | (LAST if index == len(step) - 1 else 0)).to_bytes(4, "big"), frame)
    return b"".join(parts)


def load(data: bytes) -> list[Step]:
    """Return the steps of a script, whatever the bytes are; each has a control."""
    steps: list[Step] = []
    step: Step = []
    at = 0
    while at < len(data) and len(steps) < MOST_STEPS:
        head = int.from_bytes(data[at : at + 4], "big")
        at += 4
        size = head % LAST
        step.append(data[at : at + size])
        at += size
        if head >= LAST or at >= len(data):
            steps.append(step)
            step = []
    return steps


class Mutator:
    """Changes scripts for a target whose steps `make` makes."""

    def __init__(self, make: Callable[[Random], Step], blind: Blind) -> None:
        self._make = make
        self._blind = blind

    def __call__(self, data: bytes, max_size: int, seed: int) -> bytes:
        """Return a changed script of at most ``max_size`` bytes."""
        random = Random(seed)
        if random.random() < BLIND:
            return self._blind(data, max_size)
        steps = load(data)
        for _ in range(random.choice(ROUNDS)):
            steps = self._change(steps, random)
        changed = dump(steps)
        while len(changed) > max_size and steps:
            del steps[random.randrange(len(steps))]
            changed = dump(steps)
        return changed

    def _change(self, steps: list[Step], random: Random) -> list[Step]:
        dice = random.random()
        if not steps or dice < 0.3:
            return insert(steps, [self._make(random)], random)
        place = random.randrange(len(steps))
        control, *frames = steps[place]
        if dice < 0.65 and frames:
            changed = [control, *mutate(frames, random)]
        elif dice < 0.8:
            changed = [_other_control(control, random), *frames]
        elif dice < 0.9:
            return [*steps[:place], *steps[place + 1 :]]
        else:
            return insert(steps, steps[place : place + random.randint(1, 4)], random)
        return [*steps[:place], changed, *steps[place + 1 :]]


def insert(steps: list[Step], more: list[Step], random: Random) -> list[Step]:
    """Return a script with more steps somewhere, most often at its end; too long a one loses its first."""
    place = len(steps) if random.random() < 0.6 else random.randrange(len(steps) + 1)
    return [*steps[:place], *more, *steps[place:]][-MOST_STEPS:]


def _other_control(control: bytes, random: Random) -> bytes:
    if not control or random.random() < 0.1:
        return random.randbytes(random.randint(1, 6))
    place = random.randrange(len(control))
    return control[:place] + random.randbytes(1) + control[place + 1 :]
