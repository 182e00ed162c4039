"""Nodes that are really started from their user data: pools on them, what they run, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from skyward.providers.aws import launching, network, userdata
from skyward.providers.aws.sweeping import sweep
from skyward.testing import PROVIDER_CHECKS
from tests.aws import clouds, scenario
from tests.aws.cloud.namespaces import notice
from tests.aws.faults import Faults
from tests.aws.work import slowly, variable, where

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward.providers.base import Provider
    from tests.aws.clouds import Cloud

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "examples" / "parallel_execution.py"
ONCE = threading.Event()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait as long as a cloud of this machine needs."""
    monkeypatch.setattr(network, "LOOK", 0.05)
    monkeypatch.setattr(launching, "QUICKLY", 0.05)


def test_tasks_run_on_machines(machines: Cloud) -> None:
    """Two nodes, each on an instance of its own; variables of the image reach them, and nobody else."""
    provider = scenario.provider(machines.session())
    image = sky.Image(env={"API_TOKEN": "canary-value"})
    with sky.Compute(provider=provider, nodes=2, image=image, console=False) as pool:
        assert len(set(where() @ pool)) == 2
        assert (variable("API_TOKEN") @ pool) == ["canary-value"] * 2
        for box in [machines.directory / name for name in machines.alive()]:
            assert "canary-value" not in (box / "userdata").read_text()
            [first, *_] = (box / "shutdown.log").read_text().splitlines()
            assert first.split()[1:3] == ["-h", "+7"]  # before anything else: five minutes to boot, and two more


@pytest.mark.rule("R30")
def test_log_of_a_node_can_be_looked_at(machines: Cloud) -> None:
    """By whoever has the credentials, and knows the mesh: behind the set-up stands what the node has logged since."""
    made = scenario.provider(machines.session()).for_mesh("blue")
    other = scenario.provider(machines.session()).for_mesh("blue")
    made.prepare()
    try:
        spec = replace(scenario.SPEC, persist=True, mesh="blue", log_level="info")
        launched = made.launch(spec, 0, ONCE)
        while '"serving"' not in (text := "\n".join(other.log_tail(launched))):
            time.sleep(0.1)
        assert "skyward: step setting up" in text.partition('"serving"')[0]
    finally:
        made.close()
        other.sweep("blue")
        other.close()


@pytest.mark.slow
@pytest.mark.parametrize("check", PROVIDER_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_provider_keeps_the_contract(machines: Cloud, check: Callable[[Callable[[], Provider]], None]) -> None:
    """Nodes come up, are told apart, and are gone when they should be."""
    check(lambda: scenario.provider(machines.session()))


def test_guide_runs_on_instances(machines: Cloud, tmp_path: Path) -> None:
    """The guide prints what it prints everywhere; only its provider is another."""
    program = GUIDE.read_text().replace("sky.Compute(nodes=2)", "sky.Compute(provider=PROVIDER, nodes=2)")
    head = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.aws import clouds, scenario\n"
        f"PROVIDER = scenario.provider(clouds.session({machines.url!r}))\n"
    )
    file = tmp_path / "guide.py"
    file.write_text(head + program)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    for line in ("Chunk sums: (6, 15, 24)", "Products: 6, 20", "Mixed: sum=6, product=200, factorial=120"):
        assert line in done.stdout
    assert [line.split()[-1] for line in done.stdout.splitlines()[3:]] == ["0", "1000", "2000", "3000", "4000"]


@pytest.mark.rule("F52")
def test_package_that_does_not_exist_ends_the_launch(machines: Cloud) -> None:
    """The error names the instance and the package, has the last lines of the log, and the instance is gone."""
    image = sky.Image(apt=["no-such-package"])
    provider = scenario.provider(machines.session(), ami=any_image(machines))
    with pytest.raises(sky.ProvisionError) as caught:
        sky.Compute(provider=provider, nodes=1, image=image, console=False).open()
    assert "instance i-" in str(caught.value)
    assert "no-such-package" in str(caught.value)
    assert any("Unable to locate package" in line for line in caught.value.log)
    assert len(caught.value.log) <= 50


@pytest.mark.rule("F52")
def test_broken_bundle_ends_the_launch(machines: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched is run only if its hash is that of the user data."""
    from skyward.providers.aws.storage import Storage

    put = Storage.put

    def tampered(self: Storage, name: str, data: bytes) -> None:
        put(self, name, data + b"x" if name.endswith(".tar") else data)

    monkeypatch.setattr(Storage, "put", tampered)
    with pytest.raises(sky.ProvisionError, match="its SHA-256 differs"):
        scenario.live(scenario.provider(machines.session()), 1)


@pytest.mark.slow  # the notice is looked for every five seconds; its parts have tests of their own
@pytest.mark.rule("F50")
def test_spot_notice_lets_the_pool_go_on(machines: Cloud) -> None:
    """The node leaves within ten seconds of the notice, another takes its rank, and no retry is charged."""
    provider = scenario.provider(machines.session(), allocation="spot")
    with sky.Compute(provider=provider, nodes=2, console=False, retries=0) as pool:
        futures = [slowly(x) > pool for x in range(60)]
        taken = min(machines.alive())
        (machines.directory / taken / "notice").write_text(notice("terminate"))
        given = time.monotonic()
        assert [future.result(60) for future in futures] == list(range(60))
        while taken in machines.alive():
            assert time.monotonic() - given < 10
        while pool.current_nodes() < 2:
            time.sleep(0.05)
        assert len(machines.alive()) == 2


@pytest.mark.rule("F46")
def test_machine_ends_itself_without_a_client(machines: Cloud) -> None:
    """A node whose client is gone ends, and its instance with it: the machine shuts down, which terminates it."""
    provider = scenario.provider(machines.session())
    provider.prepare()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(launching, "ALONE", 0.5)
            launched = provider.launch(replace(scenario.SPEC, lease=0.5), 0, ONCE)
        while launched.ident in machines.alive():
            time.sleep(0.05)
        box = machines.directory / launched.ident
        assert (box / "shutdown.log").read_text().splitlines()[-1].split()[1:] == ["-h", "now"]
    finally:
        provider.close()


@pytest.mark.rule("F46")
def test_machine_that_does_not_come_to_serve_ends_itself(machines: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer of the first line ends a machine whose set-up hangs, also when nobody looks after it any more."""
    monkeypatch.setattr(userdata, "SCRIPT", userdata.SCRIPT.replace("step 'setting up'", "sleep 1000"))
    minute = machines.directory / "minute"  # of the timers of machines that start now, in seconds
    minute.write_text("0.5")
    provider = scenario.provider(machines.session())
    try:
        with pytest.raises(sky.ProvisionError, match=r"before it served: Client\.InstanceInitiatedShutdown"):
            scenario.live(provider, 1)
    finally:
        minute.unlink()
    [box] = [path for path in machines.directory.glob("i-*") if "sleep 1000" in (path / "userdata").read_text()]
    assert (box / "why").read_text() == "timer\n"
    assert (box / "shutdown.log").read_text().split()[1:3] == [
        "-h",
        "+3",
    ]  # start_timeout is 30 s, and two minutes more


@pytest.mark.slow  # what closing says is tested elsewhere, too
@pytest.mark.rule("F49")
def test_expired_credentials_do_not_stop_the_work(machines: Cloud) -> None:
    """Nodes need no credentials: tasks go on, and closing says what may be left."""
    faults = Faults()
    pool = sky.Compute(provider=scenario.provider(machines.session(faults)), nodes=1, console=False).open()
    faults.refuse = lambda operation, arguments: "ExpiredToken"
    assert len(where() @ pool) == 1
    with pytest.raises(sky.AccessError, match="perhaps left: instance i-"):
        pool.close()
    faults.refuse = lambda operation, arguments: ""
    assert not sweep(machines.session(), idle=0.0, bucket=clouds.BUCKET).left


def any_image(cloud: Cloud) -> str:
    """Return an image that moto knows."""
    ssm = cloud.client("ssm")
    name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
    return str(json.loads(json.dumps(ssm.get_parameter(Name=name)["Parameter"]["Value"])))
