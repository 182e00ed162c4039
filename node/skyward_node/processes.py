"""What Linux offers to keep a tree of processes together: prctl flags, adopted children, memory counters.

A *subreaper* adopts what its descendants leave behind. The daemon, the template and every worker
are subreapers, so a task cannot hide a process from its node, not even by forking twice and calling
setsid: it is adopted by the worker, and by the template once the worker is gone. PURE it is not, but
it knows neither tasks nor pipes.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final

from skyward.frozen import Frozen

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Collection

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_TRACKER: Final = b"from multiprocessing.resource_tracker import main"  # of every version of Python until now


@cache  # each process that is forked from this one has it, too
def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int | bytes) -> None:
    import ctypes  # 6 ms: only processes that need it pay, and the template after its fork

    libc = _libc()
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if libc.prctl(ctypes.c_int(option), value, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def become_subreaper() -> None:
    """Adopt the orphans among this process's descendants from now on."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent's thread that forked us ends; exit now if that has happened already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died between our fork and the prctl
        os._exit(1)


def wake_with_parent() -> None:
    """Be continued when the parent's thread that forked us ends: who is stopped does not see that its pipes have."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


def set_name(name: str) -> None:
    """Name this thread, as ``ps`` and ``top`` show it; at most 15 characters count."""
    _prctl(_PR_SET_NAME, name.encode())


def children() -> list[int]:
    """Return the pids of this process's children, adopted ones and zombies among them."""
    try:
        return _children_of("self")
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN, or a thread that just ended
        return _children_by_scan()


def _children_of(pid: int | str) -> list[int]:
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children", encoding="utf-8") as listing:
            found += map(int, listing.read().split())
    return found


def family(pid: int, most: int) -> list[int]:
    """Return a process and those below it, the nearest first and at most so many; for numbers, not to act upon."""
    found = [pid]
    for member in found:
        if len(found) >= most:
            break
        with suppress(OSError):  # it has just ended
            found += _children_of(member)
    return found[:most]


def _children_by_scan() -> list[int]:
    me = os.getpid()
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent_of(pid) == me]


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return -1


def kill(pid: int) -> None:
    """SIGKILL a child that may be dead, but that nobody has reaped."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_group(leader: int) -> None:
    """SIGKILL a process group that may be gone; call it before the leader is reaped, or its id may be reused."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def kill_adopted(keep: Collection[int]) -> list[int]:
    """SIGKILL every child that is not to be kept; return those, which have yet to be reaped.

    What a killed child leaves behind is adopted in turn: call again after each reaped child until none is left.
    """
    strangers = [pid for pid in children() if pid not in keep]
    for pid in strangers:
        kill(pid)
    return strangers


def clears_up(pid: int) -> bool:
    """Return whether a process is what unlinks the shared memory and semaphores that `multiprocessing` has left.

    It ends by itself, soon after all those whose they were.
    """
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as command:
            return _TRACKER in command.read(4096)
    except OSError:
        return False


def close_fds(keep: Collection[int]) -> None:
    """Close every file descriptor of this process but ``keep``."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd not in keep:
            with suppress(OSError):  # the listing's own
                os.close(fd)


# --- memory ---------------------------------------------------------------------------------


def _read_counter(path: str, key: str) -> int:
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == key:
                    return int(value)
    except (OSError, ValueError):
        pass
    return 0


def _memory_cgroup() -> tuple[str, bool]:
    """Return the directory of this process's memory cgroup, and whether it is of version 2."""
    unified = ""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as listing:
            lines = listing.read().splitlines()
    except OSError:
        lines = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _existing("/sys/fs/cgroup/memory", path), False
        if number == "0":
            unified = path
    return _existing("/sys/fs/cgroup", unified), True


def _existing(mount: str, path: str) -> str:
    # In a container the path is as the host sees it while only our own part is mounted, as the root.
    full = mount + path
    return full.rstrip("/") if os.path.isdir(full) else mount


class MemoryWatch(Frozen):
    """Counters that go up when the kernel kills for lack of memory, as of one moment."""

    group: int
    machine: int

    @classmethod
    def now(cls) -> MemoryWatch:
        """Read the counters of this process's cgroup (v1 or v2) and of the machine."""
        directory, unified = _memory_cgroup()
        file = "memory.events" if unified else "memory.oom_control"
        return cls(
            _read_counter(f"{directory}/{file}", "oom_kill"),
            # A task may have moved itself to a cgroup below ours, which v1 counters do not include.
            _read_counter("/proc/vmstat", "oom_kill"),
        )

    def rose_since(self, earlier: MemoryWatch) -> bool:
        """Return whether memory ran out between ``earlier`` and this."""
        return self.group > earlier.group or self.machine > earlier.machine


def memory_limit() -> int | None:
    """Return the bytes that this process's cgroup and those above it allow; None if nothing limits them."""
    directory, unified = _memory_cgroup()
    file = "memory.max" if unified else "memory.limit_in_bytes"
    limits: list[int] = []
    while directory.startswith("/sys/fs/cgroup"):
        try:
            with open(f"{directory}/{file}", encoding="utf-8") as limit:
                limits.append(int(limit.read()))
        except (OSError, ValueError):  # "max", or a level without the controller
            pass
        directory = os.path.dirname(directory)
    lowest = min(limits, default=None)
    # v1 has no word for "unlimited": it shows the largest multiple of a page that fits 63 bits.
    return lowest if lowest is not None and lowest < 2**60 else None
