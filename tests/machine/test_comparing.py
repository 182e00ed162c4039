"""Where memory is, and whether it holds the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

from skyward.machine.comparing import are_equal, locate
from skyward.machine.memory import LEAST


def test_memory_is_found_whatever_holds_it() -> None:
    """Read-only or not, as an array says itself; a part of it lies further on."""
    array = np.arange(1000.0)
    address = array.ctypes.data
    assert locate(array.data.cast("B")) == (address, array.nbytes)
    assert locate(array[10:].data.cast("B")) == (address + 80, array.nbytes - 80)
    array.setflags(write=False)
    assert locate(array.data.cast("B")) == (address, array.nbytes)
    text = b"x" * 100
    assert locate(text) == locate(memoryview(text))
    growing = bytearray(text)
    assert locate(growing)[1] == len(text)
    growing += text  # nothing is held on to, so it can grow


@pytest.mark.parametrize("place", [0, LEAST // 2, LEAST - 1])
def test_one_byte_makes_a_difference(place: int) -> None:
    """Wherever it is."""
    one, other = bytes(LEAST), bytearray(LEAST)
    assert are_equal(one, other)
    other[place] = 1
    assert not are_equal(one, other)
    assert not are_equal(memoryview(other), memoryview(one))


def test_memory_of_another_length_is_other_memory() -> None:
    """Even if one is the begin of the other."""
    assert not are_equal(b"xx", b"x")
    assert are_equal(b"", bytearray())
