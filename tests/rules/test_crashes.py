"""Workers that die under their tasks (R38, F12, F13, F14, F18)."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

import pytest

import skyward as sky
from tests.rules.processes import ended, family
from tests.rules.work import BUSY, add, die_by, hold, let_go, note, place, runs, until

SLOT_BACK = 2.0 * BUSY  # seconds in which a slot is there again


@sky.function
def die_once(directory: str, way: str) -> tuple[str, int]:
    """Die at the first run, and return at the second."""
    mark = Path(directory, way)
    if not mark.exists():
        mark.write_text(str(os.getpid()))
        if way == "exit":
            os._exit(9)
        if way == "segfault":
            ctypes.string_at(0)
        os.kill(os.getpid(), signal.SIGKILL)
    return mark.read_text(), os.getpid()


def slots_are_back(pool: sky.Compute) -> None:
    """Check that every slot takes tasks again in time."""
    began = time.monotonic()
    assert sorted(rank for _, _, rank in place(1) @ pool) == list(range(pool.current_nodes()))
    assert time.monotonic() - began < SLOT_BACK


@pytest.mark.rule("R38")
@pytest.mark.rule("F12")
def test_first_crash_is_mended_silently(pool: sky.Compute, tmp_path: Path) -> None:
    """By a re-run on a fresh worker, however it died, if a single retry is left."""
    for way in ("exit", "segfault", "kill"):
        first, second = die_once(str(tmp_path), way).with_retries(1) >> pool
        assert int(first) != second
        assert ended([int(first)], 0.0)
    slots_are_back(pool)


@pytest.mark.rule("R38")
@pytest.mark.rule("F12")
def test_second_crash_is_told(pool: sky.Compute, tmp_path: Path) -> None:
    """With what happened, where, and how often; more retries buy no third run."""
    for number, retries in ((signal.SIGKILL, 1), (signal.SIGABRT, 50)):
        with pytest.raises(sky.WorkerCrashedError, match=f"killed by {number.name}, 2 times") as caught:
            die_by(number, str(tmp_path)).with_retries(retries).on(1) >> pool
        error = caught.value
        assert (error.signal, error.exitcode, error.attempts, error.oom) == (number, None, 2, False)
        assert (error.node, error.function) == (1, "die_by")
        assert "last words" in error.stderr
        assert "last words" in str(error)
        assert error.peak_memory is not None
        assert 2**20 < error.peak_memory < 2**33
        assert isinstance(error, RuntimeError)
    assert (tmp_path / "deaths").read_text() == "xxxx"
    slots_are_back(pool)


@pytest.mark.rule("R38")
def test_without_retries_a_crash_is_told_at_once(pool: sky.Compute, tmp_path: Path) -> None:
    """After one run."""
    with pytest.raises(sky.WorkerCrashedError) as caught:
        die_by(signal.SIGSEGV, str(tmp_path)).with_retries(0) >> pool
    assert caught.value.attempts == 1
    assert (tmp_path / "deaths").read_text() == "x"
    slots_are_back(pool)


@pytest.mark.rule("R38")
@pytest.mark.rule("R36")
def test_call_that_meets_a_dead_worker_is_not_blamed(tmp_path: Path) -> None:
    """It never began: with `retries=0` it runs, once, on another worker."""
    with sky.Compute(nodes=1) as pool:
        for number in range(10):
            _, pid, _ = place() >> pool
            os.kill(pid, signal.SIGKILL)
            assert note(str(tmp_path), str(number)).with_retries(0) >> pool == str(number)
            assert (tmp_path / str(number)).read_text() == "x"
            assert ended([pid])


@pytest.mark.rule("R38")
def test_peak_memory_is_the_workers(pool: sky.Compute) -> None:
    """A task that used much memory before it died is seen to have done so."""

    @sky.function(retries=0)
    def grow(size: int) -> None:
        block = bytearray(size)
        block[::4096] = b"x" * len(block[::4096])
        os.kill(os.getpid(), signal.SIGKILL)

    peaks: list[int] = []
    for size in (1, 200 * 2**20):
        with pytest.raises(sky.WorkerCrashedError) as caught:
            grow(size) >> pool
        peaks.append(caught.value.peak_memory or 0)
    assert peaks[0] < 200 * 2**20 < peaks[1]


@pytest.mark.rule("R38")
def test_stderr_ends_with_the_last_words(pool: sky.Compute) -> None:
    """Of much that was written the end is kept, a line without its end, and what C code writes, too."""

    @sky.function(retries=0)
    def shout(lines: int) -> None:
        import sys

        for i in range(lines):
            print(f"line {i}", file=sys.stderr)
        sys.stderr.flush()
        os.write(2, b"from below")
        os._exit(4)

    with pytest.raises(sky.WorkerCrashedError) as caught:
        shout(5_000) >> pool
    assert caught.value.exitcode == 4
    assert caught.value.stderr[-2:] == ("line 4999", "from below")
    assert 2 <= len(caught.value.stderr) <= 100
    assert "from below" in str(caught.value)


@pytest.mark.rule("R38")
def test_task_beside_a_crash_goes_on(tmp_path: Path) -> None:
    """Workers of one node share no fate; what waited behind the culprit runs elsewhere or later, once."""
    with sky.Compute(nodes=1, concurrency=2) as pool:
        beside = hold(str(tmp_path), "beside").with_retries(0) > pool
        runs(tmp_path, "beside")
        behind = [add(i, 1).with_retries(0) > pool for i in range(3)]
        with pytest.raises(sky.WorkerCrashedError):
            die_by(signal.SIGKILL).with_retries(0) >> pool
        let_go(tmp_path, "beside")
        assert beside.result() == "beside"
        assert [future.result() for future in behind] == [1, 2, 3]


@pytest.mark.rule("F13")
def test_limit_of_the_users_own_is_an_ordinary_memory_error(pool: sky.Compute) -> None:
    """Under RLIMIT_AS the task raises `MemoryError`, and its worker lives on."""

    @sky.function
    def limited(size: int) -> tuple[int, int]:
        import resource

        old = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (2**30, old[1]))
        try:
            return len(bytearray(size)), os.getpid()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, old)

    size, pid = limited(1_000).on(0) >> pool
    assert size == 1_000
    with pytest.raises(MemoryError) as caught:
        limited(2**31).on(0) >> pool
    assert type(caught.value) is MemoryError
    assert limited(1_001).on(0) >> pool == (1_001, pid)


@pytest.mark.rule("F14")
def test_poison_kills_no_more_than_two_workers_each(pool: sky.Compute, tmp_path: Path) -> None:
    """However many retries there are; everything around it ends well."""
    calls = [die_by(signal.SIGKILL, str(tmp_path)).with_retries(100) if i % 20 == 7 else add(i, 1) for i in range(200)]
    results = sky.gather(*calls, return_exceptions=True) >> pool
    for i, result in enumerate(results):
        if i % 20 == 7:
            assert isinstance(result, sky.WorkerCrashedError)
            assert result.attempts <= 2
        else:
            assert result == i + 1
    assert len((tmp_path / "deaths").read_text()) == 20
    slots_are_back(pool)


@pytest.mark.rule("F18")
@pytest.mark.parametrize("what", ["rubbish", "close"])
def test_worker_that_spoils_its_descriptors_is_replaced_alone(what: str) -> None:
    """Rubbish on every descriptor, or all of them closed, costs one worker; its daemon and its neighbour stay."""

    @sky.function(retries=0)
    def spoil(how: str) -> int:
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                try:
                    os.write(int(name), b"\xff" * 5_000) if how == "rubbish" else os.close(int(name))
                except OSError:
                    continue
        time.sleep(60 if how == "rubbish" else 0)
        return os.getpid()

    with sky.Compute(nodes=2, concurrency=2) as pool:
        before = pool.snapshot()
        with pytest.raises(sky.WorkerCrashedError):
            spoil(what).with_timeout(20) >> pool
        slots_are_back(pool)
        assert [node.pid for node in pool.snapshot().nodes] == [node.pid for node in before.nodes]
        until(lambda: len(family(pool)) >= 8)  # two daemons, two templates, four workers
