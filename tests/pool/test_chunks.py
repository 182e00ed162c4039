"""Items of `pool.map` that share a chunk: they are as separate as calls are."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from skyward.errors import RemoteImportError, SerializationError, WorkerCrashedError
from skyward.pool import chunks, mapping
from skyward.pool.chunk_size import GROWTH
from tests.mapped import quick, sizes, taken
from tests.operating import OperatedPool

__all__ = ["quick"]  # a fixture


def in_one_chunk(fn: Any, items: list[Any], lead: Any = None) -> list[Any]:
    """Return the outcomes of items that share a chunk; ``lead`` is what goes before, one by one."""
    pool = OperatedPool()
    ahead = mapping.AHEAD * pool.slots
    assert len(items) == GROWTH
    results = pool.map(fn, [*[items[0] if lead is None else lead] * ahead, *items])
    found = taken(results, ahead + len(items))[ahead:]
    assert sizes(pool)[ahead:] == [GROWTH]  # and nothing ran again
    return found


@pytest.mark.rule("R15")
@pytest.mark.usefixtures("quick")
def test_values_are_as_they_were_returned() -> None:
    """What later items change in them, and what they share, is theirs alone."""
    kept: dict[str, int] = {}

    def note(number: int) -> dict[str, int]:
        kept["last"] = number
        return kept

    values = in_one_chunk(note, list(range(GROWTH)))
    assert values == [{"last": number} for number in range(GROWTH)]
    assert len({id(value) for value in values}) == len(values)


@pytest.mark.rule("R15")
@pytest.mark.usefixtures("quick")
def test_items_share_nothing() -> None:
    """Each has its own copy, as the arguments of calls do, wherever in it the shared object is."""
    shared: list[int] = []

    def push(item: tuple[int, list[int]]) -> int:
        item[1].append(item[0])
        return len(item[1])

    assert in_one_chunk(push, [(number, shared) for number in range(GROWTH)]) == [1] * GROWTH


class Picky:
    """Cannot be made again if its number is three."""

    def __init__(self, number: int, error: type[Exception]) -> None:
        self.state = number, error

    def __reduce__(self) -> Any:
        return made, self.state


def made(number: int, error: type[Exception]) -> Picky:
    if number == 3:
        raise error("no three")
    return Picky(number, error)


@pytest.mark.rule("R15")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [ValueError, StopIteration])
def test_item_or_value_that_cannot_be_made_again_is_the_only_one(error: type[Exception]) -> None:
    """On the node or here, and whatever keeps it back."""
    things = [Picky(number, error) for number in range(GROWTH)]
    for fn, given in ((lambda thing: thing.state[0], things), (lambda number: Picky(number, error), range(8))):
        found = in_one_chunk(fn, list(given))
        assert "no three" in str(found[3])
        assert [place for place, value in enumerate(found) if isinstance(value, Exception)] == [3]


@pytest.mark.rule("R15")
@pytest.mark.usefixtures("quick")
def test_value_that_cannot_be_pickled_is_the_only_one() -> None:
    """It is told as that of a call is: with the path to the culprit, and nothing of the chunk."""
    found = in_one_chunk(lambda n: {"lock": threading.Lock()} if n == 3 else n, list(range(GROWTH)))
    assert isinstance(found[3], SerializationError)
    assert "['lock'] → _thread.lock" in str(found[3])
    assert found[:3] + found[4:] == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.rule("R29")
@pytest.mark.usefixtures("quick")
def test_exit_of_an_item_is_told_at_once() -> None:
    """With its code, and without another try, of it or of others."""
    found = in_one_chunk(lambda n: sys.exit(3) if n == 3 else n, list(range(GROWTH)))
    assert isinstance(found[3], WorkerCrashedError)
    assert found[3].exitcode == 3
    assert found[:3] + found[4:] == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.rule("R20")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("make", [bytes, lambda size: [bytes(size)]], ids=["plain", "list"])
def test_large_items_are_divided(make: Any) -> None:
    """Chunks have a megabyte at most, and grow again when smaller items come; one that has more by itself is alone."""
    pool = OperatedPool()
    quarter, more = make(chunks.MOST // 4), make(2 * chunks.MOST)
    items = [*[quarter] * 40, *[more] * 5, *[make(10)] * 5_000]
    assert list(pool.map(len, items)) == [len(item) for item in items]
    found = sizes(pool)
    assert max(found[:20]) in (3, 4)
    assert max(found) > 100
    pool = OperatedPool()
    assert list(pool.map(len, [more] * 20)) == [len(more)] * 20
    assert max(sizes(pool)) == 1


@pytest.mark.rule("R20")
@pytest.mark.usefixtures("quick")
def test_chunks_of_large_values_shrink() -> None:
    """A chunk ends when it has enough of them; arrays tell at once how large they are, and go alone."""
    pool = OperatedPool()
    values = pool.map(lambda number: [number, bytes(chunks.MOST // 2)], range(300))
    assert [value[0] for value in values] == list(range(300))
    assert max(sizes(pool)[-20:]) <= 3
    pool = OperatedPool()
    assert sum(len(value) for value in pool.map(np.zeros, [chunks.MOST] * 20)) == 20 * chunks.MOST
    assert max(sizes(pool)) == 1


@pytest.mark.rule("R29")
@pytest.mark.usefixtures("quick")
def test_interrupt_while_values_are_made_loses_none() -> None:
    """Whoever goes on gets all of them."""
    strikes = [KeyboardInterrupt()]

    class Struck:
        def __init__(self, number: int) -> None:
            self.number = number

        def __setstate__(self, state: dict[str, int]) -> None:
            if state["number"] == 20 and strikes:
                raise strikes.pop()
            self.__dict__ |= state

    results = OperatedPool().map(Struck, range(60))
    found: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(value.number for value in results)
    assert found + [value.number for value in results] == list(range(60))


@pytest.mark.rule("R15")
@pytest.mark.usefixtures("quick")
def test_module_that_an_item_lacks_is_told_as_of_a_call() -> None:
    """By its name, and before the item has begun."""

    class Lacking:
        def __reduce__(self) -> Any:
            return __import__, ("no_such_module_anywhere",)

    found = in_one_chunk(id, [Lacking()] * GROWTH, lead=0)
    assert {type(error) for error in found} == {RemoteImportError}
    assert found[-1].module == "no_such_module_anywhere"


@pytest.mark.rule("R49")
def test_chunks_of_what_only_waits_grow() -> None:
    """The time that coroutines wait is no work; and so many wait together as a program may have connections, say."""

    async def wait(number: int) -> list[int]:
        await asyncio.sleep(0.02)  # twice what is worth a chunk
        return [number]

    pool = OperatedPool()
    assert list(pool.map(wait, range(400))) == [[number] for number in range(400)]
    assert max(sizes(pool)) == chunks.TOGETHER


@pytest.mark.rule("R49")
def test_coroutines_that_block_are_work() -> None:
    """Chunks of them stay small, so that all workers have some."""

    async def block(number: int) -> int:
        await asyncio.sleep(0)
        time.sleep(0.01)  # noqa: ASYNC251 - as a client does that knows nothing of coroutines
        return number

    pool = OperatedPool()
    assert list(pool.map(block, range(60))) == list(range(60))
    assert max(sizes(pool)) == GROWTH


@pytest.mark.rule("R20")
@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_items_of_a_chunk_that_was_interrupted_are_not_kept(error: type[BaseException]) -> None:
    """A cancel interrupts one; its worker idles without their arguments."""

    def interrupt(_: object) -> None:
        raise error

    with pytest.raises(error):
        chunks.Items(interrupt, "f", several=False)([b"large", b"too"])
    assert not chunks._left
