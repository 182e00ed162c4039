"""Ctrl-C on the client, whatever it is doing (R29, R52, F2)."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.errors import ProvisionError
from tests.rules.processes import GONE
from tests.rules.providers import Gate
from tests.rules.work import BUSY, LONG, add, hold, let_go, place, runs, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOON = 1.0 * BUSY  # seconds within which an interrupt must surface
LOOK = 0.2  # seconds of a wait of Python's own


def interrupt_when(ready: Callable[[], object]) -> tuple[threading.Thread, list[float]]:
    """Send this process a SIGINT as soon as ``ready`` returns; the list then holds the moment."""
    sent: list[float] = []

    def send() -> None:
        ready()
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    return thread, sent


@pytest.mark.rule("F2")
@pytest.mark.rule("R29")
@pytest.mark.parametrize("kind", ["call", "group", "stream", "unordered", "future", "group_future", "broadcast", "map"])
def test_interrupt_surfaces_soon_and_costs_only_what_was_awaited(pool: sky.Compute, tmp_path: Path, kind: str) -> None:
    """Its calls are cancelled; a result that another thread waits for, and an idle future, arrive."""
    held = hold(str(tmp_path), kind).on(0)
    waits: dict[str, Callable[[], Any]] = {
        "call": lambda: held >> pool,
        "group": lambda: sky.gather(add(1), held) >> pool,
        "stream": lambda: list(sky.gather(held, add(1), stream=True) >> pool),
        "unordered": lambda: list(sky.gather(held, add(1), stream=True, ordered=False) >> pool),
        "future": lambda: pool.run_async(held).result(),
        "group_future": lambda: pool.run_async(sky.gather(held, add(1))).result(),
        "broadcast": lambda: hold(str(tmp_path), kind) @ pool,
        "map": lambda: list(pool.map(lambda name: hold.local(str(tmp_path), name), [kind])),
    }
    others: list[Any] = []
    kept = hold(str(tmp_path), "kept").on(1) > pool
    runs(tmp_path, "kept")
    other = threading.Thread(target=lambda: others.append(hold(str(tmp_path), "other").on(1) >> pool))
    other.start()
    sender, sent = interrupt_when(lambda: runs(tmp_path, kind))
    try:
        with pytest.raises(KeyboardInterrupt):
            waits[kind]()
        assert time.monotonic() - sent[0] < SOON
    finally:
        let_go(tmp_path, "kept")
        let_go(tmp_path, "other")
        sender.join()
        other.join()
    assert (others, kept.result()) == (["other"], "kept")
    until(lambda: pool.snapshot().in_flight == 0)
    assert not (tmp_path / f"{kind}-done").exists()
    assert [value for value, _, _ in place(1) @ pool] == [1, 1]


@pytest.mark.rule("F2")
@pytest.mark.rule("R30")
def test_interrupt_while_opening_ends_what_was_started() -> None:
    """Also nodes whose launch was under way; the pool stays closed."""
    gate = Gate(free=1)
    sender, sent = interrupt_when(lambda: gate.waiting.acquire(timeout=LONG))
    pool = sky.Compute(gate, nodes=2)
    with pytest.raises(KeyboardInterrupt):
        pool.open()
    assert time.monotonic() - sent[0] < SOON + GONE
    sender.join()
    assert not pool.is_active
    with pytest.raises(ProvisionError):
        gate.prepare()  # the provider is closed


class Striking(Gate):
    """A provider by which an interrupt comes just when the pool has made all that it is made of."""

    struck = 0

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "listener":  # once as the launches begin, and once at the end
            self.struck += 1
            if self.struck == 2:
                signal.raise_signal(signal.SIGINT)


@pytest.mark.rule("F2")
@pytest.mark.rule("R30")
def test_interrupt_while_a_pool_is_made_leaves_nothing() -> None:
    """Its nodes are on their way by then; neither they nor a descriptor stays."""
    provider = Striking(free=2)
    pool = sky.Compute(provider, nodes=2)
    with pytest.raises(KeyboardInterrupt):
        pool.open()
    assert provider.struck == 2
    assert not pool.is_active
    with pytest.raises(ProvisionError):
        provider.prepare()


@pytest.mark.rule("F2")
@pytest.mark.rule("R30")
def test_interrupt_while_leaving_cancels_and_ends_everything(tmp_path: Path) -> None:
    """Leaving waits for a call; Ctrl-C ends that wait, the call, and the nodes."""
    futures: list[Any] = []
    sender, sent = interrupt_when(lambda: runs(tmp_path, "a"))
    with pytest.raises(KeyboardInterrupt), sky.Compute(nodes=2) as pool:
        futures.append(hold(str(tmp_path), "a") > pool)
        futures.append(add(1, 2) > pool)
        assert futures[1].result() == 3
    assert time.monotonic() - sent[0] < SOON + GONE
    sender.join()
    assert futures[0].cancelled()
    assert not (tmp_path / "a-done").exists()
    assert not pool.is_active


@pytest.mark.rule("F2")
def test_interrupt_leaves_futures_of_another_wait_alone(pool: sky.Compute, tmp_path: Path) -> None:
    """Ctrl-C ends `concurrent.futures.wait` as any wait; the calls go on, for they can be waited for again."""
    import concurrent.futures

    futures = [hold(str(tmp_path), str(i)) > pool for i in range(2)]
    runs(tmp_path, "0")
    waiting = threading.Event()
    sender, _ = interrupt_when(waiting.wait)
    with pytest.raises(KeyboardInterrupt):
        waiting.set()
        while True:  # a signal that comes just before the system call does not end it
            concurrent.futures.wait(futures, timeout=LOOK)
    sender.join()
    for i in range(2):
        let_go(tmp_path, str(i))
    assert [future.result() for future in futures] == ["0", "1"]


PROGRAM = (
    "import os, sys, time\nimport skyward as sky\n"
    "@sky.function\ndef work(name):\n"
    "    open(name, 'x').close()\n"
    "    for _ in range(3000):\n        time.sleep(0.01)\n        if os.path.exists('go'):\n            return name\n"
    "with sky.Compute(nodes=2) as pool:\n"
    "    kept = work('kept') > pool\n"
    "    try:\n        work('awaited') >> pool\n"
    "    except KeyboardInterrupt:\n        print('interrupted', flush=True)\n"
    "    open('go', 'x').close()\n"
    "    print(kept.result(), len({*sky.function(os.getpid)() @ pool}), pool.snapshot().rerun, flush=True)\n"
)


def started(directory: Path) -> None:
    """Wait until both tasks of the program run."""
    for name in ("kept", "awaited"):
        until((directory / name).exists)


@pytest.mark.rule("R52")
@pytest.mark.rule("F2")
def test_interrupt_of_the_group_reaches_the_client_only(tmp_path: Path) -> None:
    """As a shell sends it: nodes and workers are in sessions of their own, and hear nothing."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    started(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out.splitlines() == ["interrupted", "kept 2 0"], err


@pytest.mark.rule("R52")
def test_ctrl_c_at_a_terminal_reaches_the_client_only(tmp_path: Path) -> None:
    """The byte that the key sends, typed at a terminal that the client controls."""
    terminal, theirs = pty.openpty()
    opening = "import os\nos.open(os.ttyname(0), os.O_RDWR)\n"  # the leader of a session thereby has it as its terminal
    process = subprocess.Popen(
        [sys.executable, "-c", opening + PROGRAM],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,  # where it is a terminal the pool shows how it stands there
        start_new_session=True,
    )
    os.close(theirs)
    try:
        started(tmp_path)
        os.write(terminal, b"\x03")
        said = b""
        while not re.search(rb"kept .*\n", said):  # a line may come in pieces
            said += os.read(terminal, 1000)
        assert process.wait(LONG) == 0
        assert said.split(b"interrupted")[1].split() == [b"kept", b"2", b"0"]
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
