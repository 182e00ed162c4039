"""Time limits of tasks (R39, F16)."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import skyward as sky
from tests.rules.processes import ended
from tests.rules.work import LONG, add, hold, let_go, place, runs, spin_in_c, until
from tests.rules.yielding import count, marks, yield_then_block


@pytest.mark.rule("R39")
def test_error_says_limit_function_and_node(pool: sky.Compute, tmp_path: Path) -> None:
    """It is a `TimeoutError`; the task has run once, and what it was about to do does not happen."""
    with pytest.raises(sky.TaskTimeoutError, match=r"timeout of 0\.3 s \(function hold, node 1") as caught:
        hold(str(tmp_path), "a").with_timeout(0.3).with_retries(9).on(1) >> pool
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.timeout, caught.value.node) == (0.3, 1)
    let_go(tmp_path, "a")
    assert [value for value, _, _ in place(1) @ pool] == [1, 1]
    assert not (tmp_path / "a-done").exists()


@pytest.mark.rule("R39")
def test_process_that_was_too_slow_is_replaced(pool: sky.Compute, tmp_path: Path) -> None:
    """With everything it has started."""

    @sky.function
    def slow(directory: str) -> None:
        import subprocess

        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        Path(directory, "pids").write_text(f"{os.getpid()} {child.pid}")
        try:
            time.sleep(600)
        except BaseException:  # it does not want to end
            time.sleep(600)

    with pytest.raises(sky.TaskTimeoutError):
        slow(str(tmp_path)).with_timeout(2).on(0) >> pool
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert ended(pids)
    assert (place(1).on(0) >> pool)[1] not in pids


@pytest.mark.rule("R39")
def test_clock_starts_with_the_task(tmp_path: Path) -> None:
    """Not while it waits: for a slot, behind others on its node, or for a node."""
    with sky.Compute(nodes=1) as pool:
        blocker = hold(str(tmp_path), "a") > pool
        runs(tmp_path, "a")
        waiting = [place(i).with_timeout(1.5) > pool for i in range(5)]
        with pytest.raises(TimeoutError):
            blocker.result(timeout=2)
        let_go(tmp_path, "a")
        assert [future.result()[0] for future in waiting] == list(range(5))


@pytest.mark.rule("R39")
def test_limits_of_many_tasks_are_their_own(pool: sky.Compute, tmp_path: Path) -> None:
    """In a group those that are too slow are told, the others end well, short ones without limit, too."""

    @sky.function
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    calls = [nap(30.0).with_timeout(0.2) if i % 5 == 3 else nap(0.01).with_timeout(20) for i in range(15)]
    results = sky.gather(*calls, *[add(i, 1) for i in range(50)], return_exceptions=True) >> pool
    for i, result in enumerate(results[:15]):
        assert isinstance(result, sky.TaskTimeoutError) if i % 5 == 3 else result == 0.01
    assert list(results[15:]) == [i + 1 for i in range(50)]


@pytest.mark.rule("R3")
def test_none_is_no_limit_on_client_and_in_tasks() -> None:
    """Whatever function and pool say; also of `map`, and of what a task calls."""

    @sky.function(timeout=0.3)
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @sky.function(timeout=None)
    def outer() -> tuple[float, bool]:
        lasted = nap(1.5).with_timeout(None) >> sky
        try:
            nap(60) >> sky
        except sky.TaskTimeoutError:
            return lasted, True
        return lasted, False

    with sky.Compute(nodes=1, timeout=1.0) as pool:
        assert nap(1.5).with_timeout(None) >> pool == 1.5
        assert list(pool.map(sky.function(nap, timeout=None), [1.5])) == [1.5]
        assert outer() >> pool == (1.5, True)


@pytest.mark.rule("R39")
def test_time_limit_of_the_second_run_is_whole(pool: sky.Compute, tmp_path: Path) -> None:
    """A task that lost its worker has its full time again."""

    @sky.function
    def second_time(directory: str, first: float, second: float) -> float:
        mark = os.path.join(directory, "mark")
        if not os.path.exists(mark):
            with open(mark, "x", encoding="ascii"):
                time.sleep(first)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(second)
        return second

    assert second_time(str(tmp_path), 2.0, 1.6).with_timeout(3.5) >> pool == 1.6


@pytest.mark.rule("R39")
@pytest.mark.rule("F16")
def test_endless_c_code_is_stopped(pool: sky.Compute, tmp_path: Path) -> None:
    """With the GIL held or with signals ignored; the other node works on."""

    @sky.function
    def deaf() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        ctypes.PyDLL(None).pause()

    for call in (spin_in_c(str(tmp_path)), deaf()):
        future = call.with_timeout(0.4).on(0) > pool
        assert (place(2).on(1) >> pool)[0] == 2
        assert isinstance(future.exception(LONG), sky.TaskTimeoutError)
        assert len(place(1) @ pool) == 2


def values_in_time(stream: Any) -> list[int]:
    """Return what a generator had yielded when the time of its group was over."""
    values = [next(stream), next(stream)]
    with pytest.raises(sky.TaskTimeoutError, match="group") as caught:
        next(stream)
    assert caught.value.timeout == 2.0
    assert list(stream) == []
    return values


@pytest.mark.rule("R3")
@pytest.mark.rule("R13")
@pytest.mark.parametrize("mode", ["values", "future", "stream"])
def test_time_of_a_group_ends_its_generators(pool: sky.Compute, tmp_path: Path, mode: str) -> None:
    """Also when their iterators were handed over long ago: each gives what was there, and then raises."""
    calls = [yield_then_block(str(tmp_path), 2), count(3), yield_then_block(str(tmp_path), 2)]
    group: Any = sky.gather(*calls, stream=mode == "stream").with_timeout(2.0)
    first, fine, second = (group > pool).result() if mode == "future" else group >> pool
    del group
    assert list(fine) == [0, 1, 2]
    assert values_in_time(first) == [0, 1]
    assert values_in_time(second) == [0, 1]
    until(lambda: marks(tmp_path, "ends") == 2)


@pytest.mark.rule("R3")
@pytest.mark.rule("R13")
@pytest.mark.parametrize("stream", [False, True])
def test_generator_and_others_are_cut_off_alike(pool: sky.Compute, tmp_path: Path, *, stream: bool) -> None:
    """With the time limit as the reason, and not as if somebody had cancelled them."""
    calls = [yield_then_block(str(tmp_path), 2), hold(str(tmp_path), "a")]
    group: Any = sky.gather(*calls, stream=stream, return_exceptions=True).with_timeout(2.0)
    values, late = group >> pool
    assert (type(late), late.timeout) == (sky.TaskTimeoutError, 2.0)
    assert values_in_time(values) == [0, 1]
    until(lambda: marks(tmp_path, "ends") == 1)
