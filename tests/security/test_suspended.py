"""A client that is suspended, by a signal or by the freezer (F3, F4, F60).

For a moment it loses nothing; past its lease it is told what it has lost.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from tests.freezing import Freezer
from tests.rules.processes import script
from tests.rules.work import until
from tests.security.nodes import PATIENCE

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from skyward.transport.keys import KeyPair
    from tests.security.conftest import Start
    from tests.security.nodes import Node

    Client = subprocess.Popen[str]
    Starter = Callable[..., tuple[Node, Client]]

LATE: Final = 1.0  # seconds after the lease by which the node has given the client up
SLACK: Final = 1.0  # seconds more on a machine that is busy
COUNT: Final = 40
CLIENT: Final = """
import json, os, time
import skyward as sky

FOLDER = os.environ["FOLDER"]

def note(word):
    fd = os.open(f"{FOLDER}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{word}\\n".encode())
    os.close(fd)

@sky.function(retries=0)
def work(number):
    note(f"start {number}")
    while number == 0 and not os.path.exists(f"{FOLDER}/go"):
        time.sleep(0.005)
    note(f"end {number}")
    return number

def outcome(future):
    try:
        return future.result()
    except sky.NodeLostError as error:
        return f"lost: {error}"

provider = sky.Static([(os.environ["NODE"], os.environ["KEY"])], key=os.environ["FILE"])
with sky.Compute(provider, lease=float(os.environ["LEASE"])) as pool:
    futures = [work(number) > pool for number in range(int(os.environ["COUNT"]))]
    outcomes = [outcome(future) for future in futures]
    print(json.dumps([*outcomes, work(-1) >> pool]))
"""


@pytest.fixture
def start_client(
    start_node: Start, key_file: tuple[str, KeyPair], short_path: Path
) -> Iterator[Callable[..., tuple[Node, subprocess.Popen[str]]]]:
    """Return a function that starts a node and a client of it, and returns them once a task runs."""
    clients: list[subprocess.Popen[str]] = []
    path, keys = key_file

    def start(lease: float) -> tuple[Node, subprocess.Popen[str]]:
        node = start_node(keys, concurrency=2)
        env = {"NODE": node.endpoint, "KEY": node.key, "FILE": path, "LEASE": str(lease)}
        client = script(CLIENT, cwd=short_path, env=env | {"FOLDER": str(short_path), "COUNT": str(COUNT)})
        clients.append(client)
        until(lambda: "start 0" in log_of(short_path))
        return node, client

    yield start
    for client in clients:
        client.send_signal(signal.SIGCONT)
        client.kill()
        client.communicate()


def log_of(folder: Path) -> list[str]:
    """Return the operations so far, in their order."""
    log = folder / "log"
    return log.read_text().splitlines() if log.exists() else []


def report(client: subprocess.Popen[str]) -> list[int | str]:
    """Let a client go on; return what it says has become of its tasks."""
    client.send_signal(signal.SIGCONT)
    output, errors = client.communicate(timeout=PATIENCE)
    assert client.returncode == 0, errors
    said: list[int | str] = json.loads(output)
    return said


@pytest.mark.rule("F3")
@pytest.mark.parametrize(("lease", "pause"), [(2.0, 1.0), pytest.param(30.0, 20.0, marks=pytest.mark.slow)])
def test_short_pause_loses_nothing(start_client: Starter, short_path: Path, lease: float, pause: float) -> None:
    """What ends while the client stands still is there when it goes on, and no task has run twice."""
    node, client = start_client(lease)
    client.send_signal(signal.SIGSTOP)
    (short_path / "go").touch()
    until(lambda: "end 0" in log_of(short_path))
    time.sleep(pause)  # the pause is the experiment
    assert report(client) == [*range(COUNT), -1]
    assert set(Counter(log_of(short_path)).values()) == {1}
    assert "fell silent" not in node.log()


@pytest.mark.rule("F4")
@pytest.mark.rule("R36")
@pytest.mark.rule("R40")
@pytest.mark.parametrize("lease", [2.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_pause_past_the_lease_is_told(start_client: Starter, short_path: Path, lease: float) -> None:
    """The node kills what ran, the client learns that on waking, and no task without retries has run twice."""
    node, client = start_client(lease)
    client.send_signal(signal.SIGSTOP)
    check_outlived(node, client, short_path, lease)


@pytest.mark.rule("F60")
@pytest.mark.rule("R40")
@pytest.mark.parametrize("lease", [2.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_frozen_client_is_told_what_it_has_lost(start_client: Starter, short_path: Path, lease: float) -> None:
    """As one that was stopped, though no signal tells anybody: what runs it is suspended, as with a virtual machine."""
    node, client = start_client(lease)
    with Freezer(client.pid) as freezer:
        check_outlived(node, client, short_path, lease, freezer.thaw)


def check_outlived(
    node: Node, client: Client, folder: Path, lease: float, wake: Callable[[], object] = lambda: None
) -> None:
    """See what becomes of a client that stands still, once its lease is over and it goes on."""
    workers = node.workers()
    began = time.monotonic()
    until(lambda: "fell silent" in node.log(), lease + PATIENCE)
    waited = time.monotonic() - began
    assert lease - LATE < waited < lease + LATE + SLACK
    until(lambda: not node.workers() >= workers)
    (folder / "go").touch()
    wake()
    first, *others, last = report(client)
    assert str(first).startswith("lost: node 0 was lost")
    assert last == -1
    counts = Counter(log_of(folder))
    assert set(counts.values()) == {1}
    assert "end 0" not in counts
    assert all(str(other).startswith("lost") or f"end {other}" in counts for other in others)
    print(f"lease {lease:g} s: over after {waited:.2f} s; {sum(isinstance(o, str) for o in others) + 1} tasks lost")
