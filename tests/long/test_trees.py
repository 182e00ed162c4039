"""Tasks that call tasks that call tasks, by every way there is: each has its value, and none waits for ever."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator  # noqa: TC003 - it says that a task streams
from typing import TYPE_CHECKING, Any, Final

import pytest

import skyward as sky

if TYPE_CHECKING:
    from collections.abc import Callable

DEPTH: Final = 4
HANG: Final = 60.0  # seconds: some hundred times what a tree takes


def branches(chance: random.Random) -> list[int]:
    """Return the seeds of the calls below a node of the tree."""
    return [chance.getrandbits(30) for _ in range(chance.choice((1, 1, 2, 3)))]


def one_by_one(seeds: list[int], depth: int) -> int:
    """Wait for each call."""
    return sum(tree(seed, depth) >> sky for seed in seeds)


def by_futures(seeds: list[int], depth: int) -> int:
    """Have all under way."""
    return sum(future.result() for future in [tree(seed, depth) > sky for seed in seeds])


def with_one_unwanted(seeds: list[int], depth: int) -> int:
    """Cancel one that may have begun, in the midst of the others."""
    unwanted = tree(seeds[0], depth) > sky
    futures = [tree(seed, depth) > sky for seed in seeds]
    unwanted.cancel()
    return sum(future.result() for future in futures)


def in_a_group(seeds: list[int], depth: int) -> int:
    """Wait for all at once."""
    return sum(sky.gather(*[tree(seed, depth) for seed in seeds]) >> sky)


def in_a_stream(seeds: list[int], depth: int) -> int:
    """Take each as it comes."""
    return sum(sky.gather(*[tree(seed, depth) for seed in seeds], stream=True, ordered=False) >> sky)


def from_a_generator(seeds: list[int], depth: int) -> int:
    """Have another task call them."""
    return sum(sizes(seeds, depth) >> sky)


@sky.function
def tree(seed: int, depth: int) -> int:
    """Return how many nodes a tree has, by calls for all below this one."""
    if not depth:
        return 1
    chance = random.Random(seed)
    seeds = branches(chance)
    ways = (one_by_one, by_futures, with_one_unwanted, in_a_group, in_a_stream, from_a_generator)
    if chance.random() < 0.2:
        time.sleep(chance.random() * 0.01)
    return 1 + chance.choice(ways)(seeds, depth - 1)


@sky.function
def sizes(seeds: list[int], depth: int) -> Iterator[int]:
    """Yield how many nodes each of some trees has."""
    for seed in seeds:
        yield tree(seed, depth) >> sky


def size(seed: int, depth: int) -> int:
    """Return the same as the tree itself, without any call."""
    return 1 + sum(size(below, depth - 1) for below in branches(random.Random(seed))) if depth else 1


@pytest.mark.slow
@pytest.mark.rule("R22")
@pytest.mark.rule("R17")
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("executor", ["process", "thread"])
def test_random_trees_of_calls_end(executor: Any, share: Callable[[int], int], chance: random.Random) -> None:
    """On pools of any shape that have just begun: what is moved between workers, and back, is moved then."""
    for _ in range(share(200)):
        nodes, concurrency = chance.choice((1, 2)), chance.choice((1, 2, 3))
        seeds = [chance.getrandbits(30) for _ in range(4)]
        with sky.Compute(nodes=nodes, concurrency=concurrency, executor=executor, console=False) as pool:
            futures = [tree(seed, DEPTH) > pool for seed in seeds]
            assert [future.result(timeout=HANG) for future in futures] == [size(seed, DEPTH) for seed in seeds]
