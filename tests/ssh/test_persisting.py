"""Nodes that outlive whoever launched them: ended later, by their names or by the mesh they belong to."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from skyward.providers.base import Launched, LaunchSpec
from skyward.transport.keys import make_pair
from tests.ssh.waiting import wait_for

if TYPE_CHECKING:
    from tests.ssh.conftest import Hosts
    from tests.ssh.machines import Machine


def launch(hosts: Hosts, host: Machine, mesh: str = "") -> Launched:
    """Return a node whose provider is closed."""
    provider = hosts.provider(host)
    provider.prepare()
    spec = LaunchSpec(persist=True, lease=0.1, client_key=make_pair().public, mesh=mesh)
    try:
        return provider.launch(spec, 0, threading.Event())
    finally:
        provider.close()


def answers(host: Machine, launched: Launched) -> bool:
    """Return whether somebody listens at the node's port."""
    try:
        socket.create_connection((host.address, int(launched.endpoint.rpartition(":")[2])), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_node_that_shall_persist_is_ended_by_another_provider(clean_hosts: Hosts, host: Machine) -> None:
    """It survives `close`, and a fresh provider ends it by its name alone; of another's hosts it knows nothing."""
    launched = launch(clean_hosts, host)
    wait_for(lambda: not host.connections())
    assert answers(host, launched)
    second = clean_hosts.provider(host)
    elsewhere = replace(launched, ident=f"unknown.example {launched.ident.partition(' ')[2]}")
    with pytest.raises(sky.ProvisionError, match=r"unknown\.example"):
        second.terminate(elsewhere)
    second.terminate(Launched(ident=launched.ident, endpoint=launched.endpoint))
    second.terminate(launched)
    second.close()
    assert not answers(host, launched)


def test_nodes_of_a_mesh_are_found_by_its_name(clean_hosts: Hosts, host: Machine) -> None:
    """`sweep` ends those of one mesh, or of none that is to be kept, with no record of them anywhere else."""
    launched = launch(clean_hosts, host, mesh="first")
    provider = clean_hosts.provider(host)
    try:
        assert provider.sweep("second") == provider.sweep(keep=["first"]) == ()
        assert len(provider.sweep("first", dry_run=True)) == len(provider.sweep(dry_run=True)) == 1
        assert provider.sweep("first", keep=[launched.ident]) == ()
        assert answers(host, launched)
        (line,) = provider.sweep("first", keep=["another"])
        assert host.address in line
        assert "first" in line
        assert not answers(host, launched)
        assert provider.sweep() == ()
    finally:
        provider.close()


def test_host_of_a_node_that_runs_already_is_taken(clean_hosts: Hosts, host: Machine) -> None:
    """Who adopts nodes launches others elsewhere, and only as many as there is room for."""
    launched = launch(clean_hosts, host)
    provider = clean_hosts.provider(host, clean_hosts.usual[1])
    try:
        provider.adopt([launched])
        other = provider.launch(LaunchSpec(), 0, threading.Event())
        assert clean_hosts.usual[1].address in other.ident
        with pytest.raises(sky.ProvisionError, match="all run"):
            provider.launch(LaunchSpec(), 1, threading.Event())
        provider.terminate(launched)
    finally:
        provider.close()
    assert not answers(host, launched)
