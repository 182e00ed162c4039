"""Nodes of this machine that outlive whoever started them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from skyward.errors import ProvisionError
from skyward.meshes import asking
from skyward.providers import persisting
from skyward.providers.base import Launched, LaunchSpec
from skyward.providers.local import Local
from skyward.providers.persisting import Ident
from skyward.transport.keys import make_pair
from tests.leaks import end_marked
from tests.rules.work import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAIR = make_pair()
LAUNCHER = """
import sys, threading
from skyward.providers.base import LaunchSpec
from skyward.providers.local import Local
provider = Local()
provider.prepare()
launched = provider.launch(LaunchSpec(persist=True, mesh="m", client_key=sys.argv[1]), 0, threading.Event())
print(launched.ident, launched.endpoint, launched.public_key, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def home(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep these nodes apart from all others, and end them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(short_path))
    yield short_path
    Local().sweep()
    end_marked(persisting.MARK, str(short_path))  # what sweeps may be what is broken


def launch(provider: Local | None = None, index: int = 0, **spec: Any) -> Launched:
    """Start a node that persists."""
    wanted = LaunchSpec(persist=True, mesh="m", client_key=PAIR.public, **spec)
    return (provider or Local()).launch(wanted, index, threading.Event())


def process_of(launched: Launched) -> psutil.Process:
    """Return a node's daemon."""
    ident = Ident.parse(launched.ident)
    assert ident is not None
    return psutil.Process(ident.pid)


def serves(launched: Launched) -> bool:
    """Return whether the node answers who is admitted."""
    [report] = asking.ask([launched], PAIR)
    return report.ok


def gone(process: psutil.Process) -> bool:
    """Return whether a process has ended."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.rule("R31")
def test_node_outlives_its_launcher() -> None:
    """It serves on when the process that started it was killed, and is ended by what its ident says."""
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, PAIR.public], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as launcher:  # fmt: skip
        assert launcher.stdout is not None
        ident, endpoint, key = launcher.stdout.readline().split()
        launcher.kill()
    launched = Launched(ident=ident, endpoint=endpoint, public_key=key)
    family = [process_of(launched), *process_of(launched).children(recursive=True)]
    assert len(family) > 1
    assert serves(launched)
    Local().terminate(launched)
    assert all(map(gone, family))
    assert os.listdir(persisting.home()) == []
    Local().terminate(launched)


@pytest.mark.rule("R31")
def test_close_leaves_it() -> None:
    """Its provider may be closed, and its log can still be read, by any other."""
    provider = Local("tcp")
    launched = launch(provider, log_level="info")
    provider.close()
    assert serves(launched)
    until(lambda: any('"serving"' in line for line in Local().log_tail(launched)))
    provider.terminate(launched)
    assert any('"serving"' in line for line in provider.log_tail(launched))
    assert not Local().log_tail(launched)


@pytest.mark.rule("R42")
def test_it_is_reached_over_tcp_and_keeps_its_files_private() -> None:
    """Its key, whom it admits, and its log are in a directory of its own that nobody else may enter."""
    launched = launch()
    assert launched.endpoint.startswith("tcp://127.0.0.1:")
    [place] = list(os.scandir(persisting.home()))
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {"mesh", "log", "node.key"} <= set(os.listdir(place))
    assert all(stat.S_IMODE(entry.stat().st_mode) == 0o600 for entry in os.scandir(place))
    [report] = asking.ask([launched], make_pair())
    assert "does not admit our key" in report.problem


@pytest.mark.rule("R40")
def test_node_that_does_not_obey_is_ended() -> None:
    """Also one that is stopped, with its workers."""
    launched = launch()
    daemon = process_of(launched)
    family = [daemon, *daemon.children(recursive=True)]
    daemon.send_signal(signal.SIGSTOP)
    Local().terminate(launched)
    assert all(map(gone, family))


@pytest.mark.rule("R31")
def test_other_process_of_the_same_pid_is_left_alone() -> None:
    """One that started at another time, or does not carry the mark."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        start = persisting.start_time(other.pid)
        for told in (start - 1, start):
            Local().terminate(Launched(ident=str(Ident(other.pid, told, "token")), endpoint="tcp://127.0.0.1:1"))
        assert other.poll() is None


def test_only_idents_of_such_nodes_are_taken_for_one() -> None:
    """A pool's own nodes have others."""
    ident = Ident(12, 345, "0a1b")
    assert Ident.parse(str(ident)) == ident
    assert [Ident.parse(text) for text in ("local-12-0", "local-x-1-a", "tcp://h:1 0", "aws-1-2-3")] == [None] * 4


@pytest.mark.rule("R30")
def test_failed_start_leaves_nothing() -> None:
    """No process and no file; the error has the end of the log."""
    with pytest.raises(ProvisionError, match="local node 0 did not start: its process exited") as caught:
        launch(log_level="nonsense")
    assert any("nonsense" in line for line in caught.value.log)
    assert os.listdir(persisting.home()) == []


def test_close_during_its_launch_ends_it() -> None:
    """Until it serves it is its launcher's."""
    provider = Local()
    provider.prepare()
    errors: list[ProvisionError] = []

    def start() -> None:
        with pytest.raises(ProvisionError) as caught:
            launch(provider)
        errors.append(caught.value)

    thread = threading.Thread(target=start)
    thread.start()
    until(lambda: provider._daemons or errors)
    provider.close()
    thread.join()
    assert errors
    assert os.listdir(persisting.home()) == []


@pytest.mark.rule("R40")
def test_sweep_finds_nodes_by_their_marks() -> None:
    """Those of a mesh, or of all that nobody knows, and what is left of those that were killed."""
    first, second = launch(), launch(index=1)
    daemon = process_of(second)
    family = [daemon, *daemon.children(recursive=True)]
    daemon.kill()
    until(lambda: all(map(gone, family)))
    os.waitpid(daemon.pid, 0)  # it was a child of ours, and nobody else waits for it
    local = Local()
    assert local.sweep(keep=("m",)) == ()
    assert local.sweep("other") == ()
    lines = sorted(local.sweep("m", dry_run=True))
    pid = process_of(first).pid
    assert lines == [
        "files of a node that is gone, of mesh m on this machine",
        f"node with pid {pid}, of mesh m on this machine",
    ]
    assert serves(first)
    assert sorted(local.sweep()) == lines
    assert os.listdir(persisting.home()) == []
    assert local.sweep() == ()


def test_another_home_is_not_swept(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two homes know nothing of each other."""
    launched = launch()
    with monkeypatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(short_path / "other"))
        assert Local().sweep() == ()
    assert serves(launched)


def test_place_that_cannot_be_made_is_told(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that is not writable is no place for a node."""
    (short_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(short_path / "file"))
    with pytest.raises(ProvisionError, match="no place for a node that persists"):
        launch()
