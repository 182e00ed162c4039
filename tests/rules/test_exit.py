"""Tasks that end their process, and programs that end (F15, R29, R30, F6)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.processes import ended
from tests.rules.work import BUSY, add, note, place

if TYPE_CHECKING:
    from pathlib import Path

SOON = 2.0 * BUSY  # seconds in which a program ends


@sky.function
def leave(directory: str, way: str, code: Any) -> Any:
    """Leave a mark for each run, and end the process or the thread in some way."""
    note.local(directory, way)
    if way == "os._exit":
        os._exit(code)
    if way == "nested":
        try:
            sys.exit(code)
        except Exception:  # SystemExit is none
            return "caught"
    sys.exit(code)


@pytest.mark.rule("F15")
@pytest.mark.rule("R38")
def test_os_exit_is_a_crash(pool: sky.Compute, tmp_path: Path) -> None:
    """With the code, of whatever size and also 0; it runs twice, or once without retries."""
    expected = ""
    for code, retries in ((0, 1), (7, 0), (255, 3)):
        with pytest.raises(sky.WorkerCrashedError, match=f"exited with code {code}") as caught:
            leave(str(tmp_path), "os._exit", code).with_retries(retries) >> pool
        assert (caught.value.exitcode, caught.value.signal) == (code, None)
        expected += "xx" if retries else "x"
        assert (tmp_path / "os._exit").read_text() == expected
    assert len(place(1) @ pool) == 2


@pytest.mark.rule("F15")
@pytest.mark.rule("R29")
def test_sys_exit_keeps_its_worker(pool: sky.Compute, tmp_path: Path) -> None:
    """It is told as a crash, at once; the process goes on, for nothing has happened to it."""
    pid = (place(1).on(0) >> pool)[1]
    for way, code in (("sys.exit", 3), ("nested", 4)):
        with pytest.raises(sky.WorkerCrashedError) as caught:
            leave(str(tmp_path), way, code).on(0) >> pool
        assert (caught.value.exitcode, caught.value.attempts) == (code, 1)
        assert (tmp_path / way).read_text() == "x"
    assert (place(2).on(0) >> pool)[:2] == (2, pid)


@pytest.mark.rule("F15")
def test_exit_in_coroutine_thread_and_map(pool: sky.Compute, tmp_path: Path) -> None:
    """In a coroutine it is the task's; in a thread that the task started it ends that thread alone."""

    @sky.function
    async def in_coroutine(code: int) -> None:
        sys.exit(code)

    @sky.function
    def in_thread(code: int) -> int:
        import threading

        thread = threading.Thread(target=sys.exit, args=(code,))
        thread.start()
        thread.join()
        return code + 1

    with pytest.raises(sky.WorkerCrashedError) as caught:
        in_coroutine(5) >> pool
    assert caught.value.exitcode == 5
    assert in_thread(6) @ pool == [7, 7]

    def odd(x: int) -> int:
        if x == 3:
            sys.exit(9)
        return x

    results = pool.map(odd, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(sky.WorkerCrashedError) as caught:
        next(results)
    assert caught.value.exitcode == 9
    assert list(results) == [4, 5]


@pytest.mark.rule("F15")
@pytest.mark.rule("R32")
def test_exit_in_a_thread_worker(threads: sky.Compute, tmp_path: Path) -> None:
    """`sys.exit` ends the task alone; `os._exit` ends the process that all threads share."""
    pid = (place(1) >> threads)[1]
    with pytest.raises(sky.WorkerCrashedError) as caught:
        leave(str(tmp_path), "sys.exit", 3) >> threads
    assert (caught.value.exitcode, (place(2) >> threads)[1]) == (3, pid)
    with pytest.raises(sky.WorkerCrashedError) as caught:
        leave(str(tmp_path), "os._exit", 6).with_retries(0) >> threads
    assert caught.value.exitcode == 6
    assert (place(3) >> threads)[1] != pid
    assert add(1, 2) >> threads == 3


ENDINGS = {
    "falls off the end": ("", 0),
    "sys.exit": ("sys.exit(5)\n", 5),
    "raises": ("raise ValueError\n", 1),
    "exits in a thread": ("threading.Thread(target=lambda: sys.exit(4)).start()\n", 0),
    "closes at exit": ("import atexit\natexit.register(pool.close, cancel=True)\n", 0),
    "drops the pool": ("del pool, future, stream\n", 0),
    "breaks out of a stream": ("for value in stream:\n    break\n", 0),
}


@pytest.mark.rule("F6")
@pytest.mark.rule("R30")
@pytest.mark.parametrize("ending", ENDINGS)
def test_program_ends_in_any_state(tmp_path: Path, ending: str) -> None:
    """Two pools open, calls queued and running, a stream half read: it exits with its code, and soon."""
    lines, code = ENDINGS[ending]
    source = (
        "import os, sys, threading, time\nimport skyward as sky\n"
        "work = sky.function(lambda seconds: time.sleep(seconds))\n"
        "pool = sky.Compute(nodes=2).open()\nother = sky.Compute(nodes=1, executor='thread').open()\n"
        "pids = [node.pid for p in (pool, other) for node in p.snapshot().nodes]\n"
        "pids += sky.function(os.getpid)() @ pool + sky.function(os.getpid)() @ other\n"
        "stream = sky.gather(*[work(0) for _ in range(10)], work(3600), stream=True) >> pool\nnext(stream)\n"
        "future = [work(3600) > pool for _ in range(9)], work(1800) > other\n"
        "print(time.monotonic(), *pids, flush=True)\n" + lines
    )
    process = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    over = time.monotonic()  # one clock for all processes
    began, *pids = process.stdout.split()
    assert process.returncode == code, process.stderr
    assert over - float(began) < SOON
    assert len(set(pids)) == 6
    assert ended(map(int, pids), 0.0)


@pytest.mark.rule("R29")
def test_sys_exit_is_told_once_with_its_code(pool: sky.Compute, tmp_path: Path) -> None:
    """Whatever a process would have exited with; the retries that are left are not used."""
    cases: list[tuple[Any, int, tuple[str, ...]]] = [
        (None, 0, ()),
        (3, 3, ()),
        (300, 44, ()),
        ("no more", 1, ("no more",)),
        (True, 1, ()),
    ]
    for code, exitcode, words in cases:
        with pytest.raises(sky.WorkerCrashedError) as caught:
            leave(str(tmp_path), "sys.exit", code).with_retries(5) >> pool
        assert (caught.value.exitcode, caught.value.signal, caught.value.attempts) == (exitcode, None, 1)
        assert caught.value.stderr == words
    assert (tmp_path / "sys.exit").read_text() == "x" * len(cases)
    assert [(place(i) >> pool)[0] for i in range(4)] == [0, 1, 2, 3]
