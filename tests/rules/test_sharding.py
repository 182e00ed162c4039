"""What `sky.shard` gives the tasks of a pool (R27)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import skyward as sky
from tests.rules.work import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward.model import Executor
    from tests.rules.byhand import ByHand


@sky.function
def part(data: list[int], shuffle: bool = False, drop_last: bool = False) -> list[int]:
    """Return the node's part."""
    return sky.shard(data, shuffle=shuffle, seed=3, drop_last=drop_last)


@pytest.mark.rule("R27")
@pytest.mark.parametrize("executor", ["process", "thread"])
def test_nodes_have_disjoint_parts_of_everything(executor: Executor) -> None:
    """In processes and in threads, shuffled or not; also for arrays, which arrive in shared memory."""

    @sky.function
    def sums(rows: np.ndarray, weights: list[int]) -> tuple[int, int, int]:
        mine, weighing = sky.shard(rows, weights)
        return int(mine.sum()), sum(weighing), len(mine)

    data = list(range(9))
    with sky.Compute(nodes=2, executor=executor, concurrency=2) as pool:
        assert part(data) @ pool == [[0, 2, 4, 6, 8], [1, 3, 5, 7]]
        assert part(data, drop_last=True) @ pool == [[0, 1, 2, 3], [4, 5, 6, 7]]
        shuffled = part(data, shuffle=True) @ pool
        assert sorted(shuffled[0] + shuffled[1]) == data
        assert shuffled == [sky.shard(data, shuffle=True, seed=3, node=node, total_nodes=2) for node in range(2)]
        rows = np.arange(100_000)
        (even, weight, length), (odd, *_) = sums(rows, rows.tolist()) @ pool
        assert (even, odd) == (int(rows[::2].sum()), int(rows[1::2].sum()))
        assert (weight, length) == (even, 50_000)


@pytest.mark.rule("R27")
def test_parts_cover_everything_while_a_rank_is_vacant(by_hand: Callable[..., ByHand]) -> None:
    """A node that is lost leaves its part to the others until it is replaced."""
    nodes = [by_hand() for _ in range(3)]
    with sky.Compute(sky.Static([node.address for node in nodes]), nodes=(2, 3)) as pool:
        pool.resize(3)
        until(lambda: pool.current_nodes() == 3)
        assert part([0, 1, 2, 3]) @ pool == [[0, 3], [1], [2]]
        middle = next(node for node in nodes if node.endpoint == pool.snapshot().nodes[1].endpoint)
        middle.end()
        until(lambda: pool.current_nodes() == 2)
        assert part([0, 1, 2, 3]) @ pool == [[0, 2], [1, 3]]
