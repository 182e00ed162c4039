"""What keeps a tree of processes together."""

from __future__ import annotations

import os
import signal
import time

from skyward_node import processes


def child() -> int:
    """Start a process that waits for its end."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    return pid


def reap(pid: int) -> int:
    """Wait for a child; return the signal that ended it."""
    return os.WTERMSIG(os.waitpid(pid, 0)[1])


def test_children_are_found_with_and_without_the_kernels_list() -> None:
    """The list of children is the same from /proc/self/task as from a scan of /proc."""
    pid = child()
    try:
        assert pid in processes.children()
        assert sorted(processes.children()) == sorted(processes._children_by_scan())
    finally:
        processes.kill(pid)
        assert reap(pid) == signal.SIGKILL
    assert pid not in processes.children()


def test_adopted_children_are_killed_and_others_kept() -> None:
    """`kill_adopted` spares what is to be kept, and names what it has killed."""
    before = processes.children()
    kept, stranger = child(), child()
    assert processes.kill_adopted({*before, kept}) == [stranger]
    assert reap(stranger) == signal.SIGKILL
    assert processes.kill_adopted({*before, kept}) == []
    assert processes.kill_adopted(before) == [kept]
    assert reap(kept) == signal.SIGKILL


def test_killing_what_is_gone_is_no_error() -> None:
    """Kills race with deaths, so a missing process or group is fine."""
    pid = child()
    processes.kill(pid)
    processes.kill(pid)
    reap(pid)
    processes.kill_group(pid)


def test_orphans_are_killed_though_more_come() -> None:
    """`kill_adopted`, called until it finds nobody, ends processes that are adopted meanwhile."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            processes.become_subreaper()
            for _ in range(5):
                if os.fork() == 0:
                    for _ in range(3):
                        if os.fork() == 0:
                            os.setsid()
                            if os.fork():
                                os._exit(0)
                            time.sleep(600)
                    os._exit(0)
            while killed := processes.kill_adopted(()):
                for orphan in killed:
                    os.waitpid(orphan, 0)
            code = len(processes.children())
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_memory_counters_only_rise() -> None:
    """Two readings in a row show no kill; a raised counter shows one."""
    first = processes.MemoryWatch.now()
    assert not processes.MemoryWatch.now().rose_since(first)
    assert processes.MemoryWatch(first.group + 1, first.machine).rose_since(first)
    assert processes.MemoryWatch(first.group, first.machine + 1).rose_since(first)


def test_descriptors_are_closed_but_for_those_to_keep() -> None:
    """`close_fds` leaves exactly what it was told to."""
    pid = os.fork()
    if pid == 0:
        processes.close_fds({0, 1, 2})
        left = [fd for fd in range(3, 256) if os.path.exists(f"/proc/self/fd/{fd}")]
        os._exit(len(left))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
