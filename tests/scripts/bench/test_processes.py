"""Nothing that a contestant has started outlives it."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

from skyward_scripts.bench import processes

if TYPE_CHECKING:
    import pytest

DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(600)
    os._exit(0)
os.wait()
"""


def test_daemon_that_has_run_away_is_ended() -> None:
    """A process that left its session, and whose parents are gone, still carries the token."""
    token = uuid.uuid4().hex
    env = {**os.environ, processes.TOKEN: token}
    started = subprocess.Popen([sys.executable, "-c", DAEMON], env=env, stdout=subprocess.PIPE)
    assert started.stdout is not None
    with started.stdout as said:
        pid = int(said.readline())
        assert started.wait() == 0
        assert processes.marked(token) == [pid]
        assert processes.busy_seconds(token) > 0
        assert processes.memory(token) > 10**6
        assert processes.end(token) == 1
        assert processes.marked(token) == []
        assert said.read() == b""  # the other end is closed


def test_processes_without_the_token_are_left_alone() -> None:
    """A token that nobody carries ends nobody."""
    assert processes.end(uuid.uuid4().hex) == 0


def test_process_that_goes_by_itself_is_not_killed() -> None:
    """It may have something to clean up."""
    token = uuid.uuid4().hex
    env = {**os.environ, processes.TOKEN: token}
    started = subprocess.Popen(["sleep", "0.1"], env=env)
    assert processes.end(token, grace=60) == 0
    assert started.wait() == 0


def test_process_that_is_gone_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may end between the look at who is there and the look at what it costs."""
    started = subprocess.Popen(["true"])
    assert started.wait() == 0
    monkeypatch.setattr(processes, "marked", lambda _: [started.pid])
    assert (processes.busy_seconds("any"), processes.memory("any")) == (0, 0)
