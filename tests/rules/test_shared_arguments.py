"""One large array for many calls: it is copied once, and each call has the value that it had when it was handed in."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import skyward as sky
from tests.rules.work import let_go, runs, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from skyward.mesh.engine import Engine

MIB = 2**20
CALLS = 6

pytestmark = [
    pytest.mark.rule("R20"),
    pytest.mark.ipc_only("only nodes behind a socket file are known to share memory with us"),
]


@sky.function
def last(value: NDArray[np.float64], number: int = 0) -> float:
    """Return the last element, and the number with it."""
    return float(value[-1]) + number


@sky.function
def hold_last(value: NDArray[np.float64], directory: str, name: str) -> float:
    """Return the last element, once the task is let go."""
    Path(directory, f"{name}-pid").write_text(str(os.getppid()))
    os.rename(Path(directory, f"{name}-pid"), Path(directory, f"{name}-runs"))
    until(Path(directory, f"{name}-go").exists)
    return float(value[-1])


@sky.function
def grow(value: NDArray[np.float64], number: int) -> tuple[float, float]:
    """Change the argument in place; return what it was, and what it has become."""
    before = float(value.sum())
    value += number
    return before, float(value.sum())


class Counting:
    """Changes an array whenever it is pickled."""

    def __init__(self, array: NDArray[np.float64]) -> None:
        self.array = array

    def __reduce__(self) -> Any:
        self.array[-1] += 1
        return str, ()


@sky.function
def ignore(value: object) -> str:
    """Return nothing of interest."""
    return "ignored"


def engine_of(pool: sky.Compute) -> Engine:
    """Return what an open pool has below."""
    assert pool._engine is not None
    return pool._engine


def taken(pool: sky.Compute) -> int:
    """Return how many bytes of its memory a pool's tasks have."""
    sharing = engine_of(pool).sharing
    assert sharing is not None
    segment = sharing._arena._segment
    if segment is None:
        return 0
    with segment._lock:
        segment._join_freed()
        return len(segment.view) - os.sysconf("SC_PAGESIZE") - sum(size for _, size in segment._free)


WAYS: dict[str, Callable[[Any, sky.Compute], Any]] = {
    "group": lambda calls, pool: sky.gather(*calls) >> pool,
    "future": lambda calls, pool: (sky.gather(*calls) > pool).result(),
    "stream": lambda calls, pool: list(sky.gather(*calls, stream=True) >> pool),
}


@pytest.mark.parametrize("way", WAYS)
def test_array_of_all_calls_of_a_group_is_copied_once(pool: sky.Compute, copied: list[int], way: str) -> None:
    """By position or keyword, read-only too, beside another array; and its memory is given back."""
    value, other = np.full(MIB, 7.0), np.full(MIB // 2, 3.0)
    other.setflags(write=False)
    calls = [last(value, i) for i in range(CALLS)] + [last(value=other, number=i) for i in range(CALLS)]
    assert list(WAYS[way](calls, pool)) == [7.0 + i for i in range(CALLS)] + [3.0 + i for i in range(CALLS)]
    assert copied == [value.nbytes, other.nbytes]
    until(lambda: not taken(pool))


def test_array_of_calls_under_way_is_not_copied_again(pool: sky.Compute, copied: list[int], tmp_path: Path) -> None:
    """Calls that are made one by one, as futures and by a lazy stream: as long as one of them has not ended."""
    value = np.full(MIB, 7.0)
    held = hold_last(value, str(tmp_path), "held") > pool
    futures = [last(value, i) > pool for i in range(CALLS)]
    assert [future.result() for future in futures] == [7.0 + i for i in range(CALLS)]
    assert list(sky.gather((last(value, i) for i in range(CALLS)), stream=True) >> pool) == [7.0 + i for i in range(6)]
    frame = {"kept": [value, "beside"]}
    assert sky.gather(*[ignore(frame) for _ in range(CALLS)]) >> pool == ("ignored",) * CALLS
    assert copied == [value.nbytes]
    let_go(tmp_path, "held")
    assert held.result() == 7.0
    until(lambda: not taken(pool))


@pytest.mark.rule("R47")
def test_array_that_changes_between_calls_is_what_it_was_for_each(pool: sky.Compute, tmp_path: Path) -> None:
    """Of a lazy stream and of futures, while a task that has the first value is not through."""
    value = np.zeros(MIB)
    held = hold_last(value, str(tmp_path), "held") > pool

    def calls() -> Iterator[sky.PendingFunction[float]]:
        for i in range(CALLS):
            value[-1] = i
            yield last(value)

    assert list(sky.gather(calls(), stream=True) >> pool) == [float(i) for i in range(CALLS)]
    futures: list[sky.Future[float]] = []
    for i in range(CALLS):
        value[-1] = -i
        futures.append(last(value) > pool)
    value[:] = 99
    assert [future.result() for future in futures] == [float(-i) for i in range(CALLS)]
    let_go(tmp_path, "held")
    assert held.result() == 0.0


@pytest.mark.rule("R47")
def test_array_that_pickling_changes_is_copied_anew(pool: sky.Compute, copied: list[int]) -> None:
    """What an argument of the user's own does while it is pickled counts for the calls behind it."""
    value = np.zeros(MIB)
    calls: list[sky.PendingFunction[Any]] = [last(value), ignore(Counting(value)), last(value), last(value)]
    assert sky.gather(*calls) >> pool == (0.0, "ignored", 1.0, 1.0)
    assert len(copied) == 2


@pytest.mark.parametrize("kind", ["pool", "threads"])
def test_calls_that_write_into_their_array_see_only_their_own_writing(
    request: pytest.FixtureRequest, kind: str
) -> None:
    """Neither those of the others, at the same time or before on that worker, nor does the caller see any."""
    pool: sky.Compute = request.getfixturevalue(kind)
    value = np.ones(MIB)
    results = sky.gather(*[grow(value, i) for i in range(4 * CALLS)]) >> pool
    assert results == tuple((float(MIB), float(MIB) * (1 + i)) for i in range(4 * CALLS))
    assert (value == 1).all()


@pytest.mark.rule("R36")
def test_node_that_dies_takes_no_array_from_the_others(tmp_path: Path) -> None:
    """Its calls run again with the same bytes, also when the caller's are others by then; all memory is given back."""
    with sky.Compute(nodes=2) as pool:
        value = np.full(MIB, 7.0)
        group = sky.gather(*[hold_last(value, str(tmp_path), str(i)) for i in range(CALLS)]) > pool
        value[:] = 99
        for name in ("0", "1"):
            runs(tmp_path, name)
        mates = engine_of(pool).crew.mates
        pid = mates[0].launched.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for i in range(CALLS):
            let_go(tmp_path, str(i))
        assert group.result() == (7.0,) * CALLS
        value[:] = 5.0
        assert sky.gather(*[last(value, i) for i in range(CALLS)]) >> pool == tuple(5.0 + i for i in range(CALLS))
        until(lambda: not taken(pool))
        del group
        until(lambda: len(arenas()) <= 1)  # that of the lost calls is gone as a whole


def arenas() -> set[int]:
    """Return the shared memory that this process writes, by its inodes."""
    found: set[int] = set()
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself
            if "skyward-arena" in os.readlink(fd):
                found.add(fd.stat().st_ino)
    return found
