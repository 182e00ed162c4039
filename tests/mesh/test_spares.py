"""Memory for large results, used again when nobody can see it any more, and not kept for long."""

from __future__ import annotations

import numpy as np
import pytest

from skyward.mesh.spares import IDLE, MOST, Spares

MIB = 2**20


def address(frame: memoryview) -> int:
    """Return where memory is."""
    return np.frombuffer(frame, np.uint8).ctypes.data


@pytest.mark.rule("R20")
def test_memory_of_a_value_that_is_gone_is_used_again() -> None:
    """Also for one that is a little smaller; not for one that is much smaller, or larger."""
    spares = Spares()
    first = address(spares.allocate(8 * MIB))
    frame = spares.allocate(5 * MIB)
    assert address(frame) == first
    assert len(frame) == 5 * MIB
    del frame
    assert address(spares.allocate(3 * MIB)) != first
    assert address(spares.allocate(9 * MIB)) != first


@pytest.mark.rule("R20")
def test_memory_that_somebody_refers_to_is_not_used_again() -> None:
    """A view of a part of an array that was made from it is enough."""
    spares = Spares()
    part = np.frombuffer(spares.allocate(8 * MIB), np.uint8)[100:200]
    first = part.ctypes.data - 100
    part[:] = 7
    others = [spares.allocate(8 * MIB) for _ in range(3)]
    assert first not in map(address, others)
    assert len(set(map(address, others))) == 3
    assert (part == 7).all()
    del part
    assert address(spares.allocate(8 * MIB)) == first


@pytest.mark.rule("R21")
def test_idle_memory_goes_back_to_the_system() -> None:
    """Some time after it was last seen in use; what is in use stays."""
    spares = Spares()
    kept = spares.allocate(8 * MIB)
    gone = spares.allocate(8 * MIB)
    spares.trim(100.0)
    del gone
    spares.trim(100.0 + IDLE / 2)
    assert len(spares) == 2
    spares.trim(101.0 + IDLE)
    assert len(spares) == 1
    del kept
    spares.trim(102.0 + 2 * IDLE)
    assert len(spares) == 0


@pytest.mark.rule("R21")
def test_spares_are_bounded() -> None:
    """Of many results at once the oldest are their user's alone, and what is too large always is."""
    spares = Spares()
    frames = [spares.allocate(MOST // 4) for _ in range(9)]
    assert len(spares) == 4
    del frames
    spares.allocate(MOST + 1)
    assert len(spares) == 4
    spares.close()
    assert len(spares) == 0
