"""A fork whose child is a sibling of the process that forks: it has the same parent, which reaps it.

So a process that has imported what daemons need can make them for a launcher, whose own children they are: their
parent is who they watch, and who learns how they have ended. Only the kernel's `clone` does that (CLONE_PARENT), not
the C library's. The two things the library's `fork` would do besides are done here: Python's own state is put in order,
as its documentation asks of whoever clones a process, and the C library's note of the thread's id is corrected.

It refuses in a process of several threads, which a `sitecustomize` may have started: the library's `fork` would see to
its own locks there.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

_PR_GET_TID_ADDRESS: Final = 40
_CLONE_PARENT: Final = 0x0000_8000
_CLONE_CHILD_CLEARTID: Final = 0x0020_0000
_CLONE_CHILD_SETTID: Final = 0x0100_0000
_SIGCHLD: Final = 17

# Machine -> number of the call, and whether `tls` comes before `child_tid`; see clone(2). `clone3` would be the same
# everywhere, but is closed where containers filter calls.
_CALLS: Final = {"x86_64": (56, False), "aarch64": (220, True)}


def is_possible() -> bool:
    """Return whether this machine is one of which we know how it clones."""
    return os.uname().machine in _CALLS and sys.maxsize > 2**32


def fork_sibling() -> int:
    """Return 0 in the child, and its pid in this process; raises `OSError` where the kernel refuses."""
    if len(os.listdir("/proc/self/task")) > 1:
        raise OSError(0, "it has several threads")
    number, tls_first = _CALLS[os.uname().machine]
    libc = ctypes.PyDLL(None, use_errno=True)  # which keeps the interpreter's lock: nobody else is to have it here
    libc.syscall.restype = ctypes.c_long
    place = _place_of_thread_id(libc)
    flags = _CLONE_PARENT | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID | _SIGCHLD
    last = (None, place) if tls_first else (place, None)
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid = int(libc.syscall(ctypes.c_long(number), ctypes.c_ulong(flags), None, None, *last))
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0
    error = ctypes.get_errno()
    python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, os.strerror(error))
    return pid


def _place_of_thread_id(libc: ctypes.PyDLL) -> ctypes.c_void_p:
    """Return where the C library has noted this thread's id, and has the kernel clear it."""
    place = ctypes.c_void_p()
    arguments = (ctypes.byref(place), *[ctypes.c_ulong(0)] * 3)
    if libc.prctl(ctypes.c_int(_PR_GET_TID_ADDRESS), *arguments) != 0 or not place.value:
        raise OSError(ctypes.get_errno(), "the kernel does not tell where the thread's id is")
    if ctypes.c_int.from_address(place.value).value != os.getpid():
        raise OSError(0, "the thread's id is not where the kernel would write it")
    return place
