"""The part of some data that is a node's."""

from __future__ import annotations

from array import array
from collections import UserList
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import skyward as sky
from skyward import runtime
from skyward.runtime import InstanceInfo, Peer

if TYPE_CHECKING:
    from collections.abc import Iterator


class Tensor:
    """What `shard` needs of a torch Tensor: rows by slice or by list of numbers; `len` and `shape` as there."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Return rows and columns."""
        return (len(self.rows), 2)

    def __getitem__(self, key: slice | list[int]) -> Tensor:
        return Tensor(self.rows[key] if isinstance(key, slice) else [self.rows[number] for number in key])


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no instance behind."""
    yield
    runtime.set_instance(None)


def parts(data: Any, total: int, **options: Any) -> list[Any]:
    """Return the parts of all nodes."""
    return [sky.shard(data, node=node, total_nodes=total, **options) for node in range(total)]


def joined(found: list[list[Any]]) -> list[Any]:
    """Return the items of all parts."""
    return [item for part in found for item in part]


@pytest.mark.rule("R27")
def test_part_is_every_nth_item() -> None:
    """From the node's own number on."""
    assert parts(list(range(7)), 3) == [[0, 3, 6], [1, 4], [2, 5]]
    assert parts([1], 3) == [[1], [], []]


@pytest.mark.rule("R27")
@pytest.mark.parametrize(
    "data",
    [[1, 2, 3], (1, 2, 3), "abc", b"abc", bytearray(b"abc"), array("d", [1, 2, 3])],
    ids=lambda data: type(data).__name__,
)
@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"drop_last": True}, {"shuffle": True, "drop_last": True}])
def test_part_is_of_the_type_of_the_data(data: Any, options: dict[str, Any]) -> None:
    """However it is dealt out."""
    for part in parts(data, 2, **options):
        assert type(part) is type(data)
        assert len(part) in (1, 2)
    assert sky.shard(data, node=0, total_nodes=2) == data[::2]


@pytest.mark.rule("R27")
def test_part_of_a_range_is_a_range() -> None:
    """Of any size; shuffled, it cannot be one."""
    assert parts(range(2, 2 * 10**12), 2) == [range(2, 2 * 10**12, 2), range(3, 2 * 10**12, 2)]
    assert sorted(joined(parts(range(5), 2, shuffle=True))) == [0, 1, 2, 3, 4]


@pytest.mark.rule("R27")
@pytest.mark.parametrize("options", [{}, {"shuffle": True}])
def test_part_of_another_sequence_is_a_list(options: dict[str, Any]) -> None:
    """Its items are asked for one by one: who has a length and items need not know slices."""

    class Lines:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, number: int) -> str:
            return f"line {number}"

    assert sorted(joined(parts(Lines(), 2, **options))) == ["line 0", "line 1", "line 2"]
    assert sorted(joined(parts(UserList([1, 2, 3]), 2, **options))) == [1, 2, 3]
    assert sorted(joined(parts(memoryview(b"abc"), 2, **options))) == [97, 98, 99]


@pytest.mark.rule("R27")
@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"drop_last": True}])
def test_part_of_an_array_is_an_array_of_its_rows(options: dict[str, Any]) -> None:
    """Of the same type and with as many columns; also when it is empty."""
    data = np.arange(10, dtype=np.int16).reshape(5, 2)
    found = parts(data, 2, **options)
    whole = np.concatenate(found)
    assert all(isinstance(part, np.ndarray) and part.dtype == np.int16 for part in found)
    assert sorted(whole[:, 0].tolist()) == [0, 2, 4, 6] if "drop_last" in options else [0, 2, 4, 6, 8]
    assert (whole[:, 1] == whole[:, 0] + 1).all()
    assert sky.shard(data[:1], node=1, total_nodes=2, **options).shape == (0, 2)


@pytest.mark.rule("R27")
@pytest.mark.parametrize("options", [{}, {"shuffle": True}])
def test_part_of_a_tensor_is_a_tensor(options: dict[str, Any]) -> None:
    """It is told by its shape: torch is not imported."""
    found = parts(Tensor([1, 2, 3]), 2, **options)
    assert all(type(part) is Tensor for part in found)
    assert sorted(found[0].rows + found[1].rows) == [1, 2, 3]


@pytest.mark.rule("R27")
@pytest.mark.parametrize("options", [{}, {"shuffle": True}])
def test_part_of_a_frame_is_a_frame_of_its_rows(options: dict[str, Any]) -> None:
    """With its index and all its columns, in a series too."""
    frame = pd.DataFrame({"number": range(3), "text": list("abc")}, index=pd.Index([30, 10, 20]))
    found = parts(frame, 2, **options)
    assert all(isinstance(part, pd.DataFrame) for part in found)
    pd.testing.assert_frame_equal(pd.concat(found).sort_index(), frame.sort_index())
    column = pd.concat(parts(frame["text"], 2, **options))
    pd.testing.assert_series_equal(column.sort_index(), frame["text"].sort_index())


@pytest.mark.rule("R27")
@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"drop_last": True}])
def test_arguments_stay_aligned(options: dict[str, Any]) -> None:
    """They come back as a tuple, each as its own type."""
    numbers, squares, names = list(range(9)), np.arange(9) ** 2, tuple("abcdefghi")
    for node in range(2):
        mine, squared, named = sky.shard(numbers, squares, names, node=node, total_nodes=2, **options)
        assert [type(part) for part in (mine, squared, named)] == [list, np.ndarray, tuple]
        assert squared.tolist() == [number**2 for number in mine]
        assert named == tuple([names[number] for number in mine])


@pytest.mark.rule("R27")
@pytest.mark.parametrize("total", [1, 2, 3, 10, 11])
def test_shuffled_parts_are_disjoint_and_cover_everything(total: int) -> None:
    """And they are not in order; another seed gives others."""
    found = parts(list(range(10)), total, shuffle=True, seed=5)
    assert sorted(joined(found)) == list(range(10))
    assert found != parts(list(range(10)), total)
    assert found != parts(list(range(10)), total, shuffle=True, seed=6)
    assert found == parts(list(range(10)), total, shuffle=True, seed=np.int64(5))


@pytest.mark.rule("R27")
def test_shuffle_leaves_the_state_of_random_alone() -> None:
    """Of the user's own generator, and it does not depend on it."""
    import random

    random.seed(1)
    first = random.random(), sky.shard(list(range(9)), shuffle=True), random.random()
    random.seed(1)
    assert (random.random(), sky.shard(list(range(9)), shuffle=True), random.random()) == first
    random.seed(1)
    assert (random.random(), random.random()) == first[::2]


@pytest.mark.rule("R27")
def test_drop_last_gives_equal_contiguous_blocks() -> None:
    """What is left over at the end is nobody's."""
    assert parts(list(range(8)), 3, drop_last=True) == [[0, 1], [2, 3], [4, 5]]
    assert parts([1, 2], 3, drop_last=True) == [[], [], []]
    shuffled = parts(list(range(8)), 3, drop_last=True, shuffle=True)
    assert [len(part) for part in shuffled] == [2, 2, 2]
    assert len(set(joined(shuffled))) == 6


@pytest.mark.rule("R27")
def test_everything_is_the_part_outside_a_pool() -> None:
    """Also as blocks; shuffled it is in the order of the seed."""
    assert sky.shard([1, 2, 3]) == sky.shard([1, 2, 3], drop_last=True) == [1, 2, 3]
    assert sky.shard([1, 2], (3, 4)) == ([1, 2], (3, 4))
    assert sorted(sky.shard([1, 2, 3], shuffle=True)) == [1, 2, 3]


@pytest.mark.rule("R27")
def test_node_is_the_one_the_task_runs_on() -> None:
    """What the caller says of the nodes goes first."""
    runtime.set_instance(InstanceInfo(1, 0, total_nodes=3))
    assert sky.shard(list(range(6))) == [1, 4]
    assert sky.shard(list(range(6)), node=0) == [0, 3]
    assert sky.shard(list(range(6)), total_nodes=2) == [1, 3, 5]


@pytest.mark.rule("R27")
def test_vacant_rank_leaves_no_gap() -> None:
    """Its part goes to the nodes that are there."""
    peers = tuple(Peer(rank, "", "") for rank in (0, 2))
    found: list[int] = []
    for rank in (0, 2):
        runtime.set_instance(InstanceInfo(rank, 0, total_nodes=2, peers=peers))
        found += sky.shard([1, 2, 3])
    assert sorted(found) == [1, 2, 3]


@pytest.mark.rule("R27")
@pytest.mark.parametrize("seed", [None, "7", 0.5])
def test_seed_that_nodes_might_not_agree_on_is_refused(seed: Any) -> None:
    """It says what one is."""
    with pytest.raises(TypeError, match=rf"sky\.shard\(\) needs an int as seed, .* got {seed!r}"):
        sky.shard([1, 2, 3], shuffle=True, seed=seed)


@pytest.mark.rule("R27")
@pytest.mark.parametrize("name", ["node", "total_nodes"])
def test_node_that_is_no_number_is_named(name: str) -> None:
    """As the argument that it is."""
    options: Any = {"node": 0, "total_nodes": 2, name: "a"}
    with pytest.raises(TypeError, match=rf"^sky\.shard\(\) needs an int as {name}, got 'a'$"):
        sky.shard([1, 2], **options)


@pytest.mark.rule("R27")
def test_no_data_is_an_error() -> None:
    """It says what to pass."""
    with pytest.raises(ValueError, match=r"sky\.shard\(x\)"):
        sky.shard()  # type: ignore[call-overload]  # that is the point  # pyright: ignore[reportCallIssue]


@pytest.mark.rule("R27")
def test_lengths_that_differ_are_named() -> None:
    """All of them."""
    with pytest.raises(ValueError, match=r"\[3, 2, 3\]"):
        sky.shard([1, 2, 3], (1, 2), np.zeros(3))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"node": 2, "total_nodes": 2}, "node=2 and total_nodes=2"),
        ({"node": -1, "total_nodes": 2}, "node=-1"),
        ({"node": 1}, "total_nodes=1"),
        ({"total_nodes": 0}, "at least 1, got 0"),
    ],
)
def test_node_that_is_none_of_the_nodes_is_an_error(options: dict[str, Any], text: str) -> None:
    """It says which are."""
    with pytest.raises(ValueError, match=text):
        sky.shard([1, 2], **options)


@pytest.mark.parametrize("data", [{"a": 1}, {1, 2}, iter([1]), 5, np.float64(1)], ids=lambda data: type(data).__name__)
def test_data_without_an_order_is_refused(data: Any) -> None:
    """It says what to pass instead."""
    with pytest.raises(TypeError, match=rf"{type(data).__name__}: pass a list of its items"):
        sky.shard(data)
