"""All targets: what is fuzzed, what their scripts are made of, and their part of the time."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.fuzz import client, daemon, parsing
from tests.fuzz.script import Mutator, dump, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fuzz.script import Blind, Step

STEPS: Final = 12  # of a seed beyond its opening, at most


def nothing(_random: Random) -> list[Step]:
    """Begin a script with nothing in particular."""
    return []


class Target(NamedTuple):
    """One thing that takes scripts."""

    run: Callable[[list[Step]], None]
    make: Callable[[Random], Step]
    share: float  # of the time of all targets
    parses: bool = False  # its corpus counts for the coverage of the parser
    opening: Callable[[Random], list[Step]] = nothing

    def __call__(self, data: bytes) -> None:
        """Run a script; anything that is raised is a finding."""
        self.run(load(data))

    def seeds(self, seed: int) -> Iterator[bytes]:
        """Give scripts of good steps, without end."""
        random = Random(seed)
        while True:
            steps = self.opening(random) if random.random() < 0.8 else []
            yield dump([*steps, *(self.make(random) for _ in range(random.randint(1, STEPS)))])

    def mutator(self, blind: Blind) -> Mutator:
        """Return what changes scripts of this target."""
        return Mutator(self.make, blind)


TARGETS: Final[dict[str, Target]] = {
    "messages": Target(parsing.run_messages, parsing.make_message, 0.3, parses=True),
    "stream": Target(parsing.run_stream, parsing.make_stream, 0.15, parses=True),
    "failures": Target(parsing.run_failures, parsing.make_failure, 0.1, parses=True),
    "daemon": Target(daemon.run_daemon, daemon.make_event, 0.3, opening=daemon.make_opening),
    "client": Target(client.run_client, client.make_word, 0.15),
}
