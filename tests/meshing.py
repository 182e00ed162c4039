"""Meshes of this machine for tests: homes of their own, and nodes that persist."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from skyward.meshes import files, raising
from skyward.meshes.described import Description
from skyward.model import Nodes
from skyward.providers import persisting
from skyward.providers.local import Local
from tests.leaks import end_marked
from tests.rules.work import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import pytest

    from skyward.meshes.files import Mesh
    from skyward.providers.base import Launched, Provider

COMMAND = [sys.executable, "-m", "skyward_scripts"]


@dataclass(frozen=True)
class Homes:
    """Where a test's meshes are."""

    root: Path
    work: Path  # the working directory

    @property
    def state(self) -> Path:
        """Return skyward's state home."""
        return self.root / "state" / "skyward"

    def describe(self, text: str) -> Path:
        """Write a `skyward.toml` into the working directory."""
        path = self.work / "skyward.toml"
        path.write_text(text)
        return path


@contextmanager
def make_homes(root: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Homes]:
    """Point to homes below a directory, and go to one below it; end all meshes at the end."""
    work = root / "work"
    work.mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(root / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root / "config"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(work)
    yield Homes(root, work)
    Local().sweep()
    end_marked(persisting.MARK, str(root))  # what sweeps may be what is broken


def bring_up(name: str = "dev", nodes: int = 1, **options: Any) -> Mesh:
    """Bring up a mesh of this machine."""
    return raising.up(plan(name, nodes, **options))


def plan(name: str = "dev", nodes: int = 1, **options: Any) -> raising.Plan:
    """Return the plan of one."""
    return raising.plan(Description(name=name, nodes=Nodes(nodes), options=options))


def with_provider(provider: Provider, name: str = "dev", nodes: int = 1) -> raising.Plan:
    """Return the plan of one whose nodes this provider starts."""
    made = plan(name, nodes)
    return raising.Plan(made.description, provider, made.spec, nodes, made.quote)


def daemons(mesh: Mesh) -> list[psutil.Process]:
    """Return the daemons of a mesh."""
    return [psutil.Process(node.pid) for node in mesh.nodes if node.pid is not None]


def family(mesh: Mesh) -> list[psutil.Process]:
    """Return the daemons of a mesh and all below them."""
    return [process for daemon in daemons(mesh) for process in (daemon, *daemon.children(recursive=True))]


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that are neither gone nor zombies."""
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def nothing_is_left(homes: Homes) -> None:
    """Check that no file and no node of a mesh is there."""
    assert files.known() == ()
    for name in ("meshes", "nodes"):
        place = homes.state / name
        assert not place.exists() or os.listdir(place) == [], name
    assert Local().sweep(dry_run=True) == ()


@contextmanager
def stopped(*nodes: Launched) -> Generator[None]:
    """Have the daemons of some nodes stopped: their ports take connections, and nobody answers."""
    processes = [psutil.Process(node.pid) for node in nodes]
    for process in processes:
        process.suspend()
    try:
        for process in processes:
            until(lambda process=process: process.status() == psutil.STATUS_STOPPED)
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # somebody has ended it
                process.resume()


@contextmanager
def full_port() -> Generator[int]:
    """Give a port of this machine that takes no connection any more, as of a machine behind a firewall."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        first.connect(server.getsockname())
        second.setblocking(False)
        second.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@contextmanager
def killed(source: str) -> Generator[None]:
    """Run a program until it writes an x to the descriptor that it is given, and kill it when the block is over."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", source, str(write)], env=environment, close_fds=False) as running:
        os.close(write)
        assert os.read(read, 1) == b"x"
        os.close(read)
        try:
            yield
        finally:
            running.kill()


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [*COMMAND, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip
