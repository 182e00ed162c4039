"""Garbage for live nodes is nearly right, the same for the same seed, and made faster than it is sent."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest

from skyward.errors import ProtocolError
from skyward.wire import messages as wire
from skyward.wire.codec import Decoder, check_body
from skyward.wire.kinds import CLIENT_MESSAGES
from tests.fuzz.mutations import Garbage
from tests.fuzz.samples import ALL_TYPES, WIRE_TYPES, failure, sample
from tests.wire.strategies import BY_TYPE, INSIDE

if TYPE_CHECKING:
    from tests.fuzz.samples import Frames

COUNT = 20_000
DECODER = Decoder(ALL_TYPES)


def garbage(seed: int, types: tuple[type[wire.Message], ...] = WIRE_TYPES) -> list[Frames]:
    """Return the first messages of a seed."""
    return list(itertools.islice(Garbage(seed, types), COUNT))


def fate(frames: Frames) -> str:
    """Return what a receiver that knows all types does with a message."""
    try:
        message = DECODER.decode(frames[0])
        if message is None:
            return "ignored"
    except ProtocolError:
        return "header refused"
    try:
        check_body(message, frames[1:])
    except ProtocolError:
        return "body refused"
    return "taken"


@pytest.mark.parametrize("kind", ALL_TYPES)
def test_samples_are_good_messages(kind: type[wire.Message]) -> None:
    """What garbage is made of is what a correct peer could send; of every type that has a strategy."""
    random = Random(1)
    for _ in range(200):
        header, *body = sample(kind, random)
        message = DECODER.decode(header)
        assert isinstance(message, kind)
        check_body(message, body)


def test_samples_cover_every_message() -> None:
    """There are samples of all types, as there are strategies."""
    assert set(ALL_TYPES) == set(BY_TYPE) | set(INSIDE)
    assert set(WIRE_TYPES) == set(BY_TYPE)


def test_samples_of_failures_carry_no_exception() -> None:
    """Nothing that is made here is ever unpickled."""
    from skyward.wire import failures

    random = Random(1)
    decoded = [failures.decode(failure(random)) for _ in range(200)]
    assert {one.exception for one in decoded} == {b""}
    assert {one.status for one in decoded} >= {1, 2, 3, 4, 5, 6, 7, 8, 9}


@pytest.mark.parametrize("types", [WIRE_TYPES, CLIENT_MESSAGES], ids=["both", "client"])
def test_garbage_of_which_a_tenth_passes_the_header_and_a_tenth_does_not(types: tuple[type[wire.Message], ...]) -> None:
    """Every layer of a receiver is met."""
    fates = Counter(map(fate, garbage(1, types)))
    assert fates["header refused"] > COUNT / 10
    assert COUNT - fates["header refused"] > COUNT / 10
    assert fates["body refused"] > COUNT / 20
    assert fates["taken"] > COUNT / 10


def test_garbage_is_of_every_type() -> None:
    """No type is left out."""
    passed = Counter(frames[0][1] for frames in garbage(2) if fate(frames) == "taken")
    assert {kind.TYPE for kind in WIRE_TYPES} <= set(passed)


def test_garbage_is_for_the_node_of_an_epoch() -> None:
    """What is meant for a live node is not refused for its epoch alone."""
    found = Counter[int]()
    for header, *_ in itertools.islice(Garbage(6, (wire.Beat,), epoch=2**63), 1_000):
        with contextlib.suppress(ProtocolError):
            message = DECODER.decode(header)
            if isinstance(message, wire.Beat):
                found[message.epoch] += 1
    assert found[2**63] > 0.6 * found.total()


def test_garbage_depends_on_nothing_but_its_seed() -> None:
    """What has killed a node can be made again."""
    assert garbage(3) == garbage(3) != garbage(4)


def test_a_million_messages_are_made_within_two_minutes() -> None:
    """Making them is no part of what a test of a live node waits for."""
    start = time.process_time()
    garbage(5)
    assert (time.process_time() - start) * 1_000_000 / COUNT < 120
