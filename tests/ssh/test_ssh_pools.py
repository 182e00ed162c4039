"""Pools whose nodes are on SSH hosts: tasks run there, what they need is brought there, nothing is left there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import skyward as sky
from tests.ssh.waiting import wait_for
from tests.ssh.work import double, hostname

if TYPE_CHECKING:
    from tests.ssh.conftest import Hosts
    from tests.ssh.machines import Machine

GUIDE: Final = Path(__file__).parents[2] / "docs" / "examples" / "parallel_execution.py"
BRIEF: Final = 500_000  # bytes that no launch takes, and each bundle does


def test_guide_runs_on_three_hosts(clean_hosts: Hosts, tmp_path: Path) -> None:
    """The guide prints what the README shows, with nothing but its provider changed."""
    source = GUIDE.read_text(encoding="utf-8")
    provider = f"sky.SSH(['h1', 'h2', 'h3'], ssh_config={clean_hosts.config()!r}, known_hosts={clean_hosts.known()!r})"
    changed = source.replace("sky.Compute(nodes=2)", f"sky.Compute(provider={provider})")
    assert changed != source
    file = tmp_path / "guide.py"
    file.write_text(changed, encoding="utf-8")
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    readme = (GUIDE.parents[2] / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<!-- output of .*? -->\n```\n(.*?)```", readme, re.DOTALL)
    timeless = re.compile(r"\[\d+\.\ds\]")
    assert timeless.sub("", done.stdout) == timeless.sub("", shown)


@pytest.mark.parametrize("tunnel", [False, True], ids=["direct", "tunnel"])
def test_tasks_run_on_the_hosts(clean_hosts: Hosts, *, tunnel: bool) -> None:
    """Each host is a node, reached at its port or through SSH, where nothing else listens to the outside."""
    with sky.Compute(clean_hosts.provider(tunnel=tunnel), console=False) as pool:
        assert pool.current_nodes() == 3
        assert sorted(hostname() @ pool) == sorted(machine.address for machine in clean_hosts.usual)
        assert sky.gather(*[double(i) for i in range(100)]) >> pool == tuple(range(0, 200, 2))
        ports = [int(node.endpoint.rpartition(":")[2]) for node in pool.snapshot().nodes]
        if tunnel:
            for machine in clean_hosts.usual:
                listening = machine.inside("ss", "-Hltn").split()
                assert [each for each in listening if re.fullmatch(r"127\.0\.0\.1:\d+", each)]
                assert not [each for each in listening if each.startswith(machine.address)]
        else:
            assert len(ports) == 3


def test_host_is_connected_once(clean_hosts: Hosts, host: Machine) -> None:
    """Several nodes, their logs and their ends share one connection."""
    provider = clean_hosts.provider(host, nodes_per_host=3)
    with sky.Compute(provider, console=False) as pool:
        assert set(hostname() @ pool) == {host.address}
        assert len(host.connections()) == 1
    text = host.log.read_text(encoding="utf-8")
    with sky.Compute(provider, console=False, nodes=2) as pool:
        assert double(4) >> pool == 8
    assert host.log.read_text(encoding="utf-8").removeprefix(text).count("Accepted publickey") == 1


@pytest.mark.rule("R34")
def test_second_pool_is_sent_nothing_anew(clean_hosts: Hosts) -> None:
    """A host that has been made a node before is one again without a bundle, and in the environment it has."""
    sent: list[list[int]] = []
    made: list[list[int]] = []
    for machine in clean_hosts.usual:
        machine.wipe()
    for _ in range(2):
        before = [machine.received() for machine in clean_hosts.usual]
        with sky.Compute(clean_hosts.provider(), console=False) as pool:
            assert len(double(1) @ pool) == 3
        sent.append([machine.received() - was for machine, was in zip(clean_hosts.usual, before, strict=True)])
        complete = [machine.path("/root/.cache/skyward").glob("envs/*/complete") for machine in clean_hosts.usual]
        made.append([path.stat().st_mtime_ns for found in complete for path in found])
    assert len(made[0]) == 3
    assert made[0] == made[1]
    assert all(again < BRIEF < first for first, again in zip(*sent, strict=True)), sent


@pytest.mark.rule("R34")
def test_image_is_brought_along(
    clean_hosts: Hosts, host: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages that the client has are installed there without an index; files and variables are there, too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "numbers.txt").write_text("1 2 3")
    image = sky.Image(pip=["tqdm>=4"], env={"MODE": "fast"}, includes=["data"])

    @sky.function
    def look() -> tuple[str, str, str]:
        from importlib import import_module

        with open("data/numbers.txt", encoding="utf-8") as file:
            return import_module("tqdm").__file__ or "", os.environ["MODE"], file.read()

    with sky.Compute(clean_hosts.provider(host), image=image, console=False) as pool:
        place, mode, text = look() >> pool
    assert place.startswith("/root/.cache/skyward/envs/")
    assert (mode, text) == ("fast", "1 2 3")


@pytest.mark.rule("F55")
def test_node_outlives_its_connection(clean_hosts: Hosts, host: Machine) -> None:
    """SSH dropping after the start ends no node and no task: links go their own way."""

    @sky.function
    def long(path: str) -> str:
        import time
        from pathlib import Path

        Path(path).with_suffix(".started").touch()
        while not Path(path).exists():
            time.sleep(0.01)
        return "done"

    with sky.Compute(clean_hosts.provider(host), console=False, retries=0) as pool:
        before = pool.snapshot().nodes
        future = long("/tmp/go") > pool
        wait_for(host.path("/tmp/go.started").exists)
        for pid in host.connections():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not host.connections())
        host.path("/tmp/go").touch()
        assert future.result(20) == "done"
        assert double(3) >> pool == 6
        assert [node.endpoint for node in pool.snapshot().nodes] == [node.endpoint for node in before]
    for name in ("go", "go.started"):
        host.path(f"/tmp/{name}").unlink()


def test_killed_client_leaves_nothing(clean_hosts: Hosts, host: Machine) -> None:
    """After `kill -9` of the client its nodes end themselves, once the lease is over."""
    program = f"""
import sys
import skyward as sky
from skyward.providers import ssh

ssh.GRACE = 0.5  # seconds, to be quicker
provider = sky.SSH(['h1'], ssh_config={clean_hosts.config(host)!r}, known_hosts={clean_hosts.known(host)!r})
pool = sky.Compute(provider, lease=0.5, console=False).open()
print("open", flush=True)
sys.stdin.read()
"""
    client = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdout is not None
    assert client.stdin is not None
    assert client.stdout.readline() == b"open\n"
    assert [line for line in host.processes().values() if "skyward-node" in line]
    client.kill()
    client.wait()
    client.stdout.close()
    client.stdin.close()
    wait_for(lambda: not host.connections())
    wait_for(lambda: not host.leftovers())
