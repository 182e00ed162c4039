"""Hosts whose keys are unknown or have changed are refused, and nothing runs there."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.providers.base import LaunchSpec
from tests.ssh import machines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.ssh.conftest import Hosts
    from tests.ssh.machines import Machine

REPEATS = 5
MANY = 100  # tries of each kind, in the long form


def launch(provider: sky.SSH) -> None:
    """Launch a node, and end it."""
    provider.prepare()
    try:
        provider.launch(LaunchSpec(), 0, threading.Event())
    finally:
        provider.close()


def entered(machine: Machine) -> int:
    """Return how often anybody was let in."""
    return machine.log.read_text(encoding="utf-8").count("Accepted publickey")


@pytest.fixture(params=["unknown", "changed", "other kind"])
def untrusted(request: pytest.FixtureRequest, clean_hosts: Hosts, host: Machine, tmp_path: Path) -> tuple[str, str]:
    """Return a file of known hosts by which the host cannot be trusted, and why."""
    why = request.param
    path = tmp_path / "known"
    lines = {
        "unknown": f"{clean_hosts.usual[1].address} {clean_hosts.usual[1].host_key}\n",
        "changed": f"{host.address} {machines.make_key(tmp_path / 'key')}\n",
        "other kind": f"{host.address} {_rsa_key(tmp_path / 'rsa')}\n",
    }
    path.write_text(lines[why], encoding="ascii")
    return str(path), why


def _rsa_key(path: Path) -> str:
    machines.run("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(path))
    return path.with_name(f"{path.name}.pub").read_text(encoding="ascii").strip()


@pytest.mark.rule("F53")
@pytest.mark.rule("T22")
def test_host_that_cannot_be_trusted_is_refused(clean_hosts: Hosts, host: Machine, untrusted: tuple[str, str]) -> None:
    """Each time, as often as it is tried, by default: and nobody was let in."""
    known, why = untrusted
    before = entered(host)
    for _ in range(REPEATS):
        with pytest.raises(sky.HostKeyError) as caught:
            launch(clean_hosts.provider(host, known_hosts=known))
        assert host.address in str(caught.value)
        assert "nothing was run there" in str(caught.value)
        assert (f"ssh-keygen -f {known} -R" in str(caught.value)) == (why != "unknown")
    assert entered(host) == before


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.rule("T22")
def test_host_that_cannot_be_trusted_is_always_refused(
    clean_hosts: Hosts, host: Machine, untrusted: tuple[str, str], tmp_path: Path
) -> None:
    """Out of many tries, directly, by a tunnel, and with a configuration that is careless, not one gets through."""
    known, why = untrusted
    config = tmp_path / "careless"
    config.write_text(
        f"Host h1\n  HostName {host.address}\n  User root\n  IdentityFile {clean_hosts.identity}\n"
        f"  StrictHostKeyChecking no\n  CheckHostIP no\n  UpdateHostKeys yes\n  UserKnownHostsFile {known}\n"
    )
    ways: dict[str, Callable[[], sky.SSH]] = {
        "directly": lambda: clean_hosts.provider(host, known_hosts=known),
        "by a tunnel": lambda: clean_hosts.provider(host, known_hosts=known, tunnel=True),
        "carelessly": lambda: sky.SSH(["h1"], ssh_config=str(config)),
    }
    before, recorded = entered(host), (tmp_path / "known").read_text()
    for way, provider in ways.items():
        refused = 0
        for _ in range(MANY):
            with contextlib.suppress(sky.HostKeyError):
                launch(provider())
                continue
            refused += 1
        print(f"{why} key, {way}: {refused} of {MANY} refused, {entered(host) - before} let in")
        assert (refused, entered(host)) == (MANY, before)
    assert (tmp_path / "known").read_text() == recorded


@pytest.mark.rule("F53")
def test_configuration_cannot_make_it_trusted(clean_hosts: Hosts, host: Machine, tmp_path: Path) -> None:
    """Also where the user's own file of ssh says that keys need not be checked."""
    (tmp_path / "config").write_text(
        f"Host h1\n  HostName {host.address}\n  User root\n  IdentityFile {clean_hosts.identity}\n"
        f"  StrictHostKeyChecking no\n  UserKnownHostsFile {tmp_path}/none\n  GlobalKnownHostsFile {tmp_path}/none\n"
    )
    before = entered(host)
    with pytest.raises(sky.HostKeyError, match="h1"):
        launch(sky.SSH(["h1"], ssh_config=str(tmp_path / "config")))
    assert entered(host) == before
    assert not (tmp_path / "none").exists()


@pytest.mark.rule("F53")
def test_pool_is_told_of_the_key(clean_hosts: Hosts, host: Machine, tmp_path: Path) -> None:
    """Opening a pool raises the very error."""
    with pytest.raises(sky.HostKeyError):
        sky.Compute(clean_hosts.provider(host, known_hosts=str(tmp_path / "none")), console=False).open()


def test_first_use_is_trusted_when_asked_for(clean_hosts: Hosts, host: Machine, tmp_path: Path) -> None:
    """An unknown key is then remembered, and counts from then on."""
    known = str(tmp_path / "known")
    launch(clean_hosts.provider(host, known_hosts=known, trust_first_use=True))
    assert host.host_key.split()[1] in (tmp_path / "known").read_text(encoding="ascii")
    launch(clean_hosts.provider(host, known_hosts=known))


@pytest.mark.rule("F53")
def test_changed_key_is_refused_on_first_use_too(
    clean_hosts: Hosts, host: Machine, tmp_path: Path, make_host: Callable[..., Any]
) -> None:
    """Whoever trusts hosts that he meets first does not trust another machine in place of one he knows."""
    before = entered(host)
    for number, key in enumerate([machines.make_key(tmp_path / "key"), _rsa_key(tmp_path / "rsa")]):
        known = tmp_path / f"known{number}"
        known.write_text(f"{host.address} {key}\n", encoding="ascii")
        with pytest.raises(sky.HostKeyError):
            launch(clean_hosts.provider(host, known_hosts=str(known), trust_first_use=True))
    assert entered(host) == before
