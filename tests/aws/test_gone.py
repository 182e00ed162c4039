"""An instance that is gone without a word: its wire is cut, and then it has never been (F51)."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Final

import pytest

import skyward as sky
from skyward.providers.aws import launching, network
from tests.aws import scenario
from tests.aws.work import hold, where
from tests.rules.work import BUSY

if TYPE_CHECKING:
    import psutil

    from tests.aws.clouds import Cloud

BEAT: Final = 0.5  # seconds
DEAD: Final = 3 * BEAT


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait as long as a cloud of this machine needs."""
    monkeypatch.setattr(network, "LOOK", 0.05)
    monkeypatch.setattr(launching, "QUICKLY", 0.05)


def machine(cloud: Cloud, name: str) -> psutil.Process:
    """Return the process that is a machine: when it ends, everything on it does."""
    box = str(cloud.directory / name)
    (found,) = [process for process in cloud.process.children() if box in process.cmdline()]
    return found


@pytest.mark.rule("F51")
@pytest.mark.rule("R36")
@pytest.mark.rule("R51")
def test_instance_that_is_gone_is_a_lost_node(machines: Cloud) -> None:
    """No connection ends and no port refuses: silence tells, in its time. Another instance takes its rank."""
    provider = scenario.provider(machines.session())
    with sky.Compute(provider=provider, nodes=1, console=False, heartbeat=BEAT) as pool:
        bound = hold(60).on(0) > pool
        (name,) = machines.alive()
        lost = machine(machines, name)
        while not pool.snapshot().in_flight:
            time.sleep(0.01)
        subprocess.run(["ip", "link", "set", f"sky{lost.pid}", "down"], check=True)
        cut = time.monotonic()
        lost.kill()
        with pytest.raises(sky.NodeLostError, match=f"it was silent for {DEAD:g} s"):
            bound.result(20)
        took = time.monotonic() - cut
        assert DEAD - BEAT < took < DEAD + 0.25 * BUSY
        print(f"gone, and told after {took:.2f} s; dead is {DEAD:g} s")
        assert len(where() @ pool) + len([where() >> pool]) == 2
        assert name not in machines.alive()
