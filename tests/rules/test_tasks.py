"""What a task finds around it, and what becomes of its failures."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest

import skyward as sky
from tests.rules.work import add, die_by, echo, fail, hold, place, runs, spin_in_c, until


@pytest.mark.rule("R26")
def test_task_knows_where_it_runs() -> None:
    """Every field of `instance_info`; None outside a pool."""
    assert sky.instance_info() is None
    with sky.Compute(nodes=2, concurrency=2) as pool:
        infos = [info for _ in range(20) for info in sky.function(sky.instance_info)() @ pool if info is not None]
        assert len(infos) == 40
        first = infos[0]
        assert {info.node for info in infos} == {0, 1}
        assert all(info.worker in (0, 1) for info in infos)
        assert {(info.total_nodes, info.workers_per_node, info.total_workers) for info in infos} == {(2, 2, 4)}
        assert [info.is_head for info in infos[:2]] == [True, False]
        assert {info.job_id for info in infos} == {first.job_id} != {""}
        assert {(info.head_addr, info.head_port) for info in infos} == {("127.0.0.1", first.head_port)}
        assert 0 < first.head_port < 65536
        assert [peer.rank for peer in first.peers] == [0, 1]
        assert all(peer.private_address and peer.public_address for peer in first.peers)
        assert first.hostname == os.uname().nodename
        assert all(info.global_worker_index == 2 * info.node + info.worker for info in infos)
        assert first.accelerators == ()


@pytest.mark.rule("R26")
def test_workers_of_a_node_have_different_indexes(tmp_path: Path) -> None:
    """Tasks that run at the same time are told apart."""

    @sky.function
    def meet(directory: str, name: str) -> int:
        (Path(directory) / name).touch()
        until(lambda: len(os.listdir(directory)) == 4)
        info = sky.instance_info()
        assert info is not None
        return info.global_worker_index

    with sky.Compute(nodes=2, concurrency=2) as pool:
        indexes = sky.gather(*[meet(str(tmp_path), str(i)) for i in range(4)]) >> pool
        assert sorted(indexes) == [0, 1, 2, 3]


@pytest.mark.rule("R29")
def test_exception_is_raised_with_its_own_class(pool: sky.Compute) -> None:
    """With the remote traceback as its cause, and a note with function, node and task."""
    with pytest.raises(ValueError, match="bad 5") as caught:
        fail(5) >> pool
    text = "".join(traceback.format_exception(caught.value))
    assert 'raise ValueError(f"bad {value}")' in text
    assert "direct cause" in text
    (note,) = caught.value.__notes__
    assert "fail" in note
    assert "node" in note
    assert "task" in note


@pytest.mark.rule("R29")
def test_what_must_not_be_raised_here_becomes_a_remote_error(pool: sky.Compute) -> None:
    """`StopIteration`, `StopAsyncIteration`, any other `BaseException`, and what cannot be unpickled."""

    class Odd(BaseException):
        pass

    class Unpicklable(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")

    @sky.function
    def raise_it(kind: str) -> None:
        errors = {
            "stop": StopIteration(3),
            "async": StopAsyncIteration(4),
            "odd": Odd("odd one"),
            "keyboard": KeyboardInterrupt("no"),
            "unpicklable": Unpicklable(1, 2),
        }
        raise errors[kind]

    for kind, name, text in [
        ("stop", "StopIteration", "3"),
        ("async", "StopAsyncIteration", "4"),
        ("odd", "Odd", "odd one"),
        ("keyboard", "KeyboardInterrupt", "no"),
        ("unpicklable", "Unpicklable", "1 and 2"),
    ]:
        with pytest.raises(sky.RemoteError) as caught:
            raise_it(kind) >> pool
        assert name in caught.value.type_name
        assert text in caught.value.remote_message
        assert "raise errors[kind]" in caught.value.traceback


@pytest.mark.rule("R29")
def test_sys_exit_ends_the_worker_at_once(pool: sky.Compute, tmp_path: Path) -> None:
    """It becomes `WorkerCrashedError` with the code, without a re-run."""

    @sky.function
    def leave(directory: str) -> None:
        with open(f"{directory}/runs", "a", encoding="ascii") as file:
            file.write("x")
        sys.exit(5)

    with pytest.raises(sky.WorkerCrashedError) as caught:
        leave(str(tmp_path)) >> pool
    assert (caught.value.exitcode, caught.value.signal) == (5, None)
    assert (tmp_path / "runs").read_text() == "x"
    assert add(1, 2) >> pool == 3


@pytest.mark.rule("R38")
@pytest.mark.rule("F12")
def test_crash_is_rerun_once_and_then_told(pool: sky.Compute, tmp_path: Path) -> None:
    """With the signal, the last lines of stderr and peak memory; the slot comes back."""
    with pytest.raises(sky.WorkerCrashedError) as caught:
        die_by(signal.SIGSEGV, str(tmp_path)) >> pool
    error = caught.value
    assert error.signal == signal.SIGSEGV
    assert any("last words" in line for line in error.stderr)
    assert error.peak_memory is not None
    assert error.peak_memory > 1 << 20
    assert not error.oom
    assert (tmp_path / "deaths").read_text() == "xx"
    assert [(place(i) >> pool)[0] for i in range(4)] == [0, 1, 2, 3]


@pytest.mark.rule("R38")
@pytest.mark.rule("F15")
def test_crash_without_retries_is_told_at_once(pool: sky.Compute, tmp_path: Path) -> None:
    """It has run once; an exit code is told as such."""

    @sky.function(retries=0)
    def leave(directory: str) -> None:
        with open(f"{directory}/runs", "a", encoding="ascii") as file:
            file.write("x")
        os._exit(7)

    with pytest.raises(sky.WorkerCrashedError) as caught:
        leave(str(tmp_path)) >> pool
    assert caught.value.exitcode == 7
    assert (tmp_path / "runs").read_text() == "x"


@pytest.mark.rule("R38")
def test_crash_that_does_not_repeat_goes_unnoticed(pool: sky.Compute, tmp_path: Path) -> None:
    """The second run, on a fresh worker, gives the result."""

    @sky.function
    def die_once(directory: str) -> tuple[str, int]:
        mark = Path(directory, "mark")
        if not mark.exists():
            mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return mark.read_text(), os.getpid()

    first, second = die_once(str(tmp_path)) >> pool
    assert first != str(second)


@pytest.mark.rule("F14")
def test_poisonous_tasks_harm_no_other(pool: sky.Compute) -> None:
    """Each ends in its error; all tasks around them end well."""
    calls = [die_by(9) if i % 50 == 7 else add(i) for i in range(500)]
    results = sky.gather(*calls, return_exceptions=True) >> pool
    for i, result in enumerate(results):
        assert isinstance(result, sky.WorkerCrashedError) if i % 50 == 7 else result == i


@pytest.mark.rule("R39")
def test_task_over_its_time_is_stopped(pool: sky.Compute, tmp_path: Path) -> None:
    """Its worker is replaced, the error is a `TimeoutError`, and the clock starts when the task starts."""
    pid = (place().on(0) >> pool)[1]
    with pytest.raises(TimeoutError) as caught:
        hold(str(tmp_path), "a").with_timeout(0.3).on(0) >> pool
    assert isinstance(caught.value, sky.TaskTimeoutError)
    assert (place().on(0) >> pool)[1] != pid
    assert not (tmp_path / "a-done").exists()

    @sky.function(timeout=2.0)
    def nap(x: int) -> int:
        import time

        time.sleep(0.4)
        return x

    # The last of them waits longer in the queue than it may run.
    assert sky.gather(*[nap(i) for i in range(12)]) >> pool == tuple(range(12))


@pytest.mark.rule("R39")
@pytest.mark.rule("F16")
def test_timeout_ends_c_code_that_holds_the_gil(pool: sky.Compute, tmp_path: Path) -> None:
    """No cooperation is needed."""
    with pytest.raises(sky.TaskTimeoutError):
        spin_in_c(str(tmp_path)).with_timeout(0.3) >> pool
    assert len(echo(1) @ pool) == 2


@pytest.mark.rule("R32")
@pytest.mark.rule("R39")
def test_timeout_of_a_thread_raises_while_its_slot_stays_taken(tmp_path: Path) -> None:
    """The function goes on; the slot is free when it returns."""
    with sky.Compute(nodes=1, executor="thread", concurrency=1) as pool:
        with pytest.raises(sky.TaskTimeoutError):
            hold(str(tmp_path), "a").with_timeout(0.2) >> pool
        waiting = add(1, 2) > pool
        assert not waiting.done()
        (tmp_path / "a-go").touch()
        assert waiting.result() == 3
        assert (tmp_path / "a-done").exists()


@pytest.mark.rule("R32")
def test_crash_of_a_thread_ends_all_tasks_of_its_process(threads: sky.Compute, tmp_path: Path) -> None:
    """They share its fate, and the next ones find a fresh process."""
    beside = hold(str(tmp_path), "a").with_retries(0) > threads
    runs(tmp_path, "a")
    with pytest.raises(sky.WorkerCrashedError):
        die_by(9).with_retries(0) >> threads
    with pytest.raises(sky.WorkerCrashedError):
        beside.result()
    assert add(1, 2) >> threads == 3


@pytest.mark.rule("R50")
def test_task_may_fork_and_start_processes_and_threads(pool: sky.Compute) -> None:
    """Children work, and never hold the link."""

    @sky.function
    def busy(x: int) -> Any:
        import multiprocessing

        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, b"child")
            os._exit(0)
        os.waitpid(child, 0)
        with multiprocessing.get_context("fork").Pool(2) as processes:
            squares = processes.map(abs, [-1, -2])
        out = subprocess.run(["echo", str(x)], capture_output=True, text=True, check=True).stdout
        box: list[int] = []
        thread = threading.Thread(target=box.append, args=(x,))
        thread.start()
        thread.join()
        data = os.read(read, 5)
        os.close(read)
        os.close(write)
        return data, squares, out, box

    assert sky.gather(busy(1), busy(2)) >> pool == (
        (b"child", [1, 2], "1\n", [1]),
        (b"child", [1, 2], "2\n", [2]),
    )


@pytest.mark.rule("R50")
def test_forked_child_that_outlives_its_task_holds_no_link(pool: sky.Compute, tmp_path: Path) -> None:
    """A child that returns from the task, too, sends nothing; the result comes once."""

    @sky.function
    def split() -> int:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        return os.getpid() if child else -1

    pid = split() >> pool
    assert pid > 0
    assert add(1, 2) >> pool == 3


@pytest.mark.rule("F17")
def test_grandchildren_do_not_survive_their_worker(pool: sky.Compute, tmp_path: Path) -> None:
    """What a dead task has left running, in sessions of its own, is ended."""

    @sky.function(retries=0)
    def leave_behind(directory: str) -> None:
        sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
        Path(directory, "pid").write_text(str(sleeper.pid))
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(sky.WorkerCrashedError):
        leave_behind(str(tmp_path)) >> pool
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.rule("R50")
def test_workers_have_their_own_random_state(pool: sky.Compute) -> None:
    """Two workers draw different numbers, from `random` and from NumPy."""

    @sky.function
    def draw() -> tuple[float, float]:
        import numpy as np

        return random.random(), float(np.random.rand())  # noqa: NPY002 - it is the global state that matters

    (a, b), (c, d) = draw() @ pool
    assert a != c
    assert b != d


@pytest.mark.rule("R50")
def test_blas_threads_share_the_cpus_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMP and BLAS defaults are CPUs divided by slots; what the user set stays."""

    @sky.function
    def limits() -> list[str | None]:
        return [os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")]

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    cpus = len(os.sched_getaffinity(0))
    with sky.Compute(nodes=cpus) as pool:
        assert limits() @ pool == [["1", "1", "3"]] * cpus
