"""A node is back within a second of a network that has healed (T17)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.long.figures import told
from tests.rules.byhand import environment
from tests.system import install

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS: Final = 40
BAR: Final = 1.0  # seconds
# Client and nodes in a network of their own, whose loopback loses everything for a while.
SETUP: Final = 'ip link set lo up && exec "$@"'
PROGRAM: Final = """
import json, subprocess, sys, time
sys.path[:0] = PATHS
import skyward as sky
from tests.rules.work import echo

def drop(flag):
    subprocess.run(["iptables", flag, "INPUT", "-i", "lo", "-j", "DROP"], check=True)

with sky.Compute(sky.Local("tcp"), nodes=2, heartbeat=10, lease=120, retries=0, console=False) as pool:
    pids = {node.pid for node in pool.snapshot().nodes}
    for lasts in json.loads(sys.argv[1]):
        assert echo(1) @ pool == [1, 1]
        drop("-A")
        meanwhile = echo(2) > pool
        time.sleep(lasts)
        drop("-D")
        healed = time.monotonic()
        assert echo(3) @ pool == [3, 3]
        print(json.dumps([lasts, time.monotonic() - healed]), flush=True)
        assert meanwhile.result(20) == 2
    snapshot = pool.snapshot()
    assert {node.pid for node in snapshot.nodes} == pids and snapshot.rerun == 0
"""


@pytest.mark.slow
@pytest.mark.rule("T17")
@pytest.mark.timeout(3_600)
def test_healed_network_is_used_at_once(share: Callable[[int], int]) -> None:
    """After partitions of up to twelve seconds, which no node is given up for; no call is lost or run again."""
    install({"ip": "iproute2", "iptables": "iptables", "unshare": "util-linux"})
    lasts = [(2, 5, 9, 12)[i % 4] for i in range(max(4, share(ROUNDS)))]
    program = PROGRAM.replace("PATHS", repr(environment()["PYTHONPATH"].split(os.pathsep)))
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", SETUP, "sh", sys.executable, "-c", program, json.dumps(lasts)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    times = [json.loads(line) for line in done.stdout.splitlines()]
    for length in sorted(set(lasts)):
        print(
            told(
                f"T17, {length} s partition, until all answer",
                [took for lasted, took in times if lasted == length],
                BAR,
            )
        )
    assert max(took for _, took in times) < BAR
