"""Copies of what can change while it waits to be sent: made, and found again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skyward.pool.placing import WORTH
from skyward.pool.snapshots import Snapshots
from skyward.wire import payload
from skyward.wire.frames import Payload, Ref, Repeated
from skyward.wire.parcels import LARGEST

pytestmark = [pytest.mark.rule("R47"), pytest.mark.rule("R20")]

SMALL = WORTH // 2  # bytes: they travel beside the pickle, and are not looked for


@pytest.fixture
def snapshots() -> Snapshots:
    """Return what one pool knows."""
    return Snapshots()


def take(snapshots: Snapshots, *args: Any) -> Payload:
    """Return the payload of a call as it waits to be sent."""
    return snapshots.take(payload.dumps_call(args, {})[0])


@pytest.mark.parametrize("size", [SMALL, WORTH])
@pytest.mark.parametrize("make", [lambda size: np.zeros(size, "u1"), bytearray], ids=["array", "bytearray"])
def test_copy_is_not_changed_with_the_original(snapshots: Snapshots, make: Any, size: int) -> None:
    """What is done to an array or bytearray afterwards does not show in it; the next call has it."""
    value = make(size)
    packed = [take(snapshots, value)]
    value[0] = 99
    packed.append(take(snapshots, value))
    got = [payload.loads_call(each.data, each.buffers)[0][0] for each in packed]
    assert [int(each[0]) for each in got] == [0, 99]


@pytest.mark.parametrize("size", [SMALL, WORTH])
def test_copy_is_not_changed_through_a_read_only_view(snapshots: Snapshots, size: int) -> None:
    """A view that is read-only but whose array is not is copied as well."""
    base = np.zeros(size)
    view = base[:]
    view.flags.writeable = False
    packed = take(snapshots, view)
    base[0] = 99
    assert payload.loads_call(packed.data, packed.buffers)[0][0][0] == 0


@pytest.mark.parametrize("size", [SMALL, WORTH])
def test_bytes_are_not_copied(snapshots: Snapshots, size: int) -> None:
    """They cannot change."""
    data = b"x" * size
    for _ in range(2):
        buffer = take(snapshots, data, [1]).buffers[0]
        assert (buffer.obj if isinstance(buffer, memoryview) else buffer) is data


def test_references_stay(snapshots: Snapshots) -> None:
    """What lies in shared memory was copied there."""
    ref = Ref.make(1, 2, 3, 4, 5, 6)
    packed = snapshots.take(Payload(b"", (ref, bytes(WORTH))))
    assert packed.buffers[0] is ref


def test_copy_is_found_again_while_a_call_has_it(snapshots: Snapshots) -> None:
    """And if it is cut, that is said; also inside another object, and from another object on the same memory."""
    value, other = np.zeros(LARGEST), np.ones(WORTH)
    first = take(snapshots, value)
    assert type(first.buffers) is tuple
    again = take(snapshots, other, {"key": [value[:]]})
    assert type(again.buffers) is Repeated
    assert [again.buffers[0] is first.buffers[0], again.buffers[1] is first.buffers[0]] == [False, True]
    assert type(take(snapshots, other).buffers) is tuple
    del first, again
    assert not snapshots._copies._known
    assert type(take(snapshots, value).buffers) is tuple


def test_copy_is_found_only_if_it_is_the_same(snapshots: Snapshots) -> None:
    """By length, too: a part of an array begins where the array does."""
    value = np.zeros(2 * WORTH)
    held = [take(snapshots, value), take(snapshots, value[:WORTH])]
    value[-1] = 1
    held.append(take(snapshots, value))
    assert len({id(packed.buffers[0]) for packed in held}) == 3
    assert all(type(packed.buffers) is tuple for packed in held)
