"""The end of daemons, real ones, that do not end as they should."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import TYPE_CHECKING, Final

import pytest

from skyward.providers.daemon import ENDING, Daemon, children
from tests.providers.test_local import launch
from tests.rules.processes import ended

if TYPE_CHECKING:
    from skyward.providers.local import Local

PTRACE_SEIZE: Final = 0x4206  # see ptrace(2)
PTRACE_INTERRUPT: Final = 0x4207


def launched(provider: Local, count: int) -> tuple[int, list[Daemon], list[int]]:
    """Start nodes; return the pid of what they were forked from, the nodes, and the pids of their templates."""
    for index in range(count):
        launch(provider, index)
    nodes, nursery = list(provider._daemons.values()), provider._nursery
    assert nursery is not None
    return nursery.pid, nodes, [template for node in nodes for template in children(node.pid)]


def stop(pid: int) -> None:
    """Stop a child, and return when it stands still."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)


def hang(pid: int) -> None:
    """Have a child hang, as far as its main thread goes, so that nothing but SIGKILL ends it: we trace it."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long] * 4
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if ptrace(request, pid, 0, 0) < 0:
            raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(pid, 0)  # it says that it stands still


@pytest.mark.rule("R30")
@pytest.mark.rule("T13")
def test_stopped_nodes_end_as_others_do(provider: Local) -> None:
    """They are continued, with what they were forked from and what forks their workers: none has to be killed."""
    nursery, nodes, templates = launched(provider, 2)
    for pid in (nursery, *(node.pid for node in nodes)):
        stop(pid)
    for pid in templates:
        os.kill(pid, signal.SIGSTOP)
    provider.close()
    assert [node.exit_code() for node in nodes] == [0, 0]
    assert ended(templates, 0.0)


@pytest.mark.rule("F6")
@pytest.mark.rule("T13")
def test_nodes_that_hang_are_ended_side_by_side(provider: Local) -> None:
    """Many take no longer than one: a program ends in time, however many nodes it has."""
    nursery, nodes, templates = launched(provider, 4)
    for pid in (nursery, *(node.pid for node in nodes)):
        hang(pid)
    began = time.monotonic()
    provider.close()
    took = time.monotonic() - began
    assert [node.exit_code() for node in nodes] == [-signal.SIGKILL] * 4
    assert ENDING <= took < 3 * ENDING
    assert ended(templates, 0.0)
