"""Large values: how they travel, and that nothing of them stays."""

from __future__ import annotations

import array
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import skyward as sky
from skyward.machine.memory import LEAST
from tests import leaks
from tests.rules.work import die_by, echo, let_go, runs, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 2**20
VALUES: dict[str, Callable[[], Any]] = {
    "array": lambda: np.arange(MIB, dtype=np.float64),
    "fortran": lambda: np.asfortranarray(np.arange(MIB, dtype=np.int32).reshape(1024, 1024)),
    "slice": lambda: np.arange(MIB)[::2],
    "bytes": lambda: os.urandom(3 * MIB),
    "bytearray": lambda: bytearray(os.urandom(3 * MIB)),
    "stdlib array": lambda: array.array("d", range(100_000)),
    "mixed": lambda: {"a": np.ones(LEAST // 8 - 1), "b": [np.zeros(LEAST // 8 + 1), b"x" * LEAST], "c": "text"},
    "many": lambda: [np.full(50_000, i) for i in range(20)],
}


@pytest.fixture(scope="module", params=["ipc", "tcp", "threads"])
def kind(request: pytest.FixtureRequest) -> Any:
    """Return how a pool of one node is opened."""
    if request.param == "threads":
        return {"executor": "thread", "concurrency": 2}
    return {"provider": sky.Local(transport=request.param)}


@pytest.fixture
def near() -> Iterator[sky.Compute]:
    """Return a pool of one node of one slot, whose memory is shared."""
    with sky.Compute(nodes=1) as pool:
        yield pool


def same(got: Any, sent: Any) -> None:
    """Check that values are equal, and arrays writable."""
    assert type(got) is type(sent)
    if isinstance(sent, dict):
        for key, value in sent.items():
            same(got[key], value)
    elif isinstance(sent, list):
        for mine, value in zip(got, sent, strict=True):
            same(mine, value)
    elif isinstance(sent, np.ndarray):
        assert got.dtype == sent.dtype
        assert got.flags.writeable
        assert (got == sent).all()
        got[...] = 0
    else:
        assert got == sent


@sky.function
def scribble(value: np.ndarray[Any, Any]) -> bool:
    """Change the argument, as a local call could."""
    value[:] = -1
    return bool(value.flags.writeable)


KEPT: list[Any] = []  # of the worker


@sky.function
def keep(value: Any) -> None:
    """Keep the argument for later calls."""
    KEPT.append(value)


@sky.function
def kept() -> Any:
    """Return what an earlier call has kept."""
    return KEPT[-1]


@sky.function
def ones(count: int, value: float) -> np.ndarray[Any, Any]:
    """Make an array."""
    return np.full(count, value)


@sky.function
def hold_array(value: np.ndarray[Any, Any], directory: str, name: str) -> tuple[float, float]:
    """Return the least and the greatest value of an argument after it was held."""
    Path(directory, f"{name}-pid").write_text(str(os.getpid()))
    os.rename(Path(directory, f"{name}-pid"), Path(directory, f"{name}-runs"))
    until(Path(directory, f"{name}-go").exists)
    result = float(value.min()), float(value.max())
    Path(directory, f"{name}-done").write_text(repr(result))
    return result


@sky.function
def fork_and_keep(value: np.ndarray[Any, Any], directory: str) -> int:
    """Leave a child behind that looks at the argument later."""
    child = os.fork()
    if child == 0:
        try:
            Path(directory, "child-runs").touch()
            until(Path(directory, "child-go").exists)
            Path(directory, "child-part").write_text(repr((float(value.min()), float(value.max()))))
            os.rename(Path(directory, "child-part"), Path(directory, "child-done"))
        finally:
            os._exit(0)
    return child


@pytest.mark.rule("R20")
@pytest.mark.rule("R4")
def test_large_values_arrive_equal_and_writable(kind: Any) -> None:
    """As arguments and as results, over every kind of link."""
    with sky.Compute(nodes=1, **kind) as pool:
        for make in VALUES.values():
            value = make()
            got = echo(value) >> pool
            again = make() if not isinstance(value, bytes | bytearray) else value
            same(got, again)
        sent = np.zeros(MIB)
        assert scribble(sent) >> pool
        assert not sent.any()


@pytest.mark.rule("R20")
@pytest.mark.ipc_only("only nodes behind a socket file are known to share memory with us")
def test_broadcast_array_is_written_once(pool: sky.Compute, copied: list[int]) -> None:
    """All nodes read the same pages."""
    value = np.ones(MIB)
    assert [(got == 1).all() for got in echo(value) @ pool] == [True, True]
    assert copied == [value.nbytes]


@pytest.mark.rule("R20")
@pytest.mark.ipc_only("only nodes behind a socket file are known to share memory with us")
def test_bulk_does_not_pass_through_the_daemon(near: sky.Compute) -> None:
    """Its memory does not grow by what clients and workers share."""
    [node] = near.snapshot().nodes
    peaks: list[int] = []
    for _ in range(2):
        assert (echo(np.ones(100 * MIB // 8)) >> near).all()
        status = Path(f"/proc/{daemon_of(near)}/status").read_text()
        peaks.append(int(status.split("VmHWM:")[1].split()[0]))
    assert node.rank == 0
    assert peaks[1] < 60_000  # KiB


def daemon_of(pool: sky.Compute) -> int:
    """Return the process of a pool's only node."""
    engine = pool._engine
    assert engine is not None
    [mate] = engine.crew.mates.values()
    pid = mate.launched.pid
    assert pid is not None
    return pid


@pytest.mark.rule("R20")
def test_argument_that_a_task_keeps_stays_as_it_was(one: sky.Compute) -> None:
    """Its memory is used again by the next calls, its pages are the task's own by then."""
    keep(np.full(MIB, 7.0)) >> one
    for i in range(5):
        echo(np.full(MIB, float(i))) >> one
    assert ((kept() >> one) == 7).all()


@pytest.mark.rule("R20")
@pytest.mark.rule("R50")
def test_child_of_a_task_keeps_its_argument(one: sky.Compute, tmp_path: Path) -> None:
    """A forked child that outlives its task sees what it saw at the fork."""
    child = fork_and_keep(np.full(MIB, 7.0), str(tmp_path)) >> one
    runs(tmp_path, "child")
    for i in range(5):
        echo(np.full(MIB, float(i))) >> one
    let_go(tmp_path, "child")
    until((tmp_path / "child-done").exists)
    assert (tmp_path / "child-done").read_text() == "(7.0, 7.0)"
    assert child > 0


@pytest.mark.rule("R20")
def test_results_that_are_kept_stay_as_they_were(one: sky.Compute) -> None:
    """Hundreds of them, beyond the bound on mappings, while more come."""
    results = [ones(LEAST // 8, float(i)) >> one for i in range(300)]
    views = [result[10:20] for result in results[::7]]
    for i in range(100):
        ones(LEAST // 8, -1.0) >> one
        if i == 50:
            del results[1::2]
    assert all((result == 2.0 * index).all() for index, result in enumerate(results))
    assert all((view == 7.0 * index).all() for index, view in enumerate(views))


@pytest.mark.rule("R20")
@pytest.mark.rule("R39")
def test_thread_over_its_time_keeps_its_argument(provider: sky.Local, tmp_path: Path) -> None:
    """It cannot be stopped, so what it reads is not used again."""
    with sky.Compute(provider, nodes=1, executor="thread", concurrency=2) as threads:
        let_go(tmp_path, "warm")
        hold_array(np.ones(1), str(tmp_path), "warm") >> threads
        call = hold_array(np.full(MIB, 7.0), str(tmp_path), "late").with_timeout(0.5)
        with pytest.raises(sky.TaskTimeoutError):
            call >> threads
        for i in range(5):
            echo(np.full(MIB, float(i))) >> threads
        let_go(tmp_path, "late")
        until((tmp_path / "late-done").exists)
        until(lambda: (tmp_path / "late-done").read_text() == "(7.0, 7.0)")


@pytest.mark.rule("R38")
@pytest.mark.rule("R20")
def test_worker_that_dies_with_large_arguments_loses_none(one: sky.Compute, tmp_path: Path) -> None:
    """The task runs once more with the same bytes, and a result outlives its worker."""
    future = hold_array(np.full(MIB, 7.0), str(tmp_path), "first") > one
    early = ones(MIB, 3.0) > one
    runs(tmp_path, "first")
    os.kill(int((tmp_path / "first-runs").read_text()), signal.SIGKILL)
    let_go(tmp_path, "first")
    assert future.result() == (7.0, 7.0)
    with pytest.raises(sky.WorkerCrashedError):
        die_by(signal.SIGKILL).with_retries(0) >> one
    assert (early.result() == 3.0).all()


@pytest.mark.rule("R36")
@pytest.mark.rule("R20")
def test_node_that_dies_with_large_arguments_loses_none(provider: sky.Local, tmp_path: Path) -> None:
    """They run again on its successor, and results of the dead node stay readable."""
    with sky.Compute(provider, nodes=1) as pool:
        before = ones(MIB, 3.0) >> pool
        unread = ones(MIB, 4.0) > pool
        until(unread.done)
        future = hold_array(np.full(MIB, 7.0), str(tmp_path), "x") > pool
        runs(tmp_path, "x")
        os.kill(daemon_of(pool), signal.SIGKILL)
        let_go(tmp_path, "x")
        assert future.result() == (7.0, 7.0)
        assert (before == 3).all()
        assert (unread.result() == 4).all()


@pytest.mark.rule("F31")
def test_result_over_the_cap_is_told() -> None:
    """Wherever it would have lain, with its size and the option to change (F31)."""
    for transport in ("ipc", "tcp"):
        with sky.Compute(provider=sky.Local(transport=transport), nodes=1, max_payload=2 * MIB) as pool:
            with pytest.raises(sky.ResultTooLargeError, match=r"max_payload"):
                ones(4 * MIB // 8, 1.0) >> pool
            assert (ones(MIB // 8, 1.0) >> pool).all()
            with pytest.raises(sky.SerializationError, match="max_payload"):
                echo(np.ones(MIB)) >> pool


@pytest.mark.rule("R20")
def test_hundred_megabytes_over_tcp_do_not_lose_the_node() -> None:
    """Heartbeats go on while a large frame is under way, in both directions."""
    with sky.Compute(provider=sky.Local(transport="tcp"), nodes=1, retries=0, heartbeat=0.5) as pool:
        value = np.ones(100 * MIB // 8)
        assert (echo(value) >> pool).all()
        assert pool.snapshot().nodes[0].rank == 0


@pytest.mark.rule("R21")
@pytest.mark.slow
def test_result_of_more_pieces_than_a_link_queues_arrives() -> None:
    """1.5 GB over TCP: what does not fit the link waits, and the connection is kept."""
    with sky.Compute(provider=sky.Local(transport="tcp"), nodes=1, retries=0) as pool:
        assert (ones(1536 * MIB // 8, 1.0) >> pool).all()


CLIENT = """
import sys, numpy as np, skyward as sky
from tests.rules.work import echo
if __name__ == "__main__":
    pool = sky.Compute(nodes=1).open()
    results = [echo(np.ones(1_000_000)) >> pool for _ in range(20)]
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.rule("R30")
@pytest.mark.rule("R20")
def test_killed_client_leaves_no_shared_memory(tmp_path: Path) -> None:
    """Arenas have no names: after ``kill -9`` nothing is there, in /dev/shm or elsewhere."""
    shm = set(os.listdir("/dev/shm"))
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        assert holders()
        client.kill()
    until(lambda: not holders())
    assert set(os.listdir("/dev/shm")) <= shm


def holders() -> list[str]:
    """Return the processes, other than this one, that have an arena open, by their command lines."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*"):
        if entry.name == str(os.getpid()):
            continue
        try:
            links = [os.readlink(fd) for fd in (entry / "fd").iterdir()]
            environ = (entry / "environ").read_bytes()
        except OSError:
            continue
        if any("skyward-arena" in link for link in links) and os.environ[leaks.MARK].encode() in environ:
            found.append(entry.name)
    return found


@pytest.mark.rule("R30")
def test_closed_pool_has_no_arena_open() -> None:
    """Apart from what results that the user still holds need: one descriptor each."""
    with sky.Compute(nodes=1) as pool:
        result = echo(np.ones(MIB)) >> pool
        echo(np.ones(MIB)) >> pool
    arenas = [fd for fd in Path("/proc/self/fd").iterdir() if "skyward-arena" in _target(fd)]
    assert len(arenas) <= 2  # the file, and the mapping's own descriptor
    assert (result == 1).all()
    del result
    assert not [fd for fd in Path("/proc/self/fd").iterdir() if "skyward-arena" in _target(fd)]


def _target(fd: Path) -> str:
    try:
        return os.readlink(fd)
    except OSError:
        return ""
