"""Versions of code come without end, and memory does not grow with them."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest

import skyward as sky
from tests.rules.processes import family
from tests.rules.rebinding import call_each, holding
from tests.rules.work import add

if TYPE_CHECKING:
    from collections.abc import Iterator

MB: Final = 2**20
SIZE: Final = 2 * MB
COUNT: Final = 100  # versions: 200 MiB
BOUND: Final = 100 * MB  # by which a process may grow: a node keeps 64 MiB of code, a worker 32 MiB and what that makes


class Growth:
    """How much the client, the nodes and their workers have grown."""

    def __init__(self, pool: sky.Compute) -> None:
        self._pool = pool
        self._before = self._uses()

    def _uses(self) -> dict[tuple[str, int], int]:
        gc.collect()
        processes = [psutil.Process(), *family(self._pool)]
        return {(process.name(), process.pid): process.memory_full_info().uss for process in processes}

    def by_process(self) -> dict[str, int]:
        """Return the bytes; a worker that has come since has grown by all it has."""
        return {f"{name} {pid}": uses - self._before.get((name, pid), 0) for (name, pid), uses in self._uses().items()}


@pytest.fixture(params=["process", "thread"])
def pool(request: pytest.FixtureRequest) -> Iterator[sky.Compute]:
    """Return a pool of one node that has run something."""
    with sky.Compute(nodes=1, executor=request.param) as pool:
        assert add(1, 2) >> pool == 3
        yield pool


@pytest.mark.rule("R21")
@pytest.mark.rule("R48")
def test_memory_does_not_grow_with_rebinding(pool: sky.Compute) -> None:
    """A captured name is bound a hundred times to 2 MiB: each is new code, and runs."""
    data = b""

    @sky.function
    def first(more: int) -> int:
        return int.from_bytes(data[:4], "big") + more

    growth = Growth(pool)
    for number in range(COUNT):
        data = number.to_bytes(4, "big") * (SIZE // 4)
        assert first(1) >> pool == number + 1
    grown = growth.by_process()
    assert len(grown) >= 4  # client, daemon, template, worker
    assert max(grown.values()) < BOUND, grown


@pytest.mark.rule("R21")
@pytest.mark.rule("R22")
def test_memory_does_not_grow_with_code_of_calls(pool: sky.Compute) -> None:
    """A task makes a hundred functions of 2 MiB each and calls them; the first runs again when all have."""
    growth = Growth(pool)
    expected = [SIZE + number for number in range(COUNT)]
    assert call_each(COUNT, SIZE) >> pool == [*expected, SIZE + 1]
    assert pool.snapshot().rerun == 0
    grown = growth.by_process()
    assert max(grown.values()) < BOUND, grown


@pytest.mark.rule("R21")
@pytest.mark.rule("R19")
def test_code_that_was_given_up_runs_again(pool: sky.Compute) -> None:
    """Wherever it was forgotten, it is there when it is called."""
    functions = [holding(number, SIZE) for number in range(COUNT // 2)]
    for _ in range(2):
        for number, function in enumerate(functions):
            assert function(5) >> pool == SIZE + number + 5
    futures: list[Any] = [function(6) > pool for function in functions]
    assert [future.result() for future in futures] == [SIZE + number + 6 for number in range(len(functions))]
    assert pool.snapshot().rerun == 0
