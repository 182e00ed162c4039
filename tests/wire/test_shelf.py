"""What is kept of code that nobody uses, and how two sides keep the same."""

from __future__ import annotations

import random

import pytest

from skyward.wire.shelf import NEWEST, NODE, OVERHEAD, Shelf

MB = 2**20


def keys(*names: str) -> list[bytes]:
    """Return keys."""
    return [name.encode() for name in names]


def filled(limit: int, *sizes: int) -> Shelf[int]:
    """Return a shelf with functions a, b, c, … of these sizes, trimmed."""
    shelf: Shelf[int] = Shelf(limit)
    for number, size in enumerate(sizes):
        shelf.put(bytes((97 + number,)), number, size - OVERHEAD, [])
    return shelf


@pytest.mark.rule("R21")
def test_what_was_used_longest_ago_goes_first() -> None:
    """Until the rest fits."""
    shelf = filled(10 * MB, *[3 * MB] * 5)
    assert shelf.use(b"a") == 0
    assert shelf.trim() == (keys("b", "c"), [])
    assert [key in shelf for key in keys("a", "b", "c", "d", "e")] == [True, False, False, True, True]
    assert shelf.use(b"b") is None
    assert shelf.size == 9 * MB
    assert shelf.trim() == ([], [])


@pytest.mark.rule("R19")
def test_newest_functions_stay_whatever_their_size() -> None:
    """Two that take turns are not sent at every call."""
    shelf = filled(MB, *[100 * MB] * 5)
    assert len(shelf.trim()[0]) == 5 - NEWEST
    assert list(shelf.newest()) == [4, 3]


@pytest.mark.rule("R19")
def test_small_functions_stay() -> None:
    """Thousands of them fit what a node keeps."""
    shelf = filled(NODE)
    for number in range(20_000):
        shelf.put(number.to_bytes(4, "big"), number, 2_000, [])
    assert shelf.trim() == ([], [])
    assert len(shelf) == 20_000


@pytest.mark.rule("R21")
def test_functions_without_end_do_not_stay() -> None:
    """However small they are: objects and keys count, too."""
    shelf = filled(NODE)
    for number in range(200_000):
        shelf.put(number.to_bytes(4, "big"), number, 0, [])
        shelf.trim()
    assert len(shelf) == NODE // OVERHEAD


@pytest.mark.rule("R21")
def test_what_is_in_use_stays() -> None:
    """That is asked only when there is too much, and others go in its place."""
    asked: list[bool] = []

    def in_use() -> list[bytes]:
        asked.append(True)
        return keys("a", "c")

    shelf = filled(10 * MB, *[3 * MB] * 3)
    assert shelf.trim(in_use) == ([], [])
    assert not asked
    for key in keys("d", "e", "f"):
        shelf.put(key, 0, 3 * MB, [])
    assert shelf.trim(in_use) == (keys("b", "d"), [])


@pytest.mark.rule("R21")
def test_modules_count_once_and_go_with_the_last_function_that_needs_them() -> None:
    """A large source that many functions share pushes none of them out."""
    shelf: Shelf[None] = Shelf(10 * MB)
    for key in keys("a", "b", "c"):
        shelf.put(key, None, 0, [(b"m", 6 * MB), (b"m", 6 * MB)])
    shelf.put(b"d", None, 0, [(b"n", MB)])
    assert shelf.size == 7 * MB + 6 * OVERHEAD
    assert shelf.trim() == ([], [])
    shelf.use(b"a")
    shelf.put(b"e", None, 5 * MB, [(b"n", MB)])
    assert shelf.trim() == (keys("b", "c", "d"), [])
    assert shelf.has_module(b"m")
    shelf.put(b"f", None, 0, [])
    assert shelf.trim() == (keys("a"), keys("m"))
    assert not shelf.has_module(b"m")
    assert shelf.has_module(b"n")


@pytest.mark.rule("R21")
def test_shelf_counts_what_lies_on_it() -> None:
    """Whatever has come and gone."""
    chance = random.Random(1)
    sizes = {number: chance.randrange(MB) for number in range(60)}
    shelf: Shelf[int] = Shelf(5 * MB)
    for _ in range(2_000):
        number = chance.randrange(60)
        key = bytes((number,))
        if shelf.use(key) is None:
            shelf.put(key, number, sizes[number], [(bytes((number % 7,)), MB // 4)])
        shelf.trim()
        kept = list(shelf.newest())
        modules = {number % 7 for number in kept}
        assert shelf.size == sum(sizes[it] + OVERHEAD for it in kept) + len(modules) * (MB // 4 + OVERHEAD)
        assert shelf.size <= 5 * MB


@pytest.mark.rule("R22")
@pytest.mark.parametrize("seed", range(20))
def test_receiver_has_what_the_sender_thinks_it_has(seed: int) -> None:
    """Also after the sender has begun anew, with code at the receiver that was never asked for."""
    chance = random.Random(seed)
    sizes = [int(10 ** chance.uniform(2, 7)) for _ in range(60)]
    modules = [[(b"m%d" % chance.randrange(9), 2 * MB)] if chance.random() < 0.5 else [] for _ in range(60)]
    sender: Shelf[bool] = Shelf(8 * MB)
    receiver: Shelf[bool] = Shelf(8 * MB)
    for _ in range(1_000):
        calls = [chance.randrange(60) for _ in range(chance.choice((1, 1, 1, 5)))]
        broken = chance.random() < 0.02
        for number in calls:
            key = b"f%d" % number
            if key not in sender:  # a FUNCTION
                assert all(receiver.has_module(module) for module, _ in modules[number] if sender.has_module(module))
                receiver.put(key, True, sizes[number], modules[number])
                sender.put(key, True, sizes[number], modules[number])
        if broken:
            sender = Shelf(8 * MB)
            continue
        for shelf in (receiver, sender):  # a SUBMIT
            assert all(shelf.use(b"f%d" % number) for number in calls)
            shelf.trim()
