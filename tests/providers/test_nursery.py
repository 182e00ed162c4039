"""The process that forks the nodes of a pool, with real daemons."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import skyward.providers.daemon as daemons
import skyward.providers.nursery as nurseries
from skyward.image import Image
from skyward.machine.passing import send_fds
from tests.providers.test_daemon import stop
from tests.providers.test_local import PATIENCE, environ_of, launch

if TYPE_CHECKING:
    from skyward.providers.local import Local


@pytest.mark.rule("R31")
def test_nodes_of_a_pool_are_forked_from_one_process(provider: Local) -> None:
    """They are children of the client all the same, each in a session of its own, and it knows how they end."""
    first, second = launch(provider, 0), launch(provider, 1)
    for launched in (first, second):
        assert launched.pid is not None
        assert Path(f"/proc/{launched.pid}/cmdline").read_text().rstrip("\0").split("\0")[-2] == "--nursery-fd"
        assert daemons.parent_of(launched.pid) == os.getpid()
        assert os.getsid(launched.pid) == launched.pid
    others = set(daemons.children(os.getpid())) - {first.pid, second.pid}
    assert len([pid for pid in others if Path(f"/proc/{pid}/comm").read_text() == "skyward-nursery\n"]) == 1


@pytest.mark.rule("R30")
def test_nodes_outlive_their_nursery_and_start_without_it(provider: Local) -> None:
    """When it is killed no node is lost, and the next one starts by itself."""
    first = launch(provider, 0)
    nursery = provider._nursery
    assert nursery is not None
    os.kill(nursery.pid, signal.SIGKILL)
    second = launch(provider, 1)
    assert second.pid is not None
    assert Path(f"/proc/{second.pid}/cmdline").read_text().rstrip("\0").split("\0")[-2] == "--config-fd"
    assert first.death_fd is not None
    assert not select.select([first.death_fd], [], [], 0)[0]


@pytest.mark.rule("R31")
def test_node_with_another_environment_is_not_forked(provider: Local) -> None:
    """What an image sets counts for processes that start with it, as the node then does."""
    launched = launch(provider, image=Image(env={"WORD": "set"}))
    assert launched.pid is not None
    assert environ_of(launched.pid)["WORD"] == "set"


@pytest.mark.rule("R40")
@pytest.mark.parametrize("stopped", [False, True])
def test_nursery_ends_with_its_client(provider: Local, stopped: bool) -> None:
    """Nobody but the client holds the other end of its socket; one that is stopped is continued, and sees that."""
    launch(provider)
    nursery = provider._nursery
    assert nursery is not None
    pidfd = os.pidfd_open(nursery.pid)
    if stopped:
        stop(nursery.pid)
    try:
        nursery.hang_up()
        assert select.select([pidfd], [], [], PATIENCE)[0]
    finally:
        os.close(pidfd)


@pytest.mark.rule("F11")
def test_stopped_nursery_ends_with_its_client() -> None:
    """After ``kill -9`` of the client it is continued, and sees that."""
    code = """
import threading, time
from skyward.providers.base import LaunchSpec
from skyward.providers.local import Local
local = Local()
local.prepare()
local.launch(LaunchSpec(), 0, threading.Event())
print(local._nursery.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        nursery = int(client.stdout.readline())
        pidfd = os.pidfd_open(nursery)
        os.kill(nursery, signal.SIGSTOP)
        client.kill()
    try:
        assert select.select([pidfd], [], [], PATIENCE)[0]
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


@pytest.mark.rule("R40")
def test_node_that_is_forked_while_its_nursery_is_closed_is_known(
    provider: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that is on its way is granted: the pid is told, and the node ended and reaped with its pool."""
    nursery = provider._nursery
    assert nursery is not None

    def send_and_hang_up(*args: Any) -> None:
        send_fds(*args)
        nursery.hang_up()

    monkeypatch.setattr(nurseries, "send_fds", send_and_hang_up)
    launched = launch(provider)
    assert launched.pid is not None
    assert Path(f"/proc/{launched.pid}/cmdline").read_text().rstrip("\0").split("\0")[-2] == "--nursery-fd"
    provider.close()
    assert launched.pid not in daemons.children(os.getpid())


@pytest.mark.rule("R40")
def test_end_of_a_nursery_closes_nothing_of_others(provider: Local) -> None:
    """Its socket is closed once: by then the descriptor may have become the lifeline of another pool's node."""
    nursery = provider._nursery
    assert nursery is not None
    number = nursery._socket
    reading, writing = os.pipe()
    nursery.hang_up()
    lifeline, _ = daemons.open_ends(lambda: (os.dup2(writing, number, inheritable=False), -1))
    os.close(writing)
    try:
        nursery.end()
        assert not select.select([reading], [], [], 0)[0]
    finally:
        daemons.close_lifeline(lifeline)
        os.close(reading)


@pytest.mark.rule("R31")
def test_nodes_are_forked_for_who_ignores_ends_of_children() -> None:
    """The nursery is reaped by the kernel then, and its end is no error."""
    code = """
import signal, threading
from skyward.providers.base import LaunchSpec
from skyward.providers.daemon import gone
from skyward.providers.local import Local
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
local = Local()
local.prepare()
launched = local.launch(LaunchSpec(), 0, threading.Event())
print(open(f"/proc/{launched.pid}/cmdline").read().split(chr(0))[-3])
local._nursery.hang_up()
assert gone(local._nursery._pidfd, 20.0)
local.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.stdout, done.returncode) == ("--nursery-fd\n", 0), done.stderr


@pytest.mark.rule("R31")
def test_process_of_several_threads_is_not_cloned() -> None:
    """What starts threads in every interpreter has nodes started by themselves: locks could be held for ever."""
    code = """
import os, threading
from skyward_node.cloning import fork_sibling
over = threading.Event()
threading.Thread(target=over.wait).start()
try:
    if fork_sibling() == 0:
        os._exit(0)
except OSError as error:
    print(error.strerror)
finally:
    over.set()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout == "it has several threads\n", done.stderr


@pytest.mark.parametrize(("written", "heard"), [(b"12\n", 12), (b"12\n12\n", 12), (b"", None)])
def test_daemon_is_known_by_what_it_or_its_nursery_tells(provider: Local, written: bytes, heard: int | None) -> None:
    """Whichever of the two is killed, the other tells; silence of both is a no."""
    nursery = provider._nursery
    assert nursery is not None
    read, write = os.pipe()
    os.write(write, written)
    os.close(write)
    assert nursery._hear(read) == heard
    os.close(read)
