"""Processes and threads that tasks start, and what becomes of them (R50, F17)."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.processes import ended, pid_of
from tests.rules.work import hold, let_go, place, runs, until

if TYPE_CHECKING:
    from collections.abc import Callable

DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


@sky.function(retries=0)
def leave_behind(directory: str, way: str, end: str) -> int:
    """Start processes that would live for ever, write down their pids, and end in some way."""
    command = ["sleep", "600"]
    pids = [subprocess.Popen(command).pid]
    if way == "session":
        pids = [subprocess.Popen(command, start_new_session=True).pid]
    elif way == "daemon":  # forks twice, as daemons do: its parent is gone
        shell = f"setsid sleep 600 & echo $! > {directory}/second"
        subprocess.run(["sh", "-c", shell], check=True)
        pids.append(int(Path(directory, "second").read_text()))
    elif way == "deaf":
        child = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        pids.append(child.pid)
    Path(directory, "part").write_text(" ".join(map(str, pids)))
    os.rename(os.path.join(directory, "part"), os.path.join(directory, "pids"))
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "hang":
        ctypes.PyDLL(None).pause()  # it hears no interrupt: the GIL is held
    return os.getpid()


def left_behind(directory: Path) -> list[int]:
    """Return the pids that were written down."""
    pids = [int(pid) for pid in (directory / "pids").read_text().split()]
    assert pids
    return pids


@pytest.mark.rule("F17")
@pytest.mark.parametrize("way", ["child", "session", "daemon", "deaf"])
def test_nothing_a_task_started_survives_its_worker(pool: sky.Compute, tmp_path: Path, way: str) -> None:
    """Within two seconds, in whatever session it is."""
    with pytest.raises(sky.WorkerCrashedError):
        leave_behind(str(tmp_path), way, "kill") >> pool
    assert ended(left_behind(tmp_path))
    assert len(place(1) @ pool) == 2


@pytest.mark.rule("F17")
@pytest.mark.parametrize("end", ["timeout", "cancel", "daemon", "close"])
def test_nothing_survives_however_the_worker_ends(tmp_path: Path, end: str) -> None:
    """A task stopped by its timeout, one that is cancelled and does not hear, a killed daemon, a closed pool."""
    with sky.Compute(nodes=2, cancel_grace=0.1) as pool:
        call = leave_behind(str(tmp_path), "session", "return" if end == "close" else "hang").on(0)
        future = (call.with_timeout(2) if end == "timeout" else call) > pool
        until((tmp_path / "pids").exists)
        actions: dict[str, Callable[[], Any]] = {
            "timeout": future.exception,
            "cancel": future.cancel,
            "daemon": lambda: os.kill(pid_of(pool.snapshot().nodes[0]), signal.SIGKILL),
            "close": pool.close,
        }
        actions[end]()
        assert ended(left_behind(tmp_path))


@pytest.mark.rule("R50")
def test_process_of_a_task_may_outlive_it_beside_its_worker(pool: sky.Compute, tmp_path: Path) -> None:
    """A task ends well while what it has started goes on, as long as the worker does; its slot is free."""
    worker = leave_behind(str(tmp_path), "daemon", "return").on(1) >> pool
    assert (place(1).on(1) >> pool)[1] == worker
    pids = left_behind(tmp_path)
    assert not any(ended([pid], 0.0) for pid in pids)
    pool.close()
    assert ended(pids)


@pytest.mark.rule("R50")
def test_task_may_run_commands(pool: sky.Compute) -> None:
    """Their output, their input and their exit codes are the task's own affair."""

    @sky.function
    def commands(word: str) -> tuple[str, int, str]:
        upper = subprocess.run(["tr", "a-z", "A-Z"], input=word, capture_output=True, text=True, check=True).stdout
        code = subprocess.run(["sh", "-c", "exit 3"], check=False).returncode
        parent = subprocess.run(["sh", "-c", "echo $PPID"], capture_output=True, text=True, check=True).stdout
        return upper, code, parent

    results = commands("word") @ pool
    assert [(upper, code) for upper, code, _ in results] == [("WORD", 3)] * 2
    assert len({pid for _, _, pid in results}) == 2


@pytest.mark.rule("R50")
def test_threads_of_a_task_may_outlive_it(pool: sky.Compute, tmp_path: Path) -> None:
    """The result does not wait for them, the next task runs beside them, and the pool's end neither."""

    @sky.function
    def start_thread(directory: str) -> int:
        threading.Thread(target=hold.local, args=(directory, f"thread{os.getpid()}")).start()
        return os.getpid()

    pids = start_thread(str(tmp_path)) @ pool
    assert len(set(pids)) == 2
    for pid in pids:
        runs(tmp_path, f"thread{pid}")
    assert [pid for _, pid, _ in place(1) @ pool] == pids
    let_go(tmp_path, f"thread{pids[0]}")
    until((tmp_path / f"thread{pids[0]}-done").exists)
    pool.close()
    assert not (tmp_path / f"thread{pids[1]}-done").exists()
    assert ended(pids, 0.0)


@pytest.mark.rule("R50")
@pytest.mark.parametrize("end", ["kill", "exit", "close"])
def test_shared_memory_that_a_task_has_left_goes_with_its_worker(end: str) -> None:
    """As with any program that ends; children that are in the way are killed all the same."""

    @sky.function(retries=0)
    def make(name: str, end: str) -> int:
        from multiprocessing import shared_memory

        shared_memory.SharedMemory(name=name, create=True, size=1000)
        child = subprocess.Popen(["sleep", "600"]).pid
        if end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if end == "exit":
            os._exit(3)
        return child

    path = Path(f"/dev/shm/skyward-test-{os.getpid()}")
    try:
        with sky.Compute(nodes=1) as pool:
            call = make(path.name, end)
            if end == "close":
                child = call >> pool
                assert path.exists()
                pool.close()
                assert ended([child], 0.0)
                assert not path.exists()
            else:
                with pytest.raises(sky.WorkerCrashedError):
                    call >> pool
                until(lambda: not path.exists())
    finally:
        path.unlink(missing_ok=True)
