"""Finding and ending whatever a contestant has started, however far it has run away.

All that descends from a contestant's process carries its token in the environment: daemons that leave their
session do, and so do those whose parents have died.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Final

TOKEN: Final = "SKYWARD_BENCH"  # noqa: S105 - the environment variable that marks processes: no secret
PAUSE: Final = 0.02  # seconds between looks
PATIENCE: Final = 5.0  # seconds for killed processes to go
CPU_CLOCK: Final = 2  # of a process, in the lowest bits of its number; to the nanosecond: see clock_getcpuclockid(3)


def marked(token: str) -> list[int]:
    """Return the processes that carry a token, but for this one and those that are dead."""
    wanted = f"{TOKEN}={token}".encode()
    return [pid for pid in _all() if pid != os.getpid() and wanted in _environment(pid)]


def end(token: str, grace: float = 0.0) -> int:
    """Kill all that carry a token until none is left; return how many there were.

    They have ``grace`` seconds to go by themselves: whoever notices that its parent is gone may have named
    semaphores or shared memory to remove.
    """
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and marked(token):
        time.sleep(PAUSE)
    seen: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    while (found := marked(token)) and time.monotonic() < deadline:
        for pid in found:
            _kill(pid, token)
        seen.update(found)
        time.sleep(PAUSE)
    return len(seen)


def _kill(pid: int, token: str) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # Only now is it certain that the number has not passed on to somebody else.
        if f"{TOKEN}={token}".encode() in _environment(pid):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:  # gone, or not ours
        return []


def busy_seconds(token: str) -> float:
    """Return the CPU time that all living processes with a token have used."""
    return sum(_cpu_seconds(pid) for pid in marked(token))


def _cpu_seconds(pid: int) -> float:
    try:
        return time.clock_gettime(~pid << 3 | CPU_CLOCK)
    except OSError:  # gone
        return 0.0


def memory(token: str) -> int:
    """Return the bytes of memory that all living processes with a token have, their shares of what they share."""
    return sum(_memory(pid) for pid in marked(token))


def _memory(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii", errors="replace") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:")), 0)
    except OSError:  # gone
        return 0
