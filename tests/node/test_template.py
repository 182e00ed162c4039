"""The template: forks, reaps, and leaves no process behind, whoever dies first."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from skyward_node import boot, processes
from skyward_node.executors.events import TemplateLost
from skyward_node.template import CLEARING
from skyward_node.testing import PATIENCE, Rig, alive, descendants, wait_dead

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

MEMORY: Final = 300 * 2**20  # bytes: what forks of a long run of tests copy of its pages fits


def litter() -> list[int]:
    """Leave a child, a child in a session of its own, and a daemon that was forked twice."""
    import os
    import time

    pids: list[int] = []
    for kind in ("child", "session", "daemon"):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            if kind != "child":
                os.setsid()
            if kind == "daemon" and os.fork():
                os._exit(0)
            os.write(write, str(os.getpid()).encode())
            time.sleep(600)
            os._exit(0)
        pids.append(int(os.read(read, 100)))
    return pids


litter.__module__ = "__main__"  # by value: a test module is no user module


@contextmanager
def daemon(play: Callable[[Rig], list[int]]) -> Generator[tuple[int, list[int]]]:
    """Run a rig in a process of its own; yields its pid, and the pids that ``play`` returned."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with Rig() as rig:
                os.write(write, " ".join(map(str, play(rig))).encode())
                while True:
                    rig.until(lambda: False, 60)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read1(4096)
    assert data
    try:
        yield pid, [int(word) for word in data.split()]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.rule("F17")
@pytest.mark.rule("R30")
def test_nothing_survives_the_death_of_a_worker() -> None:
    """Children, sessions and daemons that a task has left are gone soon after its worker's death (F17)."""
    with Rig() as rig:
        worker, other = rig.spawn(), rig.spawn()
        pids, others = rig.call(worker, litter), rig.call(other, litter)
        assert all(map(alive, pids))
        os.kill(rig.pid(worker), signal.SIGKILL)
        rig.exit_of(worker)
        wait_dead(pids)
        assert all(map(alive, others))
        assert rig.call(other, abs, -1) == 1


@pytest.mark.rule("F17")
@pytest.mark.parametrize("end", ["worker", "daemon"])
def test_what_looks_like_clearing_up_has_a_moment(end: str) -> None:
    """Also of a node that has nothing else to do; what a task has left besides is killed at once."""

    def pretend() -> list[int]:
        import subprocess
        import sys

        words = "from multiprocessing.resource_tracker import main"  # which the other process does not run
        code = f"import time; print(flush=True); time.sleep(600) or '{words}'"
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert other.stdout is not None
        other.stdout.readline()
        return [other.pid, subprocess.Popen(["sleep", "600"], start_new_session=True).pid]

    pretend.__module__ = "__main__"
    with Rig() as rig:
        worker = rig.spawn()
        pretends, child = rig.call(worker, pretend)
        began = time.monotonic()
        if end == "worker":
            rig.supervisor.kill(worker)
            rig.exit_of(worker)
            wait_dead([child])
            wait_dead([pretends])
        else:
            rig.supervisor.close()
            assert not alive(pretends)
            assert not alive(child)
        assert CLEARING <= time.monotonic() - began < PATIENCE


def test_daemons_of_a_task_live_while_its_worker_does() -> None:
    """What a task leaves running is not killed by the end of other processes of that worker."""
    with Rig() as rig:
        worker = rig.spawn()
        pids = rig.call(worker, litter)
        assert rig.call(worker, lambda: __import__("subprocess").run("true", check=True).returncode) == 0
        assert set(pids) <= descendants(rig.pid(worker))  # the one that was forked twice too
        assert all(map(alive, pids))


@pytest.mark.rule("R30")
def test_nothing_survives_the_daemon() -> None:
    """When the daemon is killed, template, workers and all they have started are gone within two seconds."""

    def play(rig: Rig) -> list[int]:
        workers = [rig.spawn() for _ in range(2)]
        return [
            rig.template.pid,
            *(rig.pid(w) for w in workers),
            *(pid for w in workers for pid in rig.call(w, litter)),
        ]

    with daemon(play) as (pid, pids):
        os.kill(pid, signal.SIGKILL)
        wait_dead(pids)


@pytest.mark.rule("F11")
def test_stopped_template_ends_with_its_daemon() -> None:
    """It is continued, sees that nobody talks to it any more, and ends: nobody has to lose patience with it."""
    with Rig() as rig:
        worker = rig.spawn()
        pids = [rig.pid(worker), *rig.call(worker, litter)]
        os.kill(rig.template.pid, signal.SIGSTOP)
        began = time.monotonic()
        rig.template.stop(PATIENCE)
        assert time.monotonic() - began < PATIENCE / 2
        wait_dead(pids)


def test_workers_die_with_the_template() -> None:
    """When the template is killed its workers are killed by the kernel, and the daemon is told once."""
    with Rig() as rig:
        worker = rig.spawn()
        pid = rig.pid(worker)
        os.kill(rig.template.pid, signal.SIGKILL)
        wait_dead([pid])
        rig.until(lambda: TemplateLost() in rig.events)
        rig.pump()
        assert rig.events.count(TemplateLost()) == 1
        rig.supervisor.spawn(99, 1, {})  # harmless


def test_daemon_adopts_what_a_dead_template_leaves() -> None:
    """A daemon that is a subreaper gets the orphans of a killed template, and can kill them."""

    def play(rig: Rig) -> list[int]:
        processes.become_subreaper()
        pids: list[int] = rig.call(rig.spawn(), litter)
        os.kill(rig.template.pid, signal.SIGKILL)
        rig.until(lambda: TemplateLost() in rig.events)
        boot._stop(rig.template)
        return pids

    with daemon(play) as (pid, pids):
        wait_dead(pids)
        assert not descendants(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_template_ignores_signals_that_mean_the_daemon(number: int) -> None:
    """Ctrl-C and SIGTERM to the process group leave the template and its workers to the daemon."""
    with Rig() as rig:
        worker = rig.spawn()
        rig.pid(worker)
        os.kill(rig.template.pid, number)
        assert rig.call(worker, abs, -1) == 1
        assert rig.call(rig.spawn(), abs, -2) == 2


def test_template_has_one_thread_and_no_descriptors_of_the_daemon() -> None:
    """The template can be forked from for ever, and holds nothing of the daemon's open."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    with Rig() as rig:
        rig.pid(rig.spawn())
        os.close(write)
        assert os.read(read, 1) == b""
        assert len(os.listdir(f"/proc/{rig.template.pid}/task")) == 1
    os.close(read)


def test_workers_hold_only_their_own_descriptors() -> None:
    """A worker inherits neither descriptors of the template nor of other workers."""
    with Rig() as rig:
        workers = [rig.spawn() for _ in range(3)]
        count = [len(rig.call(worker, lambda: __import__("os").listdir("/proc/self/fd"))) for worker in workers]
        assert len(set(count)) == 1
        # 0-2, data, control, the bell, the cells' own copy, the arena, and the listing itself
        assert count[0] <= 10


def cgroup(controller: str, name: str) -> Path:
    """Make a v1 cgroup, or skip where that is not possible."""
    path = Path(f"/sys/fs/cgroup/{controller}/{name}-{os.getpid()}")
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no writable v1 {controller} cgroup: {error}")
    return path


def remove(path: Path) -> None:
    """Remove a cgroup as soon as it is empty."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            path.rmdir()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            os.sched_yield()


@pytest.mark.rule("F62")
def test_refused_forks_are_retried() -> None:
    """When no more processes are allowed, workers start as soon as they are again (F62)."""
    group = cgroup("pids", "skyward-test")
    try:
        with Rig() as rig:
            first = rig.spawn()
            rig.pid(first)
            (group / "cgroup.procs").write_text(str(rig.template.pid))
            (group / "pids.max").write_text("1")
            second = rig.spawn()
            task = rig.submit(second, abs, -2)
            assert rig.call(first, abs, -1) == 1
            refused = group / "pids.events"
            deadline = time.monotonic() + PATIENCE
            while "max 0" in refused.read_text() and time.monotonic() < deadline:
                os.sched_yield()
            assert second not in rig.pids
            (group / "pids.max").write_text("max")
            assert rig.value(task) == 2
    finally:
        remove(group)


@pytest.mark.rule("F13")
@pytest.mark.rule("R38")
def test_out_of_memory_is_told_from_other_kills() -> None:
    """A worker that the kernel kills for lack of memory is reported as such, with limit and peak (F13)."""
    group = cgroup("memory", "skyward-test")
    try:
        (group / "memory.limit_in_bytes").write_text(str(MEMORY))
        with Rig() as rig:
            rig.pid(rig.spawn())
            (group / "cgroup.procs").write_text(str(rig.template.pid))
            hog, other = rig.spawn(), rig.spawn()
            rig.submit(hog, lambda: len(bytearray(b"x") * 2**29))
            event = rig.exit_of(hog)
            assert (event.signal, event.oom, event.memory_limit) == (signal.SIGKILL, True, MEMORY)
            ours = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # a fork begins with our pages
            assert 50 * 2**20 < (event.peak_memory or 0) <= ours + MEMORY
            os.kill(rig.pid(other), signal.SIGKILL)
            assert not rig.exit_of(other).oom
    finally:
        remove(group)


def test_template_start_is_cheap_to_import() -> None:
    """What the daemon imports before it forks the template does not include msgspec, zmq or ctypes."""
    script = "import sys, skyward_node.template; print({'msgspec', 'zmq', 'ctypes', 'cloudpickle'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
