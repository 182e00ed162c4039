"""What a test leaves behind: threads, descriptors, processes, shared memory, temporary files.

`take` notes what exists, `left_since` names what has come since, `wait_until_clean` waits for it to go: what
ends by itself in a moment is no leak. A look costs a millisecond: only processes that are new are looked at
closely, by these marks:

- an ancestor of theirs is this process;
- they were forked from it, however many parents have died since: the address of their environment, which
  the kernel places at random at each exec, is ours;
- they carry the name of this run in their environment, as everything does that we start by exec.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MARK: Final = "SKYWARD_TEST_RUN"  # environment variable that names this run
PATIENCE = 20.0  # seconds that threads and processes may take to end
PAUSE: Final = 0.005  # seconds between looks: the kernel has no event for "all of this is gone"
SHARED_MEMORY: Final = "/dev/shm"
OURS: Final = "skyward"  # what names of ours in shared memory start with; other programs use it too
ENV_START: Final = 50  # field of /proc/PID/stat, counted from 1; see proc(5)
WATCHED_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class Census:
    """What existed at one moment."""

    threads: frozenset[threading.Thread]
    fds: frozenset[tuple[int, str]]
    pids: frozenset[int]
    files: frozenset[str]
    handlers: tuple[Any, ...]
    cwd: str


def take() -> Census:
    """Return what exists now."""
    return Census(
        threads=frozenset(threading.enumerate()),
        fds=frozenset(_fds()),
        pids=frozenset(_pids()),
        files=frozenset(_files()),
        handlers=tuple(signal.getsignal(number) for number in WATCHED_SIGNALS),
        cwd=os.getcwd(),
    )


def left_since(before: Census) -> list[str]:
    """Return a line about each thing that is there now and was not before."""
    left = [f"thread {thread.name}" for thread in threading.enumerate() if thread not in before.threads]
    left += [f"descriptor {fd}: {target}" for fd, target in sorted(set(_fds()) - before.fds)]
    left += _processes_since(before.pids)
    left += [f"file {path}" for path in sorted(set(_files()) - before.files)]
    left += [
        f"handler of {number.name}: {signal.getsignal(number)}"
        for number, handler in zip(WATCHED_SIGNALS, before.handlers, strict=True)
        if signal.getsignal(number) != handler
    ]
    if os.getcwd() != before.cwd:
        left.append(f"working directory {os.getcwd()}, was {before.cwd}")
    return left


def wait_until_clean(
    before: Census, patience: float | None = None, pause: Callable[[float], None] = time.sleep
) -> list[str]:
    """Return what is left since ``before`` once nothing is, or after ``patience`` seconds (default `PATIENCE`)."""
    left = left_since(before)
    if not left:
        return left
    gc.collect()  # what only a cycle holds is on its way out
    deadline = time.monotonic() + (PATIENCE if patience is None else patience)
    while (left := left_since(before)) and time.monotonic() < deadline:
        pause(PAUSE)
    return left


def shared_memory() -> set[str]:
    """Return the names of what is ours in shared memory, now."""
    return {name for name in _names(SHARED_MEMORY) if name.startswith(OURS)}


def end_marked(name: str, value: str) -> None:
    """Kill all processes in whose environment a variable begins with a value: what shall outlive its maker, too."""
    mark = f"{name}={value}".encode()
    for pid in _pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if any(word.startswith(mark) for word in file.read().split(b"\0")) and pid != os.getpid():
                    os.kill(pid, signal.SIGKILL)
        except OSError:  # it has ended, or is none of ours
            continue


# --- looking --------------------------------------------------------------------------------


def _fds() -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except OSError:  # the listing itself
            continue
    tracker = _tracker()
    return [pair for pair in found if tracker is None or pair[0] != tracker._fd]


def _files() -> list[str]:
    temporary = tempfile.gettempdir()
    return [f"{SHARED_MEMORY}/{name}" for name in shared_memory()] + [
        f"{temporary}/{name}" for name in _names(temporary)
    ]


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _tracker() -> Any:
    """Return multiprocessing's resource tracker, which lives as long as this process, if there is one."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    return None if module is None else module._resource_tracker


def _processes_since(before: frozenset[int]) -> list[str]:
    new = {pid: stat for pid in _pids() if pid not in before and (stat := _stat(pid)) is not None}
    tracker = _tracker()
    if tracker is not None:
        new.pop(tracker._pid, None)
    if not new:
        return []
    mark = f"{MARK}={os.environ.get(MARK, '')}".encode()
    home = (_stat(os.getpid()) or [])[ENV_START - 1]
    found: list[str] = []
    for pid, stat in sorted(new.items()):
        if _descends(pid, new) or (_state(stat) != "Z" and (stat[ENV_START - 1] == home or _marked(pid, mark))):
            found.append(f"process {pid} ({_state(stat)}): {_command(pid)}")
    return found


def _stat(pid: int) -> list[str] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command stands in parentheses and may hold anything.
            head, _, tail = file.read().decode(errors="replace").rpartition(")")
    except OSError:
        return None
    return [head.partition(" ")[0], head, *tail.split()]


def _state(stat: list[str]) -> str:
    return stat[2]


def _descends(pid: int, new: dict[int, list[str]]) -> bool:
    """Return whether we are an ancestor; a chain of new processes cannot leave the new ones before it reaches us."""
    seen: set[int] = set()
    while pid in new and pid not in seen:
        seen.add(pid)
        pid = int(new[pid][3])
    return pid == os.getpid()


def _marked(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(200).replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "gone"
