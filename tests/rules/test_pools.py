"""The life of pools and nodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

import skyward as sky
from tests.rules.processes import daemons, family, script
from tests.rules.work import add, hold, meet, place, runs, until


@pytest.mark.rule("R30")
def test_leaving_waits_for_futures_and_leaves_nothing(tmp_path: Path) -> None:
    """The pool's futures have results afterwards, and its processes are gone."""
    with sky.Compute(nodes=2) as pool:
        futures = [place(i) > pool for i in range(20)]
        processes = family(pool)
    assert [future.result()[0] for future in futures] == list(range(20))
    assert len({future.result()[1] for future in futures}) == 2
    assert not any(process.is_running() for process in processes)
    assert not pool.is_active


@pytest.mark.rule("R30")
def test_exception_cancels_what_is_left(tmp_path: Path) -> None:
    """Futures are cancelled, streams and any later use raise `PoolClosedError`."""
    from concurrent.futures import CancelledError

    with pytest.raises(ZeroDivisionError), sky.Compute(nodes=1) as pool:
        future = hold(str(tmp_path), "a") > pool
        stream = sky.gather(hold(str(tmp_path), "b"), stream=True) >> pool
        runs(tmp_path, "a")
        raise ZeroDivisionError
    with pytest.raises(CancelledError):
        future.result()  # pyright: ignore[reportPossiblyUnboundVariable]  # what was raised was raised after it
    with pytest.raises(sky.PoolClosedError):
        next(stream)  # pyright: ignore[reportPossiblyUnboundVariable]  # the same
    with pytest.raises(sky.PoolClosedError, match="closed") as caught:
        add(1, 2) >> pool
    assert isinstance(caught.value, RuntimeError)
    assert not (tmp_path / "a-done").exists()


@pytest.mark.rule("R30")
def test_pool_works_without_a_with_block(tmp_path: Path) -> None:
    """`open` and `close`, also by force and twice; before `open` and after `close` it says so."""
    pool = sky.Compute(nodes=1)
    with pytest.raises(sky.PoolClosedError, match="not open"):
        add(1, 2) >> pool
    assert pool.open() is pool
    assert pool.is_active
    assert add(1, 2) >> pool == 3
    future = hold(str(tmp_path), "a") > pool
    runs(tmp_path, "a")
    pool.close(cancel=True)
    pool.close()
    assert future.cancelled()
    with pytest.raises(sky.PoolClosedError):
        pool.open()


@pytest.mark.rule("R30")
@pytest.mark.rule("F6")
def test_interpreter_exit_ends_an_open_pool(tmp_path: Path) -> None:
    """The program exits, says what it has cancelled, and leaves nothing."""
    process = script(
        "import skyward as sky, time\n"
        "pool = sky.Compute(nodes=1).open()\n"
        "print(pool.snapshot().nodes[0].pid, flush=True)\n"
        "future = sky.function(time.sleep)(3600) > pool\n",
        cwd=tmp_path,
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "still open at exit" in err
    assert not Path(f"/proc/{out.strip()}").exists()


@pytest.mark.rule("R30")
@pytest.mark.rule("F1")
def test_killed_client_leaves_nothing(tmp_path: Path, short_path: Path, transport: str) -> None:
    """Daemons and workers end by themselves within two seconds, and their directory is gone."""
    process = script(
        "import os, sys, time\nimport skyward as sky\n"
        "with sky.Compute(nodes=2) as pool:\n"
        "    print(*[node.pid for node in pool.snapshot().nodes], *sky.function(os.getpid)() @ pool, flush=True)\n"
        "    sky.function(time.sleep)(3600) @ pool\n",
        cwd=tmp_path,
        env={"TMPDIR": str(short_path)},
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(set(pids)) == 4
    assert bool(list(short_path.iterdir())) == (transport == "ipc"), "only sockets have a place in the file system"
    process.kill()
    process.communicate()
    until(lambda: not any(_alive(pid) for pid in pids), timeout=10)
    until(lambda: not list(short_path.iterdir()), timeout=10)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.rule("F5")
def test_forked_client_is_told(pool: sky.Compute) -> None:
    """In the child every use is an error; the parent is unaffected."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            add(1, 2) >> pool
        except sky.ForkedPoolError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert b"open a pool of your own" in os.read(read, 1000)
    os.close(read)
    assert add(1, 2) >> pool == 3


@pytest.mark.rule("R31")
def test_nodes_are_daemons_with_workers_below(pool: sky.Compute) -> None:
    """Child processes whose argv names skyward-node, and the workers among their descendants."""
    mine = psutil.Process()
    for rank, daemon in enumerate(daemons(pool)):
        assert daemon.ppid() == mine.pid
        assert any("skyward-node" in part for part in daemon.cmdline())
        assert (place().on(rank) >> pool)[1] in {child.pid for child in daemon.children(recursive=True)}


@pytest.mark.rule("R31")
def test_default_is_one_node_per_usable_cpu() -> None:
    """At most eight, with a slot each."""
    with sky.Compute() as pool:
        assert pool.current_nodes() == min(8, len(os.sched_getaffinity(0)))
        assert pool.concurrency == 1


@pytest.mark.rule("R31")
def test_workers_have_the_surroundings_of_the_client(tmp_path: Path) -> None:
    """Working directory, environment, import path and umask as of open; nothing on stdin; no main script."""
    process = script(
        "import os, sys\nimport skyward as sky\n"
        "print('imported', flush=True)\n"
        "os.environ['BEFORE'] = 'yes'\nos.umask(0o027)\nsys.path.append('/somewhere')\n"
        "@sky.function\n"
        "def look():\n"
        "    old = os.umask(0)\n    os.umask(old)\n"
        "    env = os.environ.get('BEFORE'), os.environ.get('AFTER')\n"
        "    return os.getcwd(), *env, '/somewhere' in sys.path, old, sys.stdin.read()\n"
        "pool = sky.Compute(nodes=2).open()\n"
        "os.environ['AFTER'] = 'yes'\n"
        "print(look() @ pool)\n"
        "pool.close()\n",
        cwd=tmp_path,
    )
    out, err = process.communicate(timeout=60)
    assert out.splitlines() == ["imported", str([(str(tmp_path), "yes", None, True, 0o027, "")] * 2)], err


@pytest.mark.rule("R32")
def test_options_work_by_name_and_as_an_object(tmp_path: Path) -> None:
    """Concurrency, executor, retries; an unknown one is an error that names the nearest."""
    options = sky.Options(worker=sky.Worker(concurrency=3), retries=0)
    with sky.Compute(nodes=1, options=options) as pool:
        met = sky.gather(*[meet(str(tmp_path), str(i), 3) for i in range(3)]) >> pool
        assert len({pid for _, pid in met}) == 3
    with sky.Compute(nodes=1, concurrency=2, executor="thread") as pool:
        (tmp_path / "t").mkdir()
        met = sky.gather(*[meet(str(tmp_path / "t"), str(i), 2) for i in range(2)]) >> pool
        assert len({pid for _, pid in met}) == 1
    with pytest.raises(TypeError, match="did you mean 'retries'"):
        sky.Compute(retires=3)
    with pytest.raises(TypeError):
        sky.Options(retires=3)  # type: ignore[call-arg]  # that is the mistake


@pytest.mark.rule("R32")
def test_processes_can_be_used_once() -> None:
    """Without reuse each task has a process of its own."""
    with sky.Compute(nodes=1, reuse_processes=False) as pool:
        pids = [pid for _, pid, _ in sky.gather(*[place(i) for i in range(5)]) >> pool]
        assert len(set(pids)) == 5


@pytest.mark.ipc_only("ports need no temporary directory")
@pytest.mark.rule("R51")
def test_pool_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A socket path that is too long, and a temporary directory that cannot be written, are told with advice."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    source = "import skyward as sky\nwith sky.Compute(nodes=1) as pool:\n    print(sky.function(abs)(-1) >> pool)\n"
    process = script(source, cwd=tmp_path, env={"TMPDIR": str(deep)})
    out, err = process.communicate(timeout=60)
    assert out.strip() == "1" or "TMPDIR" in err
    process = script(source, cwd=tmp_path, env={"TMPDIR": "/proc/1"})
    out, err = process.communicate(timeout=60)
    assert out.strip() == "1" or "TMPDIR" in err


@pytest.mark.rule("R15")
def test_map_is_lazy_ordered_and_isolates_errors(pool: sky.Compute) -> None:
    """Plain and marked functions; an item that fails, or kills its worker, is the only one that does."""
    pulled: list[int] = []

    def items() -> Any:
        for i in range(100_000):
            pulled.append(i)
            yield i

    results = pool.map(lambda x: 2 * x, items())
    assert [next(results) for _ in range(100)] == [2 * i for i in range(100)]
    assert len(pulled) < 100_000
    results.close()

    def odd(x: int) -> int:
        if x == 5:
            raise ValueError(f"bad {x}")
        if x == 50:
            os._exit(3)
        return x

    outcomes: list[Any] = []
    results = pool.map(odd, range(100))
    while True:
        try:
            outcomes.append(next(results))
        except StopIteration:
            break
        except Exception as error:  # the test is about these
            outcomes.append(error)
    assert [o for o in outcomes if isinstance(o, int)] == [i for i in range(100) if i not in (5, 50)]
    assert isinstance(outcomes[5], ValueError)
    assert isinstance(outcomes[50], sky.WorkerCrashedError)
    assert list(pool.map(add, [1, 2, 3], [10, 20, 30])) == [11, 22, 33]
    assert len({pid for _, pid, _ in pool.map(place, range(50))}) == 2


def test_repr_is_for_the_log(pool: sky.Compute) -> None:
    """It tells how many nodes are ready."""
    assert repr(pool) == "<sky.Compute on local, 2 of 2 nodes ready>"
