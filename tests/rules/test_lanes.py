"""Lone calls on nodes of this machine, which pass ZeroMQ by: what is promised of calls is true of them, too."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

import skyward as sky
from skyward.transport import lanes
from skyward.wire.lone import MAX_SMALL
from tests.rules.processes import daemons, replaced
from tests.rules.work import LONG, add, die_by, echo, fail, hold, let_go, note, runs, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from skyward.transport.links import Link
    from tests.rules.byhand import ByHand

pytestmark = pytest.mark.ipc_only("only nodes behind a socket file have lanes")

SELDOM: Final = 10.0  # seconds between heartbeats, of which none comes while a test looks
SIZES: Final = (1, MAX_SMALL - 100, MAX_SMALL, MAX_SMALL + 1, 3 * MAX_SMALL, 2**20)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what goes by lanes, seen from the client: "out" and "in"."""
    seen: list[str] = []
    send, receive = lanes.send, lanes.receive

    def count_out(lane: socket.socket, message: bytes) -> bool:
        seen.append("out")
        return send(lane, message)

    def count_in(lane: socket.socket) -> bytes | None:
        message = receive(lane)
        if message:
            seen.append("in")
        return message

    monkeypatch.setattr(lanes, "send", count_out)
    monkeypatch.setattr(lanes, "receive", count_in)
    return seen


@pytest.fixture
def quiet() -> Iterator[sky.Compute]:
    """Return a pool of one node, with no heartbeats between calls, none of which may run twice."""
    with sky.Compute(nodes=1, heartbeat=SELDOM, retries=0) as pool:
        yield pool
        pool.close(cancel=True)


@pytest.fixture
def lively() -> Iterator[sky.Compute]:
    """Return a pool of one node with two slots that beats all the time, and where no call may run twice."""
    with sky.Compute(nodes=1, concurrency=2, heartbeat=0.25, retries=0) as pool:
        yield pool
        pool.close(cancel=True)


def links(pool: sky.Compute) -> list[Link]:
    """Return the links to the nodes."""
    assert pool._engine is not None
    return [mate.link for mate in pool._engine.crew.mates.values() if mate.link is not None]


def level(pool: sky.Compute, call: Any = None) -> None:
    """Have the next lone call take the lane, if the node has its code: it has that of this one."""
    if call is not None:
        _ = call >> pool
    until(lambda: [add(1, 2) >> pool, all(link.level and link.lane is not None for link in links(pool))][1])


def go_on(pool: sky.Compute, directory: Path) -> None:
    """Have the next lone call take the lane, if it is one that holds."""
    let_go(directory, "warm")
    level(pool, hold(str(directory), "warm"))


def holds(pool: sky.Compute, directory: Path, name: str = "held") -> None:
    """Wait until a task that holds runs, which has come by the lane."""
    runs(directory, name)
    until(lambda: all(link.asked for link in links(pool)))  # which is noted when it has been sent


def cut(pool: sky.Compute) -> None:
    """End the lanes, as nobody does who means well."""
    for link in links(pool):
        lane = link.lane
        if lane is not None:
            with suppress(OSError):
                lane.shutdown(socket.SHUT_RDWR)


def meanwhile(ready: Callable[[], object], act: Callable[[], object]) -> threading.Thread:
    """Do something as soon as something has happened, while this thread waits for a call."""

    def work() -> None:
        ready()
        act()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def marks(directory: Path, name: str) -> int:
    """Return how often a task that leaves marks has run."""
    path = directory / name
    return len(path.read_text()) if path.exists() else 0


@sky.function
def say(number: int) -> int:
    """Print on both streams."""
    import sys

    print("out", number)
    print("err", number, file=sys.stderr)
    return number


@pytest.mark.rule("R6")
def test_lone_calls_take_the_lane(quiet: sky.Compute, traffic: list[str]) -> None:
    """All of them but the first, and so do their outcomes."""
    level(quiet)
    traffic.clear()
    assert [add(number, 1) >> quiet for number in range(50)] == list(range(1, 51))
    assert traffic == ["out", "in"] * 50


@pytest.mark.rule("R6")
def test_calls_of_all_sizes_come_right(quiet: sky.Compute) -> None:
    """Those that fit the lane, and those that do not, in any order; so do arrays."""
    level(quiet)
    for size in SIZES + SIZES[::-1]:
        value = os.urandom(size)
        assert echo(value) >> quiet == value
        assert echo("small") >> quiet == "small"
    array = np.arange(500_000)
    for _ in range(3):
        assert (echo(array) >> quiet).sum() == array.sum()
        assert echo(1) >> quiet == 1


@pytest.mark.rule("R28")
def test_output_comes_before_the_result(quiet: sky.Compute) -> None:
    """All of it, though the result of a task that prints nothing would take another way."""
    lines: list[str] = []
    level(quiet, say(0))
    with sky.redirect_output(lambda line: lines.append(str(line))):
        for number in range(30):
            assert say(number) >> quiet == number
            until(lambda number=number: len(lines) == 2 * number + 2)
            assert add(number, 1) >> quiet == number + 1
    assert sorted(lines) == sorted(f"{stream} {number}" for number in range(30) for stream in ("out", "err"))


@pytest.mark.rule("R29")
def test_errors_come_by_lanes(quiet: sky.Compute) -> None:
    """With their class and cause, and the next call is none the worse for it."""
    for number in range(10):  # of which the first has code
        level(quiet)
        with pytest.raises(ValueError, match=f"bad {number}"):
            _ = fail(number) >> quiet
        assert add(number, 1) >> quiet == number + 1


@pytest.mark.rule("R38")
@pytest.mark.parametrize("retries", [0, 3])
def test_crash_of_a_call_on_a_lane_is_told(tmp_path: Path, traffic: list[str], retries: int) -> None:
    """After the second time, if it may run twice; and the slot is back."""
    with sky.Compute(nodes=1, heartbeat=SELDOM, retries=retries) as pool:
        for _ in range(2):  # at first by the road, with its code
            level(pool)
            traffic.clear()
            (tmp_path / "deaths").unlink(missing_ok=True)
            with pytest.raises(sky.WorkerCrashedError):
                _ = die_by(int(signal.SIGKILL), str(tmp_path)) >> pool
            assert marks(tmp_path, "deaths") == (2 if retries else 1)
        assert "out" in traffic
        assert add(1, 1) >> pool == 2


@pytest.mark.rule("R39")
def test_call_on_a_lane_has_its_timeout(tmp_path: Path) -> None:
    """It is stopped on the node."""
    with sky.Compute(nodes=1, heartbeat=SELDOM, timeout=0.5) as pool:
        go_on(pool, tmp_path)
        thread = meanwhile(partial(holds, pool, tmp_path, "late"), int)
        with pytest.raises(sky.TaskTimeoutError):
            _ = hold(str(tmp_path), "late") >> pool
        thread.join()
        assert add(1, 1) >> pool == 2


@pytest.mark.rule("R29")
@pytest.mark.rule("F2")
def test_interrupt_cancels_a_call_on_a_lane(quiet: sky.Compute, tmp_path: Path) -> None:
    """And costs nothing else: the slot is back, and later calls come right."""
    for number in range(3):
        go_on(quiet, tmp_path)
        name = f"held{number}"
        thread = meanwhile(partial(holds, quiet, tmp_path, name), partial(os.kill, os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            _ = hold(str(tmp_path), name) >> quiet
        thread.join()
        for other in range(5):
            assert add(number, other) >> quiet == number + other
    assert [path.name for path in tmp_path.glob("*-done")] == ["warm-done"]


@pytest.mark.rule("R36")
@pytest.mark.rule("F7")
@pytest.mark.parametrize("retries", [0, 3])
def test_node_that_dies_with_a_call_on_its_lane_is_lost(tmp_path: Path, retries: int) -> None:
    """The call runs again elsewhere if it may, and else ends with that."""
    with sky.Compute(nodes=1, retries=retries) as pool:
        go_on(pool, tmp_path)
        (daemon,) = daemons(pool)
        thread = meanwhile(partial(runs, tmp_path, "held"), daemon.kill)
        held = hold(str(tmp_path), "held")
        if retries:
            replace = meanwhile(partial(replaced, pool, {daemon.pid}, 1), partial(let_go, tmp_path, "held"))
            assert held >> pool == "held"
            replace.join()
        else:
            with pytest.raises(sky.NodeLostError):
                _ = held >> pool
        thread.join()
        level(pool)
        assert add(2, 2) >> pool == 4


@pytest.mark.rule("R36")
@pytest.mark.rule("F8")
def test_node_that_stops_is_lost_with_what_is_on_its_lane(tmp_path: Path) -> None:
    """A daemon that does not look takes a call in all the same; its heartbeats tell."""
    with sky.Compute(nodes=1, retries=0) as pool:
        level(pool, note(str(tmp_path), "warm"))
        (daemon,) = daemons(pool)
        daemon.suspend()
        with pytest.raises(sky.NodeLostError):
            _ = note(str(tmp_path), "once") >> pool
        assert note(str(tmp_path), "again") >> pool == "again"
        assert (marks(tmp_path, "once"), marks(tmp_path, "again")) == (0, 1)


@pytest.mark.rule("R36")
@pytest.mark.rule("R37")
def test_lane_that_ends_under_a_call_loses_nothing(quiet: sky.Compute, tmp_path: Path) -> None:
    """The call runs once, its outcome comes by the road, and there is another lane."""
    go_on(quiet, tmp_path)
    (before,) = [link.lane for link in links(quiet)]

    def go() -> None:
        cut(quiet)
        let_go(tmp_path, "held")

    thread = meanwhile(partial(holds, quiet, tmp_path), go)
    assert hold(str(tmp_path), "held") >> quiet == "held"
    thread.join()
    level(quiet)
    (after,) = [link.lane for link in links(quiet)]
    assert after is not None
    assert after is not before
    assert quiet.current_nodes() == 1


@pytest.mark.rule("R36")
@pytest.mark.rule("R37")
@pytest.mark.rule("F43")
def test_lanes_that_end_all_the_time_lose_nothing(lively: sky.Compute, tmp_path: Path) -> None:
    """Each call has its value, and runs once."""
    over = threading.Event()
    cuts: list[None] = []

    def work() -> None:
        while not over.is_set():
            if any(link.asked for link in links(lively)):
                cut(lively)
                cuts.append(None)
            over.wait(0.0005)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for number in range(150):  # one that ends with nothing on it is not opened again
            assert note(str(tmp_path), f"n{number}") >> lively == f"n{number}"
    finally:
        over.set()
        thread.join()
    assert cuts
    assert [marks(tmp_path, f"n{number}") for number in range(150)] == [1] * 150
    assert lively.current_nodes() == 1


@pytest.mark.rule("R37")
@pytest.mark.rule("F43")
def test_threads_and_futures_share_a_lane(lively: sky.Compute, tmp_path: Path) -> None:
    """Lone calls, futures, cancellations and heartbeats come between each other, and nothing is lost or comes twice."""
    (link,) = links(lively)
    wrong: list[str] = []

    def lone(base: int) -> None:
        names = [f"n{number}" for number in range(base, base + 150)]
        wrong.extend(name for name in names if note(str(tmp_path), name) >> lively != name)

    threads = [threading.Thread(target=lone, args=(base,)) for base in (0, 1_000)]
    for thread in threads:
        thread.start()
    for number in range(2_000, 2_150):
        future = note(str(tmp_path), f"n{number}") > lively
        if number % 3:
            assert future.result(LONG) == f"n{number}"
        else:
            future.cancel()
    for thread in threads:
        thread.join(LONG)
    assert not wrong
    ran = [marks(tmp_path, f"n{number}") for number in (*range(150), *range(1_000, 1_150))]
    assert ran == [1] * 300
    assert links(lively) == [link]  # and nobody took the node for lost


@pytest.mark.rule("R32")
def test_threads_of_a_node_answer_by_lanes_or_by_the_road(threads: sky.Compute) -> None:
    """Whichever, lone calls come right."""
    for number in range(30):
        assert add(number, 1) >> threads == number + 1
        assert echo("x" * 10_000) >> threads == "x" * 10_000


@pytest.mark.rule("F66")
def test_pools_of_one_node_have_lanes_of_their_own(
    by_hand: Callable[..., ByHand], short_path: Path, traffic: list[str]
) -> None:
    """What one says by its lane is answered there, also while another comes and goes."""
    place = short_path / "mesh"
    place.mkdir(0o700)
    bind = f"ipc://{place}/n.sock"
    by_hand("--concurrency", "2", bind=bind)
    with sky.Compute(sky.Static([bind]), heartbeat=SELDOM) as first:
        level(first)
        for round in range(3):
            with sky.Compute(sky.Static([bind]), heartbeat=SELDOM) as second:
                level(second)
                traffic.clear()
                for number in range(10):
                    assert add(number, round) >> first == number + round
                    assert add(number, 7) >> second == number + 7
                assert traffic == ["out", "in"] * 20
    assert (place / "n.lane").is_socket()


@pytest.mark.rule("F61")
def test_pool_without_a_descriptor_for_a_lane_has_the_road(monkeypatch: pytest.MonkeyPatch, traffic: list[str]) -> None:
    """Calls are slower, and right."""
    monkeypatch.setattr(lanes, "dial", lambda endpoint, token: None)
    with sky.Compute(nodes=1) as pool:
        assert [add(number, 1) >> pool for number in range(10)] == list(range(1, 11))
    assert traffic == []
