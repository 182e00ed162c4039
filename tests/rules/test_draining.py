"""A daemon that is told to end while it works: it finishes, and keeps what it has until it was seen (R40, F10)."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import psutil
import pytest

import skyward as sky
from tests.rules.byhand import ByHand, environment
from tests.rules.processes import script
from tests.rules.work import LONG, hold, let_go, note, runs, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Start = Callable[..., ByHand]

DRAIN: Final = 30.0  # seconds that a drain may take
COUNT: Final = 400  # calls: some run, some are with a node, some with the client, some have ended when it is told


@pytest.mark.rule("R40")
@pytest.mark.rule("F10")
def test_terminated_daemon_finishes_what_it_runs(by_hand: Start, tmp_path: Path) -> None:
    """What it runs ends there, what waited there moves, each call runs once, and the daemon ends in good order."""
    nodes = [by_hand("--concurrency", "2") for _ in range(2)]
    marks = tmp_path / "marks"
    marks.mkdir()
    with sky.Compute(sky.Static([node.address for node in nodes]), heartbeat=1.0) as pool:
        assert note(str(marks), "first") >> pool == "first"
        held = [hold(str(tmp_path), str(i)).with_retries(0) > pool for i in range(2)]
        for i in range(2):
            runs(tmp_path, str(i))
        calls = [note(str(marks), str(i)).with_retries(i % 2 * 3) for i in range(COUNT)]
        stream = sky.gather(*calls, stream=True, ordered=False) >> pool
        results = [next(stream) for _ in range(50)]
        nodes[0].process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        until(lambda: "draining" in nodes[0].events())
        results += stream
        assert nodes[0].process.poll() is None, "it ended while a task ran"
        for i in range(2):
            let_go(tmp_path, str(i))
        assert [future.result() for future in held] == ["0", "1"]
        assert nodes[0].process.wait(DRAIN) == 0
        took = time.monotonic() - told
        until(lambda: pool.current_nodes() == 1)
        assert pool.snapshot().rerun == 0
        assert note(str(marks), "last") >> pool == "last"
    assert took < DRAIN
    assert sorted(results) == sorted(str(i) for i in range(COUNT))
    assert Counter(len(path.read_text()) for path in marks.iterdir()) == {1: COUNT + 2}


@pytest.mark.rule("R36")
@pytest.mark.rule("R40")
@pytest.mark.rule("F10")
def test_terminated_daemon_keeps_results_until_they_were_seen(by_hand: Start, tmp_path: Path) -> None:
    """A client that does not listen just then gets the result of a call that may not run again, and later."""
    node = by_hand()
    client = script(
        f"""
import sys
sys.path[:0] = {environment()["PYTHONPATH"].split(os.pathsep)!r}
import skyward as sky
from tests.rules.work import hold
with sky.Compute(sky.Static([{node.address!r}]), retries=0) as pool:
    print(hold({str(tmp_path)!r}, "a") >> pool)
""",
        cwd=tmp_path,
    )
    try:
        runs(tmp_path, "a")
        client.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(client.pid).status() == psutil.STATUS_STOPPED)
        node.process.send_signal(signal.SIGTERM)
        until(lambda: "draining" in node.events())
        let_go(tmp_path, "a")
        until((tmp_path / "a-done").exists)
        time.sleep(1.0)  # how long the result is kept is the experiment
        assert node.process.poll() is None
    finally:
        client.send_signal(signal.SIGCONT)
        out, err = client.communicate(timeout=LONG)
    assert out == "a\n", err
    assert node.process.wait(DRAIN) == 0
