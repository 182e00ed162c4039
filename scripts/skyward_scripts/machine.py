"""Whether this machine can run local nodes: one finding for each thing they need.

Each check looks at the real thing; the last one starts a node. Nothing is left behind.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from skyward.errors import SkywardError
from skyward.machine.cpus import usable_cpus
from skyward.providers import directory
from skyward.providers.base import LaunchSpec
from skyward.providers.local import Local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEAST_PYTHON: Final = (3, 11)
LEAST_LIBZMQ: Final = (4, 3, 5)  # the first without known faults in CURVE's handshake
LEAST_FILES: Final = 256  # descriptors: the client, eight nodes, and what the user opens
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - where Linux has it
LEAST_SHARED: Final = 64 * 2**20  # bytes: what Docker gives by default, and a large argument needs


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one thing, and what to do if it will not do."""

    name: str
    ok: bool
    text: str
    advice: str = ""


def check_machine() -> Iterator[Finding]:
    """Yield a finding for each thing that local nodes need, then one about a node that is started."""
    yield from check_needs()
    yield _node()


def check_needs() -> Iterator[Finding]:
    """Yield a finding for each thing that local nodes need."""
    for check in NEEDS:
        yield check()


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    least = ".".join(map(str, LEAST_PYTHON))
    return Finding("python", sys.version_info >= LEAST_PYTHON, found, f"skyward needs Python {least} or newer")


def _system() -> Finding:
    needed = all(hasattr(os, name) for name in ("pidfd_open", "memfd_create", "register_at_fork"))
    advice = "local nodes need Linux 5.3 or newer"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        return Finding("system", ok=False, text=f"{sys.platform}: {error}", advice=advice)
    return Finding("system", needed, f"{os.uname().sysname} {os.uname().release}", advice)


def _cpus() -> Finding:
    count = usable_cpus()
    return Finding("cpus", ok=True, text=f"{count} usable")


def _zeromq() -> Finding:
    try:
        from skyward.transport.library import describe

        library = describe()
    except ImportError as error:
        return Finding("zeromq", ok=False, text=str(error), advice="pip install --force-reinstall pyzmq")
    version = ".".join(map(str, library.libzmq))
    text = f"libzmq {version}, pyzmq {library.pyzmq}, {'with' if library.has_curve else 'without'} CURVE"
    ok = library.libzmq >= LEAST_LIBZMQ and library.has_curve
    return Finding("zeromq", ok, text, "install a wheel of pyzmq: it brings libzmq 4.3.5 with CURVE")


def _temporary() -> Finding:
    try:
        path = directory.find_private(directory.temporary_directories())
    except SkywardError as error:
        return Finding("sockets", ok=False, text=str(error), advice="set TMPDIR")
    return Finding("sockets", ok=True, text=f"in {os.path.dirname(path)}")


def _shared_memory() -> Finding:
    advice = f"mount a tmpfs at {SHARED_MEMORY} (docker run --shm-size=1g)"
    try:
        space = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        return Finding("shared memory", ok=False, text=str(error), advice=advice)
    free = space.f_bavail * space.f_frsize
    ok = os.access(SHARED_MEMORY, os.W_OK | os.X_OK) and free >= LEAST_SHARED
    return Finding("shared memory", ok, f"{free / 2**20:.0f} MiB free in {SHARED_MEMORY}", advice)


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ok = soft == resource.RLIM_INFINITY or soft >= LEAST_FILES
    limit = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
    more = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    return Finding("open files", ok, f"{limit} (may be raised to {more})", f"ulimit -n {max(LEAST_FILES, 1024)}")


def _node() -> Finding:
    provider = Local()
    start = time.monotonic()
    try:
        provider.prepare()
        provider.launch(LaunchSpec(), 0, threading.Event())
    except SkywardError as error:
        return Finding("node", ok=False, text=str(error), advice="see the lines of its log above")
    finally:
        provider.close()
    return Finding("node", ok=True, text=f"starts in {time.monotonic() - start:.2f} s")


NEEDS: Final[tuple[Callable[[], Finding], ...]] = (
    _python, _system, _cpus, _zeromq, _temporary, _shared_memory, _files,
)  # fmt: skip
