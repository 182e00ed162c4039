"""The leak checker, which every other test relies on: it sees what is planted, and nothing else."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import leaks

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

SLEEP = [sys.executable, "-c", "import sys; sys.stdin.read()"]
ORPHAN = (
    "import subprocess; "
    f"print(subprocess.Popen({SLEEP!r}, stdin=0, stdout=subprocess.DEVNULL, start_new_session=True).pid)"
)


@contextmanager
def _thread() -> Generator[str]:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="planted")
    thread.start()
    yield "thread planted"
    done.set()
    thread.join()


@contextmanager
def _descriptor() -> Generator[str]:
    with open(os.devnull) as file:
        yield f"descriptor {file.fileno()}: /dev/null"


@contextmanager
def _socket() -> Generator[str]:
    with socket.socket() as made:
        yield f"descriptor {made.fileno()}: socket:"


@contextmanager
def _child() -> Generator[str]:
    with subprocess.Popen(SLEEP, stdin=subprocess.PIPE) as process:
        yield f"process {process.pid} "


@contextmanager
def _zombie() -> Generator[str]:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield f"process {process.pid} (Z)"
    process.wait()


@contextmanager
def _grandchild() -> Generator[str]:
    code = f"import subprocess; p = subprocess.Popen({SLEEP!r}, stdin=0); print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"process {int(process.stdout.readline())} "


@contextmanager
def _orphan() -> Generator[str]:
    """A daemon: its parent is gone, its session is its own."""
    read, write = os.pipe()
    ran = subprocess.run([sys.executable, "-c", ORPHAN], stdin=read, stdout=subprocess.PIPE, check=True)
    os.close(read)
    pidfd = os.pidfd_open(int(ran.stdout))
    yield f"process {int(ran.stdout)} "
    os.close(write)
    _wait_for(pidfd)


@contextmanager
def _forked_orphan() -> Generator[str]:
    """The same without exec: its environment is ours, from before the run had a name."""
    read, write = os.pipe()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if (pid := os.fork()) == 0:
            os.close(write)
            os.read(read, 1)
        else:
            os.write(tell, str(pid).encode())
        os._exit(0)
    os.waitpid(child, 0)
    pid = int(os.read(told, 20))
    pidfd = os.pidfd_open(pid)
    for fd in (read, told, tell):
        os.close(fd)
    yield f"process {pid} "
    os.close(write)
    _wait_for(pidfd)


def _wait_for(pidfd: int) -> None:
    import select

    assert select.select([pidfd], [], [], 10)[0]
    os.close(pidfd)


@contextmanager
def _shared_memory() -> Generator[str]:
    path = Path(f"/dev/shm/skyward-{os.getpid()}")
    path.write_bytes(b"x")
    yield f"file {path}"
    path.unlink()


@contextmanager
def _temporary_directory() -> Generator[str]:
    with tempfile.TemporaryDirectory(prefix="skyward-") as path:
        yield f"file {path}"


@contextmanager
def _handler() -> Generator[str]:
    old = signal.signal(signal.SIGTERM, lambda *_: None)
    yield "handler of SIGTERM"
    signal.signal(signal.SIGTERM, old)


@contextmanager
def _working_directory() -> Generator[str]:
    old = os.getcwd()
    os.chdir("/")
    yield "working directory /"
    os.chdir(old)


PLANTS = [
    _thread, _descriptor, _socket, _child, _zombie, _grandchild, _orphan, _forked_orphan,
    _shared_memory, _temporary_directory, _handler, _working_directory,
]  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__.strip("_"))
def test_checker_names_what_is_left_until_it_is_gone(plant: Callable[[], AbstractContextManager[str]]) -> None:
    """Each kind of leak is named while it is there, and not afterwards."""
    before = leaks.take()
    with plant() as name:
        assert any(line.startswith(name) for line in leaks.left_since(before)), (name, leaks.left_since(before))
    assert leaks.wait_until_clean(before) == []


def test_checker_waits_for_what_ends_by_itself() -> None:
    """A thread that is about to end is no leak: the checker looks again until it has."""
    before = leaks.take()
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()

    def end(_: float) -> None:
        done.set()
        thread.join()

    assert leaks.wait_until_clean(before, pause=end) == []


def test_checker_gives_up_after_its_patience() -> None:
    """What does not go is named after the time that was given."""
    before = leaks.take()
    with _descriptor() as name:
        assert leaks.wait_until_clean(before, patience=0.0) == [name]


def test_checker_is_cheap() -> None:
    """A look at a clean process costs less than five milliseconds of CPU time, before and after each test."""
    before = leaks.take()
    times: list[float] = []
    for _ in range(20):
        start = time.thread_time()
        leaks.take()
        assert leaks.wait_until_clean(before) == []
        times.append(time.thread_time() - start)
    assert min(times) < 0.005, times


def test_leaking_test_fails(pytester: pytest.Pytester) -> None:
    """A test that leaves a thread behind is an error that names it; the next one is judged by itself."""
    pytester.makeconftest("from tests.conftest import *\nleaks.PATIENCE = 0.1\n")
    pytester.makepyfile(
        """
        import threading
        done = threading.Event()

        def test_leaks():
            threading.Thread(target=done.wait, name="forgotten", daemon=True).start()

        def test_does_not():
            pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*the test has left behind:*", "*thread forgotten*"])


def test_machine_that_lacks_something_is_told_the_remedy(pytester: pytest.Pytester) -> None:
    """A run with too few descriptors ends before its first test, with the command that raises the limit."""
    pytester.makeconftest("from tests.conftest import *\n")
    pytester.makepyfile("def test_passes(): pass")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert result.ret == 1
    assert "this machine cannot run the tests" in str(result.stdout) + str(result.stderr)
    assert "ulimit -n 1024" in str(result.stdout) + str(result.stderr)
