"""A real daemon over a real socket, with real workers."""

from __future__ import annotations

import json
import os
import signal
import stat
from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.messages import Bye, Draining, Pulse, Refused
from skyward.wire.statuses import CANCELLED, CRASHED, OK, RAISED, TIMED_OUT
from tests.node.work import hold, let_go, meet

if TYPE_CHECKING:
    from collections.abc import Callable

    Serve = Callable[..., tuple[Any, Any]]


def add(x: int, y: int) -> int:
    return x + y


def nap(seconds: float) -> float:
    import time

    time.sleep(seconds)
    return seconds


def own_pid() -> int:
    return os.getpid()


def stubborn() -> None:
    import signal
    import time

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        time.sleep(1)


def fail(text: str) -> None:
    raise ValueError(text)


def kill_once(path: str) -> str:
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), 9)
    return "survived"


def kill_always() -> None:
    os.kill(os.getpid(), 9)


def leave_child(path: str) -> None:
    import subprocess

    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    with open(path + ".new", "w") as file:
        file.write(str(child.pid))
    os.rename(path + ".new", path)
    child.wait()


# --- up and down ---------------------------------------------------------------------------------


def test_daemon_reports_that_it_serves(start_daemon: Callable[..., Any]) -> None:
    """The ready line names endpoint and pid, and the socket belongs to its owner alone."""
    daemon = start_daemon()
    line = json.loads(daemon.ready_line())
    assert line == {"endpoint": daemon.endpoint, "pid": daemon.process.pid, "public_key": ""}
    assert stat.S_IMODE(daemon.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("bind", "complaint"),
    [
        ("ipc:///tmp/" + "x" * 120, "at most 107"),
        ("tcp://127.0.0.1:x", "looks like"),
        ("tcp://192.0.2.1:0", "cannot bind tcp://192.0.2.1:0: "),
        ("ipc:///tmp/loose.sock", "0700"),
        ("udp://x", "ipc:///directory"),
    ],
)
def test_daemon_that_cannot_serve_says_why(start_daemon: Callable[..., Any], bind: str, complaint: str) -> None:
    """The launcher gets one line with the error, and exit code 2."""
    daemon = start_daemon(bind=bind)
    assert complaint in json.loads(daemon.ready_line())["error"]
    daemon.end()
    assert daemon.process.returncode == 2


def test_second_daemon_at_an_endpoint_is_refused(start_daemon: Callable[..., Any]) -> None:
    """A daemon never takes over the socket of another."""
    start_daemon().ready_line()
    assert "another daemon" in json.loads(start_daemon().ready_line())["error"]


@pytest.mark.rule("R40")
def test_daemon_ends_with_its_lifeline(serve: Serve, directory: Any, assert_gone: Callable[..., None]) -> None:
    """When the launcher is gone, daemon, workers, what they left, and the socket are gone."""
    daemon, client = serve(concurrency=2)
    path = directory / "child"
    client.submit(leave_child, str(path))
    client.until(path.exists)
    below = daemon.descendants()
    assert int(path.read_text()) in below
    daemon.hang_up()
    daemon.end()
    assert daemon.process.returncode == 0
    assert_gone(below)
    assert not daemon.path.exists()


@pytest.mark.rule("R40")
def test_daemon_killed_outright_leaves_no_worker(serve: Serve, assert_gone: Callable[..., None]) -> None:
    """SIGKILL of the daemon takes its workers along."""
    daemon, client = serve(concurrency=2)
    client.value(client.submit(add, 1, 2))
    client.until(lambda: len(daemon.descendants()) == 3)
    below = daemon.descendants()
    daemon.process.kill()
    assert_gone(below)


@pytest.mark.rule("R40")
def test_daemon_ends_with_its_template(serve: Serve, assert_gone: Callable[..., None]) -> None:
    """A daemon that cannot start workers any more ends itself, and takes them along."""
    daemon, client = serve()
    client.value(client.submit(add, 1, 2))
    below = daemon.descendants()
    template = next(pid for pid in below if _parent(pid) == daemon.process.pid)
    os.kill(template, signal.SIGKILL)
    daemon.end()
    assert daemon.process.returncode == 1
    assert_gone(below)


@pytest.mark.rule("R40")
def test_sigterm_drains(serve: Serve, directory: Any) -> None:
    """What runs is finished, what waits is handed back, and the daemon says goodbye."""
    daemon, client = serve()
    running = client.submit(hold, str(directory / "a"))
    waiting = client.submit(nap, 0.0)
    client.until((directory / "a-runs").exists)
    daemon.process.terminate()
    client.wait_for(Draining)
    let_go(directory / "a")
    assert client.outcome(running) == (OK, "let go")
    client.until(lambda: waiting in client.returned)
    client.until(lambda: any(isinstance(message, Bye) for message, _ in client.log))
    daemon.end()
    assert daemon.process.returncode == 0


def test_launched_daemon_ignores_ctrl_c(serve: Serve) -> None:
    """Ctrl-C is the client's business."""
    daemon, client = serve()
    daemon.process.send_signal(signal.SIGINT)
    assert client.value(client.submit(add, 1, 2)) == 3


# --- work -------------------------------------------------------------------------------------------


def test_hello_is_answered_with_what_the_node_is(serve: Serve) -> None:
    """The client learns slots, executor, pid and versions."""
    daemon, client = serve(concurrency=3)
    welcome = client.log[0][0]
    assert (welcome.slots, welcome.executor, welcome.pid) == (3, "process", daemon.process.pid)
    assert "msgspec" in welcome.versions
    assert not welcome.resumed


@pytest.mark.rule("R37")
def test_tasks_run_and_results_come_back_once(serve: Serve) -> None:
    """Of a thousand tasks every one has its result, once."""
    _, client = serve(concurrency=2)
    ids = client.submit_all(add, [(n, 1) for n in range(1000)])
    assert [client.value(id) for id in ids] == list(range(1, 1001))
    assert sorted(client.deliveries) == ids


def test_large_arguments_and_results_travel(serve: Serve) -> None:
    """A 20 MB array goes there and comes back, writable."""
    import numpy as np

    def double(array: Any) -> Any:
        array *= 2
        return array

    _, client = serve()
    array = np.ones(2_500_000)
    assert client.value(client.submit(double, array)).sum() == 5_000_000


def test_exception_comes_back(serve: Serve) -> None:
    """A task that raises ends with its exception."""
    _, client = serve()
    status, failure = client.outcome(client.submit(fail, "no"))
    assert (status, failure.type_name, failure.message) == (RAISED, "ValueError", "no")


@pytest.mark.rule("R17")
def test_slots_run_at_the_same_time(serve: Serve, directory: Any) -> None:
    """Tasks that wait for one another all get a slot."""
    _, client = serve(concurrency=3)
    paths = [str(directory / name) for name in "abc"]
    for id in client.submit_all(meet, [(path, paths) for path in paths]):
        client.value(id)


@pytest.mark.rule("R7")
def test_running_task_is_cancelled(serve: Serve) -> None:
    """An obedient task is interrupted, a stubborn one killed, and the slot works on."""
    _, client = serve()
    for task in (client.submit(nap, 600.0), client.submit(stubborn)):
        client.until(lambda task=task: task in client.started)
        client.cancel(task)
        assert client.outcome(task)[0] == CANCELLED
    assert client.value(client.submit(add, 1, 2)) == 3


@pytest.mark.rule("R39")
def test_task_over_its_time_is_stopped(serve: Serve) -> None:
    """It ends as timed out, and its worker is another one."""
    _, client = serve()
    before = client.value(client.submit(own_pid))
    status, failure = client.outcome(client.submit(nap, 600.0, timeout=0.2))
    assert (status, failure.timeout) == (TIMED_OUT, 0.2)
    assert client.value(client.submit(own_pid)) != before


@pytest.mark.rule("R38")
def test_task_whose_worker_dies_runs_once_more(serve: Serve, directory: Any) -> None:
    """The second run may succeed."""
    _, client = serve()
    assert client.value(client.submit(kill_once, str(directory / "died"))) == "survived"


@pytest.mark.rule("R38")
@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (3, 2)])
def test_task_that_kills_its_workers_fails(serve: Serve, retries: int, attempts: int) -> None:
    """It ends with the signal, after two deaths at most, and the node works on."""
    _, client = serve()
    status, failure = client.outcome(client.submit(kill_always, retries=retries))
    assert (status, failure.signal, failure.attempts) == (CRASHED, 9, attempts)
    assert client.value(client.submit(add, 1, 2)) == 3


@pytest.mark.rule("R32")
def test_thread_workers_share_a_process(serve: Serve, directory: Any) -> None:
    """With threads all slots are one process, and they run at the same time."""
    _, client = serve(concurrency=4, executor="thread")
    pids = {client.value(id) for id in client.submit_all(own_pid, [()] * 8)}
    assert len(pids) == 1
    paths = [str(directory / name) for name in "abcd"]
    for id in client.submit_all(meet, [(path, paths) for path in paths]):
        client.value(id)


def test_fresh_processes_run_one_task_each(serve: Serve) -> None:
    """With ``reuse_processes=False`` no two tasks share a pid."""
    _, client = serve(reuse_processes=False)
    pids = [client.value(id) for id in client.submit_all(own_pid, [()] * 4)]
    assert len(set(pids)) == 4


# --- peers --------------------------------------------------------------------------------------------


@pytest.mark.rule("R43")
@pytest.mark.parametrize(
    "frames",
    [[b""], [b"\x01"], [b"\x01\x02rubbish"], [b"\xff" * 100], [b"\x01\x01\x90"], [b"\x01\xc8\x90", b"x"], [b"", b""]],
)
def test_nonsense_is_refused_and_others_go_on(serve: Serve, context: Callable[..., Any], frames: list[bytes]) -> None:
    """A peer that sends rubbish is told so once; the client beside it notices nothing."""
    daemon, client = serve()
    stranger = context(daemon)
    for _ in range(100):
        stranger.send_frames(frames)
    if frames[0][1:2] != b"\xc8":  # an unknown hint is ignored
        assert stranger.wait_for(Refused).code in {"protocol", "version"}
    assert client.value(client.submit(add, 1, 2)) == 3


@pytest.mark.rule("R35")
def test_other_python_is_refused(start_daemon: Callable[..., Any], context: Callable[..., Any]) -> None:
    """Both versions are named."""
    daemon = start_daemon()
    daemon.ready_line()
    client = context(daemon)
    client.greet(python="3.9.1")
    refused = client.wait_for(Refused)
    assert refused.code == "version"
    assert "3.9.1" in refused.reason
    assert refused.python in refused.reason


def test_two_clients_do_not_meet(serve: Serve, context: Callable[..., Any]) -> None:
    """Their tasks may have the same ids, and run in different processes (F66)."""
    daemon, first = serve()
    second = context(daemon)
    second.hello()
    pids = [client.value(client.submit(own_pid)) for client in (first, second)]
    assert pids[0] != pids[1]


def test_goodbye_stops_a_clients_tasks(serve: Serve, context: Callable[..., Any], assert_gone: Any) -> None:
    """The worker of a client that leaves is gone, and the next client is served."""
    daemon, client = serve()
    worker = client.value(client.submit(own_pid))
    task = client.submit(nap, 600.0)
    client.until(lambda: task in client.started)
    client.send(Bye(client.epoch, client.seen, ""))
    assert_gone({worker})
    second = context(daemon)
    second.hello()
    assert second.value(second.submit(add, 1, 2)) == 3


@pytest.mark.rule("R40")
def test_tasks_of_a_silent_client_are_stopped(serve: Serve, assert_gone: Any) -> None:
    """A client that says nothing for the time of its lease loses its workers."""
    _, client = serve(lease=1.5)
    assert_gone({client.value(client.submit(own_pid))})


@pytest.mark.rule("R40")
@pytest.mark.rule("F11")
def test_launched_node_without_a_client_ends_itself(serve: Serve, assert_gone: Any) -> None:
    """After the lease of its last client, and the time it was told; nothing is left, also with its launcher alive."""
    daemon, client = serve(lease=0.5, alone=0.5, log_level="info")
    client.value(client.submit(own_pid))
    below = daemon.descendants()
    log = daemon.end()
    assert daemon.process.returncode == 0
    assert b"no client any more: the node ends" in log
    assert_gone(below)


def test_node_beats(serve: Serve) -> None:
    """Heartbeats come by themselves."""
    _, client = serve()
    client.wait_for(Pulse)
    client.wait_for(Pulse)


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])
