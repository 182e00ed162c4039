"""How many items go together, by time and by bytes."""

from __future__ import annotations

from skyward.pool.chunk_size import GROWTH, WORTHWHILE, ChunkSize
from skyward.pool.chunks import LARGEST


def sized(*seconds: float, most: int = LARGEST, alone: bool = False) -> list[int]:
    """Return the sizes after items that took so long, and before them."""
    size = ChunkSize(alone=alone)
    sizes = [size.items]
    for each in seconds:
        size.note_time(each, most)
        sizes.append(size.items)
    return sizes


def test_cheap_items_go_in_chunks_that_grow() -> None:
    """Not at once: the first may not be like the others."""
    assert sized(0.0, 0.0, 0.0) == [1, GROWTH, GROWTH**2, GROWTH**3]
    assert sized(*[0.0] * 20)[-1] == LARGEST


def test_chunk_has_as_much_work_as_is_worth_a_message() -> None:
    """As soon as it is known that items are dear, there are fewer."""
    assert sized(WORTHWHILE / 3.5, WORTHWHILE / 3.5, 2 * WORTHWHILE) == [1, 3, 3, 1]


def test_worker_says_how_many_it_would_have() -> None:
    """Of those that are awaited together."""
    assert sized(0.0, 0.0, most=5) == [1, 5, 5]


def test_items_that_stand_alone_stay_so() -> None:
    """However cheap they are."""
    assert sized(0.0, 0.0, alone=True) == [1, 1, 1]


def test_chunks_that_were_divided_grow_little_by_little() -> None:
    """To find out that one is too large costs a copy of it."""
    size = ChunkSize(alone=False)
    for _ in range(9):
        size.note_time(0.0, LARGEST)
    size.note_parts(LARGEST, 512)
    found = [size.items]
    for _ in range(3):
        size.note_parts(size.items, 1)
        found.append(size.items)
    assert found == [16, 20, 25, 31]
