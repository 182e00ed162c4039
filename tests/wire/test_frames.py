"""References to shared memory, and what stands in bodies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skyward.wire.frames import REF_SIZE, Ref, shared_among, size_of

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)


@given(U32, U32, U64, U64, U64, U64)
def test_reference_says_what_it_was_made_of(
    pid: int, fd: int, arena: int, number: int, offset: int, length: int
) -> None:
    """Its bytes are all that travels."""
    ref = Ref(bytes(Ref.make(pid, fd, arena, number, offset, length)))
    assert len(ref) == REF_SIZE
    assert ref.fields == (pid, fd, arena, number, offset, length)
    assert (ref.number, ref.length) == (number, length)


def test_size_counts_what_references_stand_for() -> None:
    """The byte window counts memory, wherever it is."""
    assert size_of([b"abc", Ref.make(1, 2, 3, 4, 5, 1_000), memoryview(b"de")]) == 1_005


def test_references_are_found_among_frames() -> None:
    """The blob never is one."""
    ref = Ref.make(1, 2, 3, 4, 5, 6)
    assert shared_among([b"blob"]) == []
    assert shared_among([b"blob", b"x", ref, b"y", ref]) == [2, 4]
