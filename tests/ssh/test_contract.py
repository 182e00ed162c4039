"""The provider of SSH hosts keeps the contract of all providers, looked at where its nodes really are."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.providers.base import LaunchSpec
from skyward.testing import PROVIDER_CHECKS
from tests.ssh.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward.providers.base import Launched
    from tests.ssh.conftest import Hosts
    from tests.ssh.machines import Machine


class Seen(sky.SSH):
    """SSH hosts whose processes can be seen from here: the checks ask about them by their numbers."""

    machines: tuple[Machine, ...] = ()

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Launch, and say which process of this machine the daemon is."""
        launched = super().launch(spec, index, cancelled)
        host, _, node = launched.ident.partition(" ")
        machine = next(each for each in self.machines if each.address in host)
        daemon = int(machine.path(node).joinpath("daemon").read_text(encoding="ascii"))
        return replace(launched, pid=machine.number_here(daemon))


@pytest.fixture
def make(clean_hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Seen]:
    """Return a function that makes an unused provider."""
    monkeypatch.setattr(Seen, "machines", tuple(clean_hosts.usual))

    def made(**settings: Any) -> Seen:
        return Seen(
            [machine.address for machine in clean_hosts.usual],
            user="root",
            identity=str(clean_hosts.identity),
            ssh_config="none",
            known_hosts=clean_hosts.known(),
            **settings,
        )

    return made


@pytest.mark.parametrize("check", PROVIDER_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_provider_keeps_the_contract(check: Callable[..., None], make: Callable[[], Seen]) -> None:
    """Nodes come up side by side, die, and are gone when they should be, as the hosts themselves see it."""
    check(make)


def test_death_of_a_node_leaves_nothing_but_its_log(make: Callable[[], Seen], host: Machine) -> None:
    """A daemon that was killed takes its workers and its keeper with it; its log can be read until it is ended."""
    provider = make()
    provider.prepare()
    try:
        launched = provider.launch(LaunchSpec(log_level="info"), 0, threading.Event())
        assert launched.pid is not None
        wait_for(lambda: any("serving" in line for line in provider.log_tail(launched)))
        os.kill(launched.pid, signal.SIGKILL)
        wait_for(lambda: not [line for line in host.processes().values() if "skyward" in line])
        assert any("serving" in line for line in provider.log_tail(launched))
        provider.terminate(launched)
        assert not host.path(launched.ident.partition(" ")[2]).exists()
        assert any("serving" in line for line in provider.log_tail(launched))
        assert Path(f"/proc/{launched.pid}").exists() is False
    finally:
        provider.close()
