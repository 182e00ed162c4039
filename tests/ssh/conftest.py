"""SSH hosts for tests: made once, looked at after each test, gone at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from tests.conftest import FAILED
from tests.ssh import machines
from tests.ssh.machines import PATIENCE, PAUSE, Machine
from tests.system import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any


class Hosts:
    """The machines of a run, and how to reach them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.identity = place / "id"
        self._public = machines.make_key(self.identity)
        self._count = 0
        self._made: list[Machine] = []
        self.usual: list[Machine] = []

    def make(self, **settings: str) -> Machine:
        """Return a new machine."""
        self._count += 1
        self._made.append(Machine(self.place, self._count, self._public, **settings))
        return self._made[-1]

    def clear(self) -> None:
        """End what is left on the usual machines, so that the next test begins anew."""
        for machine in self.usual:
            machine.clear()

    def close(self, machine: Machine) -> None:
        """End a machine."""
        self._made.remove(machine)
        machine.close()

    def close_all(self) -> None:
        """End all machines."""
        for machine in list(self._made):
            self.close(machine)

    def known(self, *shown: Machine, name: str = "known_hosts") -> str:
        """Return a file of known hosts with these, by default the usual ones."""
        path = self.place / name
        lines = [f"{machine.address} {machine.host_key}\n" for machine in shown or self.usual]
        path.write_text("".join(lines), encoding="ascii")
        return str(path)

    def config(self, *shown: Machine) -> str:
        """Return a configuration of ssh in which these are called h1, h2 and so on, by default the usual ones."""
        path = self.place / "ssh_config"
        lines = [
            f"Host h{number}\n  HostName {machine.address}\n  User root\n  IdentityFile {self.identity}\n"
            for number, machine in enumerate(shown or self.usual, 1)
        ]
        path.write_text("".join(lines), encoding="ascii")
        return str(path)

    def provider(self, *used: Machine, **settings: Any) -> sky.SSH:
        """Return a provider of nodes on these machines, by default the usual ones."""
        used = used or tuple(self.usual)
        said: dict[str, Any] = {
            "user": "root",
            "identity": str(self.identity),
            "ssh_config": "none",
            "known_hosts": self.known(*used),
        }
        return sky.SSH([machine.address for machine in used], **said | settings)


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Return three machines."""
    install(machines.PACKAGES)
    made = Hosts(tmp_path_factory.mktemp("hosts"))
    try:
        made.usual += [made.make() for _ in range(3)]
        yield made
    finally:
        made.close_all()


@pytest.fixture
def host(hosts: Hosts) -> Machine:
    """Return the first of them."""
    return hosts.usual[0]


@pytest.fixture
def make_host(hosts: Hosts) -> Iterator[Callable[..., Machine]]:
    """Return a function that makes another machine, for one test."""
    made: list[Machine] = []

    def make(**settings: str) -> Machine:
        made.append(hosts.make(**settings))
        return made[-1]

    yield make
    for machine in made:
        hosts.close(machine)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what the client caches out of the home of whoever runs the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def clean_hosts(hosts: Hosts, request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """Return the hosts, and fail a test that leaves anything on one of them but caches."""
    yield hosts
    if request.node.stash.get(FAILED, False):
        hosts.clear()
        return
    deadline = time.monotonic() + PATIENCE
    left = ["at first"]
    while left and time.monotonic() < deadline:
        left = [f"{machine.name}: {what}" for machine in hosts.usual for what in machine.leftovers()]
        time.sleep(PAUSE if left else 0.0)
    hosts.clear()
    assert not left
