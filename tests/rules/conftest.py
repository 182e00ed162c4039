"""Pools of this machine for tests of the rules."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward import compute
from skyward.machine.memory import Arena
from tests.rules.byhand import ByHand, client_pair, keys
from tests.rules.proxy import Proxy
from tests.rules.work import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def chosen_transport(transport: str) -> str:
    """Let ``--transport`` decide about all pools of these tests."""
    return transport


@pytest.fixture(autouse=True)
def patient_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `cancel` wait for its answer as long as a busy machine may need."""
    monkeypatch.setattr(compute, "_CANCEL_SLACK", LONG)


@pytest.fixture
def pool() -> Iterator[sky.Compute]:
    """Return an open pool of two nodes with one slot each."""
    with sky.Compute(nodes=2) as pool:
        yield pool
        pool.close(cancel=True)  # a test that has failed may have left calls that are held


@pytest.fixture(params=["ipc", "tcp"])
def provider(request: pytest.FixtureRequest) -> sky.Local:
    """Return who starts nodes whose workers share memory with us, or with their daemon only."""
    return sky.Local(transport=request.param)


@pytest.fixture
def one(provider: sky.Local) -> Iterator[sky.Compute]:
    """Return a pool of one node of one slot, of either kind."""
    with sky.Compute(provider, nodes=1) as pool:
        yield pool


@pytest.fixture
def make_proxy() -> Iterator[Callable[..., Proxy]]:
    """Return a function that puts something between client and node; all are closed at the end."""
    proxies: list[Proxy] = []

    def make(port: int, rate: float = 0.0) -> Proxy:
        proxies.append(Proxy(port, rate))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def threads() -> Iterator[sky.Compute]:
    """Return an open pool of one node with two threads."""
    with sky.Compute(nodes=1, executor="thread", concurrency=2) as pool:
        yield pool
        pool.close(cancel=True)  # the same


@pytest.fixture
def by_hand(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ByHand]]:
    """Return a function that starts nodes as people do; they admit the client of this test if it says nothing else."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(short_path))
    nodes: list[ByHand] = []

    def start(*options: str, admit: bool = True, directory: Path | None = None, **settings: Any) -> ByHand:
        place = directory or short_path / f"node{len(nodes)}"
        if admit and directory is None:
            keys(place, "add", client_pair().public, "test")
        nodes.append(ByHand(place, *options, **settings))
        return nodes[-1]

    yield start
    for node in nodes:
        node.end()


@pytest.fixture
def in_terminal() -> Callable[..., str]:
    """Return a function that runs a program in a terminal and returns what it has shown there.

    What it is given is called whenever there is more: ``look`` with the program and all that was shown so far, ``keys``
    with the latter, to return what is typed then.
    """

    def run(
        code: str,
        look: Callable[[subprocess.Popen[bytes], bytes], object] | None = None,
        status: int = 0,
        *,
        keys: Callable[[bytes], bytes] = lambda _: b"",
        flags: tuple[str, ...] = (),
    ) -> str:
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 100))
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
        with subprocess.Popen(
            [sys.executable, *flags, "-c", code], env=environment, stdin=slave, stdout=slave, stderr=slave
        ) as program:
            os.close(slave)
            shown = b""
            with suppress(OSError):  # how a terminal says that nobody is left
                while data := os.read(master, 65_536):
                    shown += data
                    if look is not None:
                        look(program, shown)
                    if typed := keys(shown):
                        os.write(master, typed)
            os.close(master)
            assert program.wait(LONG) in (status, -signal.SIGINT if look else status), shown
        return shown.decode()

    return run


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of what is copied into shared memory from now on."""
    sizes: list[int] = []
    real = Arena.put

    def count(self: Arena, buffer: Any) -> Any:
        sizes.append(memoryview(buffer).nbytes)
        return real(self, buffer)

    monkeypatch.setattr(Arena, "put", count)
    return sizes
