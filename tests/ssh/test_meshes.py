"""`skyward-mesh` on SSH hosts: nodes that outlive the command, and whom they let in."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from skyward.meshes import files
from skyward.providers.ssh_scripts import Place
from skyward_scripts.cli import main
from tests.meshing import Homes, make_homes
from tests.ssh.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ssh.conftest import Hosts
    from tests.ssh.machines import Machine


@pytest.fixture
def homes(clean_hosts: Hosts, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Homes]:
    """Describe a mesh of the three hosts, in homes of the test's own."""
    with make_homes(short_path, monkeypatch) as made:
        known = json.dumps(clean_hosts.known())
        made.describe(
            f'[mesh.lab]\nprovider = "ssh"\nnodes = 2\n[mesh.lab.ssh]\nhosts = ["h1", "h2", "h3"]\n'
            f"ssh_config = {json.dumps(clean_hosts.config())}\nknown_hosts = {known}\n"
        )
        (made.work / "app.py").write_text("def greet(name: str):\n    return f'hello {name}'\n")
        yield made


def run(*arguments: str, code: int = 0, **settings: Any) -> Result:
    """Run the command, and expect its exit code."""
    result = CliRunner().invoke(main, arguments, **settings)
    assert result.exit_code == code, result.output
    return result


def kill_node(hosts: Hosts, number: int) -> None:
    """Kill a node of the mesh, and return when nobody listens there any more."""
    place = Place.parse(files.load("lab").nodes[number].ident)
    assert place is not None
    machine: Machine = hosts.usual[int(place.host[1:]) - 1]
    daemon = machine.number_here(int(machine.path(f"{place.node}/daemon").read_text()))
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: daemon not in machine.processes())


@pytest.mark.rule("R42")
def test_nodes_of_ssh_hosts_let_others_in(homes: Homes, clean_hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that come later admit whom the others admit, also those that replace lost ones."""
    run("up", "lab")
    copy = homes.root / "copy.json"
    with monkeypatch.context() as guests:
        guests.setenv("XDG_CONFIG_HOME", str(homes.root / "guest"))
        guest = run("keys", "show").output.strip()
    run("keys", "add", guest, "ada")
    kill_node(clean_hosts, 1)
    assert "node 1 at" in run("keys", "add", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "bob").output
    run("resize", "lab", "1")
    run("resize", "lab", "3")
    admitted = json.loads(run("keys", "list", "--json").output)
    assert [(each["label"], each["nodes"]) for each in admitted] == [("ada", [0, 1, 2]), ("bob", [0, 1, 2])]
    copy.write_bytes(Path(files.path_of("lab")).read_bytes())
    copy.chmod(0o600)
    with monkeypatch.context() as guests:
        guests.setenv("XDG_CONFIG_HOME", str(homes.root / "guest"))
        said = run("run", "-m", str(copy), "--on", "2", "app.py::greet", "--name", "ada").output
    assert said == "hello ada\n"
    run("down", "lab", "-y")


@pytest.mark.rule("R30")
def test_host_that_cannot_be_reached_keeps_no_name(homes: Homes, clean_hosts: Hosts) -> None:
    """Whether all hosts are out of reach or one of several is: what came up is ended, and nothing is left."""
    known = json.dumps(clean_hosts.known())
    for hosts in (["127.0.0.1:1"], ["h1", "127.0.0.1:1"]):
        homes.describe(
            f'[mesh.lab]\nprovider = "ssh"\n[mesh.lab.ssh]\nhosts = {json.dumps(hosts)}\n'
            f"ssh_config = {json.dumps(clean_hosts.config())}\nknown_hosts = {known}\n"
        )
        said = run("up", "lab", code=5).output
        assert "\nError: 127.0.0.1:1" in said
        assert "connect to host 127.0.0.1 port 1" in said
        assert "--force" not in said
        assert files.known() == ()


@pytest.mark.rule("R30")
def test_log_that_cannot_be_read_is_told(homes: Homes, clean_hosts: Hosts) -> None:
    """Because it is gone, its host is none of the mesh any more, or does not answer: exit code 6; others are shown."""
    run("up", "lab")
    mesh = files.load("lab")
    places = [Place.parse(node.ident) for node in mesh.nodes]
    assert places[0] is not None
    (log,) = [each.path(f"{places[0].node}/log") for each in clean_hosts.usual if each.path(places[0].node).exists()]
    wait_for(lambda: log.read_text() != "" and "[node 1] " in run("logs", "lab").stdout)
    log.unlink()
    done = run("logs", "lab", code=6)
    assert done.stderr == f"[node 0] its log cannot be read: {places[0].host}: there is no {places[0].node}/log\n"
    assert "[node 1] " in done.stdout
    others = [host for host in mesh.settings["hosts"] if host != places[0].host]
    files.write(replace(mesh, settings={**mesh.settings, "hosts": others}))
    done = run("logs", "lab", code=6)
    assert f"[node 0] its log cannot be read: {places[0].host} is no host of sky.SSH({others})" in done.stderr
    assert "[node 1] " in done.stdout
    away = replace(mesh.nodes[0], ident=f"127.0.0.1:1 {places[0].node}")
    hosts = ["127.0.0.1:1", *mesh.settings["hosts"]]
    files.write(replace(mesh, nodes=(away, mesh.nodes[1]), settings={**mesh.settings, "hosts": hosts}))
    done = run("logs", "lab", code=6)
    assert "[node 0] its log cannot be read: 127.0.0.1:1: " in done.stderr
    assert "[node 1] " in done.stdout
    files.write(mesh)
    run("down", "lab", "-y")


@pytest.mark.rule("R30")
def test_sweep_goes_on_to_the_other_hosts(homes: Homes, clean_hosts: Hosts) -> None:
    """One that is out of reach is told when the others have been looked at; what it may have is forgotten by force."""
    run("up", "lab")
    mesh = files.load("lab")
    hosts = [*mesh.settings["hosts"]]
    files.write(replace(mesh, nodes=(), settings={**mesh.settings, "hosts": ["127.0.0.1:1", *hosts]}))
    said = run("down", "lab", code=5).output
    assert said.count("ended ") == 2
    assert "skyward-mesh down lab --force" in said
    assert files.load("lab").state == "ending"
    assert "mesh lab is gone" in run("down", "lab", "--force").output
    assert files.known() == ()
