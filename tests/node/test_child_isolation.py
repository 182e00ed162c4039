"""Tasks may fork, crash and litter: it is their worker's business, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from skyward_node.testing import Rig, wait_dead
from tests.rules.work import until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.rule("R50")
def test_workers_have_random_states_of_their_own() -> None:
    """No two workers draw the same numbers."""
    with Rig() as rig:

        def draw() -> tuple[float, bytes]:
            import os
            import random

            return random.random(), os.urandom(8)

        workers = [rig.spawn() for _ in range(3)]
        assert len({rig.call(worker, draw)[0] for worker in workers}) == 3


@pytest.mark.rule("R50")
def test_template_has_not_imported_numpy() -> None:
    """NumPy is not shared by forks, or all workers would have its random state in common."""
    script = (
        "import sys\n"
        "from skyward_node.testing import Rig\n"
        "def probe():\n"
        "    import sys\n"
        "    loaded = 'numpy' in sys.modules\n"
        "    import numpy\n"
        "    return loaded, float(numpy.random.rand())\n"
        "with Rig() as rig:\n"
        "    (a, x), (b, y) = [rig.call(rig.spawn(), probe) for _ in range(2)]\n"
        "assert not a and not b and x != y, (a, b, x, y)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.rule("R50")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_task_may_use_multiprocessing(method: str) -> None:
    """Every start method of multiprocessing works in a task, and its children hold no link."""
    with Rig() as rig:
        worker = rig.spawn()

        def square_all(method: str) -> list[int]:
            import multiprocessing
            import operator

            with multiprocessing.get_context(method).Pool(2) as pool:
                return pool.map(operator.neg, range(5))

        assert rig.call(worker, square_all, method) == [0, -1, -2, -3, -4]
        assert rig.call(worker, abs, -1) == 1
        rig.supervisor.retire(worker)  # what multiprocessing made in /tmp it removes by atexit
        assert rig.exit_of(worker).exitcode == 0


@pytest.mark.rule("R50")
@pytest.mark.parametrize("leave", ["return", "raise", "exit", "_exit"])
def test_forked_child_of_a_task_sends_nothing(leave: str) -> None:
    """However a forked child leaves the task, the one result is the parent's, and the child's code is right."""
    with Rig() as rig:
        worker = rig.spawn()

        def fork(leave: str) -> tuple[str, int]:
            import os
            import sys

            pid = os.fork()
            if pid == 0:
                if leave == "raise":
                    raise ValueError("child")
                if leave == "exit":
                    sys.exit(7)
                if leave == "_exit":
                    os._exit(9)
                return "child", 0
            return "parent", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        code = {"return": 0, "raise": 1, "exit": 7, "_exit": 9}[leave]
        for _ in range(3):
            assert rig.call(worker, fork, leave) == ("parent", code)
        assert not rig.repeated
        if leave == "raise":
            rig.until(lambda: rig.printed[worker][2].count(b"ValueError: child") == 3)


@pytest.mark.rule("R50")
def test_forked_child_that_lives_on_does_not_hold_the_link() -> None:
    """A worker's end is noticed at once although a child of its task lives, and the child is killed."""
    with Rig() as rig:
        worker = rig.spawn()

        def leave_child() -> tuple[int, str]:
            import os
            import time

            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                kinds = [
                    os.readlink(f"/proc/self/fd/{fd}") for fd in range(256) if os.path.exists(f"/proc/self/fd/{fd}")
                ]
                os.write(write, " ".join(kind for kind in kinds if "socket" in kind).encode() or b"none")
                time.sleep(600)
            return pid, os.read(read, 4096).decode()

        child, sockets = rig.call(worker, leave_child)
        assert sockets == "none"
        os.kill(rig.pid(worker), signal.SIGKILL)
        assert rig.exit_of(worker).signal == signal.SIGKILL
        wait_dead([child])


@pytest.mark.rule("R50")
def test_task_may_run_commands_and_threads() -> None:
    """Subprocesses and threads work in a task, and children inherit no descriptor of ours."""
    with Rig() as rig:
        worker = rig.spawn()

        def run() -> tuple[str, list[int]]:
            import subprocess
            import sys
            import threading

            code = "import os; print([fd for fd in map(int, os.listdir('/proc/self/fd')) if fd > 3])"
            found: list[str] = []
            command = [sys.executable, "-c", code]
            thread = threading.Thread(
                target=lambda: found.append(
                    subprocess.run(command, capture_output=True, text=True, check=True, close_fds=False).stdout
                )
            )
            thread.start()
            thread.join()
            return found[0].strip(), []

        assert rig.call(worker, run) == ("[]", [])


@pytest.mark.parametrize("number", sorted({1, 2, 3, 4, 6, 7, 8, 9, 11, 13, 14, 15, 31}))
def test_worker_killed_by_a_signal_is_reported_with_it(number: int) -> None:
    """A worker that dies of a signal is reported with that signal, once."""
    with Rig() as rig:
        worker = rig.spawn()

        def die(number: int) -> None:
            import os
            import signal

            if number != signal.SIGKILL:
                signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            import time

            time.sleep(60)

        rig.call(worker, abs, -1)
        task = rig.submit(worker, die, number)
        event = rig.exit_of(worker)
        assert (event.signal, event.exitcode, event.oom) == (number, None, False)
        assert event.running == (task,)
        assert len(rig.exits[worker]) == 1


@pytest.mark.rule("F12")
@pytest.mark.rule("R38")
def test_segfault_shows_the_python_stack() -> None:
    """A crash in C is reported with its signal, and stderr says in which Python line."""
    with Rig() as rig:
        worker = rig.spawn()

        def crash_here() -> None:
            import ctypes

            ctypes.string_at(0)

        rig.submit(worker, crash_here)
        event = rig.exit_of(worker)
        assert event.signal == signal.SIGSEGV
        assert any("crash_here" in line for line in event.stderr)
        assert (event.peak_memory or 0) > 2**20


@pytest.mark.rule("F15")
@pytest.mark.rule("R29")
def test_os_exit_is_reported_with_its_code() -> None:
    """``os._exit`` in a task ends the worker with that code, and what it printed is kept."""
    with Rig() as rig:
        worker = rig.spawn()

        def leave() -> None:
            import os
            import sys

            for n in range(50):
                print("line", n, "x" * 2000, file=sys.stderr)
            os._exit(7)

        rig.submit(worker, leave)
        event = rig.exit_of(worker)
        assert (event.exitcode, event.signal) == (7, None)
        assert len(event.stderr) == 20
        assert event.stderr[-1].startswith("line 49 xxx")
        assert max(map(len, event.stderr)) == 1000


@pytest.mark.rule("F16")
@pytest.mark.parametrize(
    "code",
    ["sum(chain(mark, range(10**12)))", "list(chain(mark, map(re.compile('(a?){64}a{64}').match, ['a' * 64])))"],
    ids=["sum", "match"],
)
def test_endless_c_loop_is_killed(code: str, tmp_path: Path) -> None:
    """A task that holds the GIL for ever cannot be interrupted, and is killed."""
    path = tmp_path / "runs"
    path.write_bytes(b"-")
    with Rig() as rig:
        worker = rig.spawn()

        def endless(code: str, path: str) -> None:
            import mmap
            import re
            from itertools import chain

            with open(path, "r+b") as file:
                memory = mmap.mmap(file.fileno(), 1)
            # By the loop itself, and without a system call, which would let go of the GIL: nothing strikes in between.
            mark = map(bool, map(memory.__setitem__, [0], [ord("+")]))
            eval(code, {"chain": chain, "mark": mark, "re": re})  # noqa: S307 - the code is a parameter of this test

        task = rig.submit(worker, endless, code, str(path))
        until(lambda: path.read_bytes() == b"+")
        rig.cancel(worker, [task])
        rig.supervisor.kill(worker)
        assert rig.exit_of(worker).signal == signal.SIGKILL
        assert task not in rig.results


@pytest.mark.rule("F18")
def test_rubbish_on_any_descriptor_costs_one_worker() -> None:
    """A task that writes to every descriptor it finds loses its worker, and nobody else notices (F18)."""
    with Rig() as rig:
        victim, other = rig.spawn(), rig.spawn()

        def litter() -> None:
            import os

            for fd in range(64):
                try:
                    os.set_blocking(fd, False)
                    os.write(fd, b"rubbish!" * 100)
                except OSError:
                    pass
            import time

            time.sleep(60)

        rig.call(other, abs, -1)
        rig.submit(victim, litter)
        event = rig.exit_of(victim)
        assert event.signal == signal.SIGKILL
        assert any("rubbish on its pipes" in line for line in event.stderr)
        assert rig.call(other, abs, -2) == 2


def test_worker_that_closes_its_descriptors_is_replaced() -> None:
    """A task that closes every descriptor loses its worker."""
    with Rig() as rig:
        worker = rig.spawn()

        def close() -> None:
            import os
            import time

            os.closerange(3, 64)
            time.sleep(60)

        rig.submit(worker, close)
        rig.exit_of(worker)


@pytest.mark.rule("R50")
def test_fork_during_a_batch_loses_and_repeats_nothing() -> None:
    """Children that are forked while results gather do not send them again."""
    with Rig() as rig:
        worker = rig.spawn()

        def fork(n: int) -> int:
            import os

            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
            return n

        tasks = rig.submit_all(worker, fork, [(n,) for n in range(40)])
        rig.until(lambda: len(rig.results) == 40)
        assert [rig.value(task) for task in tasks] == list(range(40))
        assert not rig.repeated


@pytest.mark.rule("R38")
def test_the_task_to_blame_is_known_although_results_were_lost() -> None:
    """A worker that dies in the middle of a batch leaves behind which task it was running."""
    with Rig() as rig:
        worker = rig.spawn()

        def work(n: int) -> int:
            import os
            import signal

            if n == 30:
                os.kill(os.getpid(), signal.SIGKILL)
            return n

        tasks = rig.submit_all(worker, work, [(n,) for n in range(60)])
        event = rig.exit_of(worker)
        assert event.running == (tasks[30],)
        assert set(rig.results) <= set(tasks[:30])
