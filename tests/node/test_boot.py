"""How a daemon comes up on a TCP port, and with what limits."""

from __future__ import annotations

import json
import resource
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from skyward.transport.keys import Client, make_pair, write_clients
from skyward_node import boot
from skyward_node.access import CLIENTS, own_pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANYWHERE = "tcp://127.0.0.1:0"


def own_limit() -> tuple[int, int]:
    """Return the limit of descriptors of a worker."""
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)


@pytest.mark.rule("R42")
def test_ready_line_names_the_port_and_the_public_key(start_daemon: Callable[..., Any], directory: Path) -> None:
    """The port that was found, and the node's lasting key where it has one."""
    place = str(directory / "keys")
    daemon = start_daemon(bind=ANYWHERE, keys=place)
    line = json.loads(daemon.ready_line())
    assert line.keys() == {"endpoint", "public_key", "pid"}
    assert line["public_key"] == own_pair(place).public
    assert line["endpoint"].startswith("tcp://127.0.0.1:")
    assert int(line["endpoint"].rpartition(":")[2]) > 0


@pytest.mark.rule("R42")
def test_key_without_a_directory_is_for_this_life(start_daemon: Callable[..., Any]) -> None:
    """It is written nowhere."""
    keys = {json.loads(start_daemon(bind=ANYWHERE).ready_line())["public_key"] for _ in range(2)}
    assert len(keys) == 2


@pytest.mark.rule("R42")
@pytest.mark.parametrize("name", ["node.key", "clients", ""])
def test_daemon_does_not_start_with_loose_keys(start_daemon: Callable[..., Any], directory: Path, name: str) -> None:
    """It says which file it is, and how to mend it."""
    place = directory / "keys"
    own_pair(str(place))
    write_clients(str(place / CLIENTS), [])
    (place / name).chmod(0o755)
    daemon = start_daemon(bind=ANYWHERE, keys=str(place))
    assert "run: chmod 0" in json.loads(daemon.ready_line())["error"]
    daemon.end()
    assert daemon.process.returncode == boot.CANNOT_SERVE


@pytest.mark.parametrize("admitted", [True, False])
def test_node_that_admits_nobody_says_so(start_daemon: Callable[..., Any], directory: Path, admitted: bool) -> None:
    """It serves all the same: keys may come later."""
    place = str(directory / "keys")
    if admitted:
        write_clients(f"{place}/{CLIENTS}", [Client(make_pair().public, "alice")])
    daemon = start_daemon(bind=ANYWHERE, keys=place)
    daemon.ready_line()
    daemon.hang_up()
    events = [json.loads(line)["event"] for line in daemon.end().splitlines()]
    assert ("no client is admitted yet" in events) != admitted


@pytest.mark.rule("F41")
def test_daemon_may_have_more_descriptors_than_its_workers(start_daemon: Callable[..., Any], context: Any) -> None:
    """It takes what the system allows; what users' code sees is what the client had."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        daemon = start_daemon()
        daemon.ready_line()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    limit = psutil.Process(daemon.process.pid).rlimit(psutil.RLIMIT_NOFILE)
    assert limit == (max(256, before[1]), before[1])
    client = context(daemon)
    client.hello()
    assert tuple(client.value(client.submit(own_limit))) == (256, before[1])


def test_unlimited_descriptors_are_taken_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system sets no limit; a system that refuses changes nothing."""
    asked: list[tuple[int, int]] = []
    infinite = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, infinite))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: asked.append(wanted))
    boot.raise_descriptor_limit()
    assert asked == [(boot.MOST_DESCRIPTORS, infinite)]

    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    boot.raise_descriptor_limit()
