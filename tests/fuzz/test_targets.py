"""The short form of the fuzzer: every target takes seeded scripts, mutations of them, and any bytes.

The long form is `uv run --group fuzz python -m tests.fuzz --seconds 3600`.
"""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.transport import links
from tests.fuzz import client
from tests.fuzz.script import MOST_STEPS, dump, load
from tests.fuzz.targets import TARGETS

SCRIPTS = 150  # of each target
GENERATIONS = 4  # mutations of each script, one upon the other
SHORT = [name for name in TARGETS if name != "client"]
LONGEST = 80_000  # bytes of a script


def blind(data: bytes, most: int) -> bytes:
    """Change a byte, in the place of the engine."""
    random = Random(len(data))
    place = random.randrange(len(data) + 1)
    return (data[:place] + random.randbytes(1) + data[place + 1 :])[:most]


@pytest.mark.rule("R43")
@pytest.mark.rule("F39")
@pytest.mark.parametrize("name", SHORT)
def test_target_takes_good_scripts_and_their_mutations(name: str) -> None:
    """Whatever is wrong is refused as the protocol says, and what is kept stays right."""
    target = TARGETS[name]
    change = target.mutator(blind)
    for seed, script in enumerate(itertools.islice(target.seeds(seed=1), SCRIPTS)):
        data = script
        for generation in range(GENERATIONS):
            target(data)
            data = change(data, LONGEST, seed * GENERATIONS + generation)
            assert len(data) <= LONGEST


@pytest.mark.rule("R43")
@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=300))
def test_target_takes_any_bytes(name: str, data: bytes) -> None:
    """Every script that the engine may come to is one."""
    TARGETS[name](data)


@given(st.lists(st.lists(st.binary(max_size=10), min_size=1, max_size=4), max_size=MOST_STEPS))
def test_script_survives_the_way_through_bytes(steps: list[list[bytes]]) -> None:
    """What a target is given is what was made."""
    assert load(dump(steps)) == steps


def test_seeds_depend_on_nothing_but_their_number() -> None:
    """A run can be repeated."""
    for target in TARGETS.values():
        first, again, other = (list(itertools.islice(target.seeds(seed), 20)) for seed in (1, 1, 2))
        assert first == again != other


def test_double_of_a_link_has_all_that_a_link_has() -> None:
    """What the client's code asks of a link is there: else the fuzzer finds nothing but its own gaps."""
    real = {name for name in links.Link.__slots__ if not name.startswith("_")}
    assert real <= vars(client.Link(0)).keys()
