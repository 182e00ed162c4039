"""Nodes that die or fall silent: noticed, replaced, and what becomes of their tasks (R36, R51, F7, F8, F67)."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import skyward as sky
from tests.rules.processes import daemons, ended, family, pid_of, replaced, script
from tests.rules.providers import Fragile
from tests.rules.work import LONG, add, hold, let_go, note, place, runs, until

if TYPE_CHECKING:
    from skyward.model import NodeSnapshot


@sky.function
def attempt(directory: str, name: str, value: int) -> tuple[int, int]:
    """Leave one more mark for each run, say that it runs, and return when it is let go."""
    note.local(directory, f"{name}-times")
    hold.local(directory, name)
    return value, os.getpid()


def times(directory: Path, name: str) -> int:
    """Return how often a task has been started."""
    return len((directory / f"{name}-times").read_text())


def busy(pool: sky.Compute) -> NodeSnapshot:
    """Return the one node that has a task."""
    (node,) = [node for node in pool.snapshot().nodes if node.in_flight]
    return node


def lose(pool: sky.Compute, directory: Path, name: str, number: int = signal.SIGKILL) -> int:
    """Wait until the task runs, end its node, and return the node's rank."""
    runs(directory, name)
    (directory / f"{name}-runs").unlink()
    node = busy(pool)
    os.kill(pid_of(node), number)
    return node.rank


@pytest.mark.rule("R36")
@pytest.mark.rule("F7")
def test_task_of_a_dead_node_runs_again_within_its_retries(pool: sky.Compute, tmp_path: Path) -> None:
    """Each loss costs one; when none is left the error says which node, and how often."""
    future = attempt(str(tmp_path), "a", 1).with_retries(2) > pool
    for _ in range(2):
        lose(pool, tmp_path, "a")
    rank = lose(pool, tmp_path, "a")
    with pytest.raises(sky.NodeLostError, match="its process died") as caught:
        future.result()
    assert (caught.value.node, caught.value.attempts) == (rank, 3)
    assert isinstance(caught.value, ConnectionError)
    assert times(tmp_path, "a") == 3

    kept = attempt(str(tmp_path), "b", 2).with_retries(1) > pool
    lose(pool, tmp_path, "b")
    runs(tmp_path, "b")
    let_go(tmp_path, "b")
    assert kept.result()[0] == 2
    assert times(tmp_path, "b") == 2


@pytest.mark.rule("R36")
@pytest.mark.rule("F7")
@pytest.mark.parametrize("waiting", [True, False])
def test_death_is_noticed_at_once(tmp_path: Path, waiting: bool) -> None:
    """By the process, long before a heartbeat is missed, whether somebody waits or not."""
    with sky.Compute(nodes=2, heartbeat=2 * LONG) as pool:
        future = hold(str(tmp_path), "a").with_retries(0) > pool
        noticed = threading.Event()
        future.add_done_callback(lambda _: noticed.set())
        runs(tmp_path, "a")
        pid = pid_of(busy(pool))
        os.kill(pid, signal.SIGKILL)
        if waiting:
            future.exception(LONG)
        assert noticed.wait(LONG)
        assert isinstance(future.exception(), sky.NodeLostError)
        replaced(pool, {pid})


@pytest.mark.rule("R36")
def test_task_without_retries_is_never_run_twice(pool: sky.Compute, tmp_path: Path) -> None:
    """Only what ran on the dead node is lost; the rest had not been sent, and ends well."""
    futures = [attempt(str(tmp_path), str(i), i).with_retries(0) > pool for i in range(8)]
    runs(tmp_path, "0")
    runs(tmp_path, "1")
    os.kill(pid_of(pool.snapshot().nodes[1]), signal.SIGKILL)
    for i in range(8):
        let_go(tmp_path, str(i))
    errors = [future.exception() for future in futures]
    lost = [error for error in errors if error is not None]
    assert [type(error) for error in lost] == [sky.NodeLostError]
    assert errors[0] is None or errors[1] is None
    assert not any(errors[2:])
    assert [future.result()[0] for future in futures if not future.exception()] == [
        i for i in range(8) if errors[i] is None
    ]
    assert [times(tmp_path, str(i)) for i in range(8)] == [1] * 8


@pytest.mark.rule("R36")
def test_what_a_dead_node_had_not_started_moves_on(pool: sky.Compute) -> None:
    """Short tasks are sent ahead by the hundred; whatever dies with a node, each result comes, and once."""
    sky.gather(*[add(i) for i in range(2_000)]) >> pool  # now they are known to be short
    stream = sky.gather(*[place(i) for i in range(5_000)], stream=True, ordered=False) >> pool
    results = [next(stream)]
    while len({rank for _, _, rank in results}) < 2:
        results.append(next(stream))
    os.kill(pid_of(pool.snapshot().nodes[0]), signal.SIGKILL)
    results += stream
    assert sorted(value for value, _, _ in results) == list(range(5_000))
    assert {rank for _, _, rank in results} == {0, 1}


@pytest.mark.rule("R36")
def test_bound_calls_and_broadcasts_are_never_rerun(pool: sky.Compute, tmp_path: Path) -> None:
    """Whatever their retries say: `.on` and a member of a broadcast end with their node."""
    bound = attempt(str(tmp_path), "on", 1).on(1).with_retries(9) > pool
    lose(pool, tmp_path, "on")
    with pytest.raises(sky.NodeLostError):
        bound.result()
    assert times(tmp_path, "on") == 1
    until(lambda: pool.current_nodes() == 2)

    box: list[Any] = []

    def broadcast() -> None:
        try:
            box.append(by_rank(str(tmp_path)).with_retries(9) @ pool)
        except sky.BroadcastError as error:
            box.append(error)

    @sky.function
    def by_rank(directory: str) -> int:
        info = sky.instance_info()
        assert info is not None
        return int(attempt.local(directory, f"all{info.node}", info.node)[0])

    thread = threading.Thread(target=broadcast)
    thread.start()
    for rank in range(2):
        runs(tmp_path, f"all{rank}")
    os.kill(pid_of(pool.snapshot().nodes[0]), signal.SIGKILL)
    let_go(tmp_path, "all1")
    thread.join(LONG)
    (error,) = box
    assert isinstance(error, sky.BroadcastError)
    assert error.failed == (0,)
    assert error.results[1] == 1
    assert isinstance(error.errors[0], sky.NodeLostError)
    assert "node 0" in str(error)
    assert [times(tmp_path, f"all{rank}") for rank in range(2)] == [1, 1]


@pytest.mark.rule("R36")
@pytest.mark.rule("F8")
def test_stopped_daemon_is_lost_and_ended(pool: sky.Compute, tmp_path: Path) -> None:
    """After three heartbeats and a poll; its processes are ended, and what they would say counts no more."""
    future = attempt(str(tmp_path), "a", 1).with_retries(0) > pool
    runs(tmp_path, "a")
    node = busy(pool)
    stopped = psutil.Process(pid_of(node))
    processes = [stopped, *stopped.children(recursive=True)]
    began = time.monotonic()
    os.kill(pid_of(node), signal.SIGSTOP)
    with pytest.raises(sky.NodeLostError, match=r"silent for 0\.75 s"):
        future.result()
    assert time.monotonic() - began > 0.5  # seconds; its last word was at most a heartbeat, a quarter, ago
    until(lambda: not any(process.is_running() for process in processes))
    replaced(pool, {pid_of(node)})
    assert {rank for _, _, rank in place(1) @ pool} == {0, 1}


@pytest.mark.rule("R36")
@pytest.mark.rule("F8")
def test_heartbeat_sets_the_patience(tmp_path: Path) -> None:
    """A daemon that is stopped for less than three intervals is not lost, and its task goes on."""
    with sky.Compute(nodes=2, heartbeat=5) as pool:
        future = attempt(str(tmp_path), "a", 1) > pool
        runs(tmp_path, "a")
        pid = pid_of(busy(pool))
        os.kill(pid, signal.SIGSTOP)
        until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        with pytest.raises(TimeoutError):
            future.result(timeout=1)  # longer than the default's patience
        os.kill(pid, signal.SIGCONT)
        let_go(tmp_path, "a")
        assert future.result()[0] == 1
        assert times(tmp_path, "a") == 1
        assert pid in {node.pid for node in pool.snapshot().nodes}


@pytest.mark.rule("R36")
def test_stopped_client_blames_nobody(tmp_path: Path) -> None:
    """Silence counts only while the observer was polling: a client that was stopped finds its nodes (F3)."""
    process = script(
        "import os, time\nimport skyward as sky\n"
        "@sky.function\ndef nap(x):\n    time.sleep(x)\n    return os.getpid()\n"
        "with sky.Compute(nodes=2) as pool:\n"
        "    before = nap(0) @ pool\n    print(os.getpid(), flush=True)\n"
        "    during = nap(2).with_retries(0) @ pool\n"
        "    assert (before, pool.snapshot().rerun) == (during, 0)\n    print('well')\n",
        cwd=tmp_path,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    time.sleep(1.5)  # twice the time after which a node would be lost
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert out == "well\n", err


@pytest.mark.rule("F67")
@pytest.mark.rule("R36")
def test_death_reported_twice_counts_once(pool: sky.Compute, tmp_path: Path) -> None:
    """A daemon that is stopped and then killed is lost once: one re-run, one replacement."""
    future = attempt(str(tmp_path), "a", 1).with_retries(1) > pool
    runs(tmp_path, "a")
    (tmp_path / "a-runs").unlink()
    before = {node.pid for node in pool.snapshot().nodes}
    pid = pid_of(busy(pool))
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    runs(tmp_path, "a")
    replaced(pool, {pid})
    let_go(tmp_path, "a")
    assert future.result()[0] == 1
    assert (times(tmp_path, "a"), pool.snapshot().rerun) == (2, 1)
    assert len(before & {node.pid for node in pool.snapshot().nodes}) == 1
    assert len(daemons(pool)) == 2


@pytest.mark.rule("R51")
def test_replacement_takes_the_lowest_free_rank() -> None:
    """Whichever rank was lost, the head's too; two at once are both replaced."""
    with sky.Compute(nodes=3) as pool:
        for lost in ([1], [0], [0, 2]):
            before = {node.rank: pid_of(node) for node in pool.snapshot().nodes}
            for rank in lost:
                os.kill(before[rank], signal.SIGKILL)
            replaced(pool, {before[rank] for rank in lost}, size=3)
            after = {node.rank: pid_of(node) for node in pool.snapshot().nodes}
            assert set(after) == {0, 1, 2}
            assert {rank for rank in after if after[rank] != before[rank]} == set(lost)
            assert [rank for _, _, rank in place(1) @ pool] == [0, 1, 2]


@pytest.mark.rule("R36")
@pytest.mark.rule("F17")
def test_workers_and_their_children_go_with_a_killed_daemon(pool: sky.Compute, tmp_path: Path) -> None:
    """Within two seconds nothing of the node is left."""

    @sky.function(retries=0)
    def spawn(directory: str) -> None:
        import subprocess

        child = subprocess.Popen(["sleep", "600"])
        Path(directory, "pid").write_text(str(child.pid))
        hold.local(directory, "spawned")

    future = spawn(str(tmp_path)) > pool
    runs(tmp_path, "spawned")
    daemon = psutil.Process(pid_of(busy(pool)))
    processes = [daemon, *daemon.children(recursive=True)]
    assert int((tmp_path / "pid").read_text()) in {process.pid for process in processes}
    daemon.kill()
    assert isinstance(future.exception(), sky.NodeLostError)
    assert ended(process.pid for process in processes)


@pytest.mark.rule("R51")
def test_calls_wait_for_a_node_no_longer_than_told(tmp_path: Path) -> None:
    """Then they raise `NoNodesError` with the causes, each kind of call; when a node comes back they run."""
    provider = Fragile()
    with sky.Compute(provider, nodes=2, node_wait=0.6) as pool:
        processes = family(pool)
        provider.broken = "the cellar is flooded"
        began = time.monotonic()
        for node in pool.snapshot().nodes:
            os.kill(pid_of(node), signal.SIGKILL)
        until(lambda: pool.current_nodes() == 0)
        futures = [add(i, 1) > pool for i in range(3)]
        errors = [future.exception() for future in futures]
        assert time.monotonic() - began > 0.6
        for error in errors:
            assert isinstance(error, sky.NoNodesError)
            assert isinstance(error, ConnectionError)
            assert error.waited == 0.6
            assert any("its process died" in cause for cause in error.causes)
            assert any("the cellar is flooded" in cause for cause in error.causes)
        for use in (lambda: add(1, 2) >> pool, lambda: add(1, 2) @ pool, lambda: sky.gather(add(1), add(2)) >> pool):
            with pytest.raises(sky.NoNodesError, match="the cellar is flooded"):
                use()
        assert provider.tried < 20  # a provider that fails is not hammered: the pause doubles
        provider.broken = ""
        until(lambda: pool.current_nodes() == 2)
        assert {rank for _, _, rank in place(1) @ pool} == {0, 1}
        assert not any(process.is_running() for process in processes)


@pytest.mark.rule("R51")
def test_calls_that_wait_run_when_a_node_comes() -> None:
    """Nothing is lost while there is no node, if one comes in time."""
    provider = Fragile()
    with sky.Compute(provider, nodes=1, node_wait=30) as pool:
        provider.broken = "for a moment"
        os.kill(pid_of(pool.snapshot().nodes[0]), signal.SIGKILL)
        until(lambda: provider.tried >= 2)
        futures = [place(i) > pool for i in range(5)]
        assert not any(future.done() for future in futures)
        provider.broken = ""
        assert [future.result()[::2] for future in futures] == [(i, 0) for i in range(5)]


def test_asking_all_the_time_holds_up_nothing(pool: sky.Compute) -> None:
    """A thread that looks at the pool in a loop, and waits for nothing, keeps no news from it."""
    lost = pid_of(pool.snapshot().nodes[0])
    os.kill(lost, signal.SIGKILL)
    deadline = time.monotonic() + LONG
    while any(node.pid == lost for node in pool.snapshot().nodes):
        assert time.monotonic() < deadline


@pytest.mark.rule("R36")
@pytest.mark.rule("F8")
def test_silent_node_is_lost(pool: sky.Compute, tmp_path: Path) -> None:
    """A daemon that is stopped says nothing: its task runs again elsewhere."""
    future = place(1) > pool
    assert future.result()[0] == 1
    held = hold(str(tmp_path), "a") > pool
    runs(tmp_path, "a")
    busy = next(node for node in pool.snapshot().nodes if node.in_flight)
    (tmp_path / "a-runs").unlink()
    os.kill(pid_of(busy), signal.SIGSTOP)
    runs(tmp_path, "a")
    let_go(tmp_path, "a")
    assert held.result() == "a"
    until(lambda: pool.current_nodes() == 2)


@pytest.mark.rule("R30")
@pytest.mark.rule("F17")
def test_stopped_spawner_does_not_outlive_its_daemon() -> None:
    """It is continued when the daemon has gone, sees that, and ends with its workers."""
    with sky.Compute(nodes=1) as pool:
        _, worker, _ = place() >> pool
        spawner = psutil.Process(worker).ppid()
        daemon = psutil.Process(spawner).ppid()
        os.kill(spawner, signal.SIGSTOP)
        os.kill(daemon, signal.SIGKILL)
        assert ended([spawner, worker])
