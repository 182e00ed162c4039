"""One large array for many calls, over the network: it travels once to each node, whatever happens on the way."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import skyward as sky
from skyward.pool import feeding
from tests.rules.proxy import Cutting
from tests.rules.test_shared_arguments import WAYS, grow, hold_last, last
from tests.rules.test_tcp_losses import causes
from tests.rules.work import let_go, runs, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tests.rules.byhand import ByHand
    from tests.rules.proxy import Proxy

    Start = Callable[..., ByHand]
    MakeProxy = Callable[..., Proxy]

MIB = 2**20
CALLS = 12
ROUNDS = 12

pytestmark = pytest.mark.rule("R20")


@pytest.fixture
def nodes(by_hand: Start) -> list[ByHand]:
    """Return two nodes on this machine, which are reached as if they were on others."""
    return [by_hand("--concurrency", "2") for _ in range(2)]


@pytest.fixture
def proxies(nodes: list[ByHand], make_proxy: MakeProxy) -> list[Proxy]:
    """Return what passes on all that is said to the nodes, and from them."""
    return [make_proxy(node.port) for node in nodes]


def reach(nodes: list[ByHand], proxies: list[Proxy]) -> sky.Static:
    """Return the nodes as they are seen through the proxies."""
    pairs = zip(proxies, nodes, strict=True)
    return sky.Static([f"tcp://127.0.0.1:{proxy.port} {node.key}" for proxy, node in pairs])


def cutters(pool: sky.Compute) -> list[Any]:
    """Return what knows what each node keeps."""
    assert pool._engine is not None
    return [mate.link.cutter for mate in pool._engine.crew.mates.values() if mate.link is not None]


def nothing_is_kept(pool: sky.Compute) -> bool:
    """Return whether no node keeps anything for the pool, and all have been told so."""
    return not any(cutter._sent or cutter._dropped for cutter in cutters(pool))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [np.asarray, bytes], ids=["array", "bytes"])
def test_argument_of_all_calls_of_a_group_travels_once_to_each_node(
    nodes: list[ByHand], proxies: list[Proxy], way: str, kind: Callable[[Any], Any]
) -> None:
    """Those of a group, in each of its forms; and it is not kept any longer than by its calls."""
    value = kind(np.full(MIB, 7, "u1").repeat(8))
    with sky.Compute(reach(nodes, proxies), heartbeat=0.25) as pool:
        assert list(WAYS[way]([last(value, i) for i in range(CALLS)], pool)) == [7.0 + i for i in range(CALLS)]
        assert sum(proxy.passed for proxy in proxies) < 2.5 * len(value)
        until(lambda: nothing_is_kept(pool))


def test_argument_of_a_group_in_many_batches_travels_once_to_each_node(
    nodes: list[ByHand], proxies: list[Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What two calls of the first batch share, the others have, too."""
    monkeypatch.setattr(feeding, "FIRST", 2)
    monkeypatch.setattr(feeding, "MOST", 1)
    value = np.full(MIB, 7.0)
    with sky.Compute(reach(nodes, proxies)) as pool:
        assert sky.gather(*[last(value, i) for i in range(CALLS)]) >> pool == tuple(7.0 + i for i in range(CALLS))
        assert sum(proxy.passed for proxy in proxies) < 2.5 * value.nbytes


def test_argument_of_futures_travels_twice_at_most(nodes: list[ByHand], proxies: list[Proxy], tmp_path: Path) -> None:
    """Nobody knows before the second call that there is one."""
    value = np.full(MIB, 7.0)
    with sky.Compute(reach(nodes, proxies)) as pool:
        held = hold_last(value, str(tmp_path), "held") > pool
        futures = [last(value, i) > pool for i in range(CALLS)]
        assert [future.result() for future in futures] == [7.0 + i for i in range(CALLS)]
        assert sum(proxy.passed for proxy in proxies) < 3.5 * value.nbytes
        let_go(tmp_path, "held")
        assert held.result() == 7.0


@pytest.mark.rule("R47")
def test_argument_that_changes_between_calls_is_what_it_was_for_each(
    nodes: list[ByHand], proxies: list[Proxy], tmp_path: Path
) -> None:
    """While a task that has the first value is not through."""
    value = np.zeros(MIB)
    with sky.Compute(reach(nodes, proxies)) as pool:
        held = hold_last(value, str(tmp_path), "held") > pool
        futures: list[sky.Future[float]] = []
        for i in range(CALLS):
            value[-1] = i // 3
            futures.append(last(value) > pool)
        value[:] = 99
        assert [future.result() for future in futures] == [float(i // 3) for i in range(CALLS)]
        let_go(tmp_path, "held")
        assert held.result() == 0.0


def test_calls_that_write_into_what_is_kept_see_only_their_own_writing(
    nodes: list[ByHand], proxies: list[Proxy]
) -> None:
    """Neither those of the others, at the same time or before on that worker."""
    value = np.ones(MIB)
    with sky.Compute(reach(nodes, proxies)) as pool:
        results = sky.gather(*[grow(value, i) for i in range(2 * CALLS)]) >> pool
    assert results == tuple((float(MIB), float(MIB) * (1 + i)) for i in range(2 * CALLS))


def pages(pid: int) -> int:
    """Return the bytes of shared memory that a daemon has for what it puts together."""
    sizes: dict[int, int] = {}
    for file in Path(f"/proc/{pid}/fd").iterdir():
        if "skyward-arena" in os.readlink(file):
            status = file.stat()
            sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())


def test_node_gives_up_what_it_has_kept(nodes: list[ByHand], proxies: list[Proxy]) -> None:
    """Round after round of other arrays leave no more than what it holds ready for the next anyway."""
    (node, _), (proxy, _) = nodes, proxies
    with sky.Compute(reach([node], [proxy]), heartbeat=0.25) as pool:
        for number in range(ROUNDS):
            value = np.full(4 * MIB, float(number))
            assert sky.gather(*[last(value, i) for i in range(4)]) >> pool == tuple(float(number + i) for i in range(4))
        assert proxy.passed < (ROUNDS + 0.5) * 32 * MIB
        until(lambda: nothing_is_kept(pool))
        assert pages(node.pid) < 300 * MIB  # of 384 that came


@pytest.mark.rule("R21")
def test_arguments_that_one_call_has_are_not_kept(nodes: list[ByHand], proxies: list[Proxy]) -> None:
    """A node has those of calls that it runs, or is about to."""
    (node, _), (proxy, _) = nodes, proxies
    peak = 0
    values = [np.full(2 * MIB, float(number)) for number in range(12)]
    with sky.Compute(reach([node], [proxy])) as pool:
        for _ in sky.gather(*[last(value) for value in values], stream=True, ordered=False) >> pool:
            peak = max(peak, pages(node.pid))
        assert sky.gather(*[last(value) for value in values]) >> pool == tuple(map(float, range(12)))
    assert peak < 8 * 16 * MIB  # of 12: two run, some more have come


@pytest.mark.rule("R36")
@pytest.mark.rule("R37")
@pytest.mark.rule("F23")
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_connections_that_break_lose_no_argument(
    nodes: list[ByHand], proxies: list[Proxy], seed: int, tmp_path: Path
) -> None:
    """At any moment, also in the middle of a large one: calls that may not run twice have theirs, and run once."""
    chance = random.Random(seed)
    cutting = Cutting(lambda count: proxies[count % 2].cut(), lambda: chance.uniform(0.02, 0.3))
    with sky.Compute(reach(nodes, proxies), retries=0, heartbeat=1.0) as pool:
        with cutting:
            number = 0
            while cutting.count < 12:
                number += 1
                values: list[NDArray[Any]] = [np.full(MIB, float(number)), np.full(3 * MIB, -float(number))]
                calls = [last(values[i % 2], i) for i in range(CALLS)]
                assert sky.gather(*calls) >> pool == tuple((-1.0) ** i * number + i for i in range(CALLS))
        assert pool.snapshot().rerun == 0
        assert causes(pool) == []


@pytest.mark.rule("R36")
def test_node_that_dies_takes_no_argument_from_the_others(
    nodes: list[ByHand], proxies: list[Proxy], tmp_path: Path
) -> None:
    """Its calls run again on the other node, which gets what it lacks."""
    value = np.full(MIB, 7.0)
    with sky.Compute(reach(nodes, proxies), heartbeat=0.25) as pool:
        group = sky.gather(*[hold_last(value, str(tmp_path), str(i)) for i in range(CALLS)]) > pool
        for name in ("0", "1", "2", "3"):
            runs(tmp_path, name)
        nodes[0].process.kill()
        for i in range(CALLS):
            let_go(tmp_path, str(i))
        assert group.result() == (7.0,) * CALLS
