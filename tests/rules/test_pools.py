"""The life of pools and nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

import skyward as sky
from tests.rules.work import add, echo, hold, let_go, meet, note, place, runs, until


def script(source: str, *, cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a Python program that uses skyward."""
    path = cwd / "script.py"
    path.write_text(source)
    return subprocess.Popen(
        [sys.executable, str(path)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (env or {}),
    )


def daemons(pool: sky.Compute) -> list[psutil.Process]:
    """Return the processes of the nodes, by rank."""
    return [psutil.Process(node.pid) for node in pool.snapshot().nodes]


def family(pool: sky.Compute) -> list[psutil.Process]:
    """Return all processes of a pool."""
    return [process for daemon in daemons(pool) for process in (daemon, *daemon.children(recursive=True))]


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
def test_killed_client_leaves_nothing(tmp_path: Path) -> None:
    """Daemons and workers end by themselves within two seconds, and their directory is gone."""
    (tmp_path / "tmp").mkdir()
    process = script(
        "import os, sys, time\nimport skyward as sky\n"
        "with sky.Compute(nodes=2) as pool:\n"
        "    print(*[node.pid for node in pool.snapshot().nodes], *sky.function(os.getpid)() @ pool, flush=True)\n"
        "    sky.function(time.sleep)(3600) @ pool\n",
        cwd=tmp_path,
        env={"TMPDIR": str(tmp_path / "tmp")},
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(set(pids)) == 4
    process.kill()
    process.communicate()
    until(lambda: not any(_alive(pid) for pid in pids), timeout=10)
    until(lambda: not list((tmp_path / "tmp").iterdir()), timeout=10)


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
        sky.Options(retires=3)  # type: ignore[call-arg]


@pytest.mark.rule("R32")
def test_processes_can_be_used_once() -> None:
    """Without reuse each task has a process of its own."""
    with sky.Compute(nodes=1, reuse_processes=False) as pool:
        pids = [pid for _, pid, _ in sky.gather(*[place(i) for i in range(5)]) >> pool]
        assert len(set(pids)) == 5


@pytest.mark.rule("R33")
@pytest.mark.parametrize(
    ("nodes", "kind"),
    [
        (0, ValueError),
        ((3, 2), ValueError),
        ("4", TypeError),
        (2.5, TypeError),
        (True, TypeError),
        ((1, 2, 3), TypeError),
    ],
)
def test_bad_numbers_of_nodes_are_told(nodes: Any, kind: type[Exception]) -> None:
    """Bounds are checked before anything starts."""
    with pytest.raises(kind, match=r"nodes|node"):
        sky.Compute(nodes=nodes)


@pytest.mark.rule("R33")
def test_nodes_form_says_min_desired_and_max() -> None:
    """A number, a pair, or `Nodes`."""
    assert sky.Nodes(2) == sky.Nodes(2, 2, 2)
    with pytest.raises(ValueError, match="min"):
        sky.Nodes(desired=1, min=2, max=3)
    with sky.Compute(nodes=sky.Nodes(desired=2, min=1, max=3)) as pool:
        until(lambda: pool.current_nodes() == 2)
        assert pool.snapshot().active


@pytest.mark.rule("R33")
def test_pool_is_resized(pool: sky.Compute, tmp_path: Path) -> None:
    """Up beyond the old max and down again; at once, and without losing what runs."""
    running = hold(str(tmp_path), "a").on(1) > pool
    runs(tmp_path, "a")
    pool.resize(4)
    until(lambda: pool.current_nodes() == 4)
    assert [node for _, _, node in sky.gather(*[place(i).on(i) for i in (0, 2, 3)]) >> pool] == [0, 2, 3]
    pool.resize(1)
    until(lambda: pool.current_nodes() == 1)
    let_go(tmp_path, "a")
    assert running.result() == "a"
    until(lambda: len(pool.snapshot().nodes) == 1)
    assert [node.rank for node in pool.snapshot().nodes] == [0]
    assert (place(7) >> pool)[0::2] == (7, 0)
    with pytest.raises(TypeError):
        pool.resize("2")  # type: ignore[arg-type]


@pytest.mark.rule("R51")
@pytest.mark.rule("F7")
def test_lost_node_is_replaced_and_its_tasks_move(pool: sky.Compute, tmp_path: Path) -> None:
    """The unfinished task runs again elsewhere, once; the replacement has the free rank."""

    @sky.function
    def work(directory: str, name: str) -> tuple[str, int]:
        note.local(directory, f"{name}-times")
        return hold.local(directory, name), os.getpid()

    first = work(str(tmp_path), "a") > pool
    runs(tmp_path, "a")
    busy = next(node for node in pool.snapshot().nodes if node.in_flight)
    (tmp_path / "a-runs").unlink()
    os.kill(busy.pid, signal.SIGKILL)
    runs(tmp_path, "a")
    let_go(tmp_path, "a")
    assert first.result()[0] == "a"
    assert (tmp_path / "a-times").read_text() == "xx"
    until(lambda: pool.current_nodes() == 2)
    ranks = {node.rank: node.pid for node in pool.snapshot().nodes}
    assert set(ranks) == {0, 1}
    assert ranks[busy.rank] != busy.pid
    assert [node for _, _, node in place() @ pool] == [0, 1]
    assert pool.snapshot().rerun == 1


@pytest.mark.rule("R36")
def test_lost_task_that_may_not_move_is_told(pool: sky.Compute, tmp_path: Path) -> None:
    """With ``retries=0``, with ``.on``, and in a broadcast, whose other results are kept."""
    pinned = hold(str(tmp_path), "a").on(1) > pool
    runs(tmp_path, "a")
    single = hold(str(tmp_path), "b").with_retries(0) > pool
    runs(tmp_path, "b")
    for node in pool.snapshot().nodes:
        os.kill(node.pid, signal.SIGKILL)
    for future in (pinned, single):
        with pytest.raises(sky.NodeLostError, match=r"node \d was lost"):
            future.result()
    until(lambda: pool.current_nodes() == 2)

    @sky.function
    def die_on(rank: int) -> int:
        info = sky.instance_info()
        assert info is not None
        if info.node == rank:
            os.kill(os.getppid(), signal.SIGKILL)  # the template: the node is lost with it
            signal.pause()
        return info.node

    with pytest.raises(sky.BroadcastError) as caught:
        die_on(1) @ pool
    assert caught.value.results[0] == 0
    assert isinstance(caught.value.results[1], sky.NodeLostError)


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
    os.kill(busy.pid, signal.SIGSTOP)
    runs(tmp_path, "a")
    let_go(tmp_path, "a")
    assert held.result() == "a"
    until(lambda: pool.current_nodes() == 2)


@pytest.mark.rule("R51")
def test_shrinking_takes_the_highest_ranks() -> None:
    """Rank 0 stays."""
    with sky.Compute(nodes=3) as pool:
        pool.resize(2)
        until(lambda: len(pool.snapshot().nodes) == 2)
        assert [node for _, _, node in place() @ pool] == [0, 1]


@pytest.mark.rule("R51")
def test_no_node_left_is_told_with_the_causes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls wait for a node no longer than `node_wait`."""
    from skyward.errors import ProvisionError
    from skyward.providers.local import Local

    broken = threading.Event()

    class Broken(Local):
        def launch(self, *args: Any, **options: Any) -> Any:
            if broken.is_set():
                raise ProvisionError("the machine is on fire")
            return super().launch(*args, **options)

    with sky.Compute(Broken(), nodes=1, node_wait=1.0) as pool:
        assert add(1, 2) >> pool == 3
        broken.set()
        os.kill(pool.snapshot().nodes[0].pid, signal.SIGKILL)
        until(lambda: pool.current_nodes() == 0)
        with pytest.raises(sky.NoNodesError, match="the machine is on fire"):
            add(1, 2) >> pool
        broken.clear()
        until(lambda: pool.current_nodes() == 1)
        assert add(1, 2) >> pool == 3


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


@pytest.mark.rule("R52")
def test_no_signal_handler_stays(tmp_path: Path) -> None:
    """Handlers are the user's before, between and after; a user's own handler is called."""
    seen: list[int] = []

    def handler(number: int, _frame: Any) -> None:
        seen.append(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)}
    old = signal.signal(signal.SIGUSR1, handler)
    try:
        with sky.Compute(nodes=1) as pool:
            during = {number: signal.getsignal(number) for number in before}
            timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            assert echo(1) >> pool == 1
            future = hold(str(tmp_path), "a") > pool
            threading.Timer(0.2, let_go, (tmp_path, "a")).start()
            assert future.result() == "a"
        assert seen == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is handler
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert before == during == {number: signal.getsignal(number) for number in before}


@pytest.mark.rule("R52")
def test_pool_works_off_the_main_thread() -> None:
    """Opened, used and closed in a thread of its own."""
    results: list[Any] = []

    def work() -> None:
        with sky.Compute(nodes=2) as pool:
            results.append(sky.gather(*[add(i, i) for i in range(10)]) >> pool)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert results == [tuple(2 * i for i in range(10))]


@pytest.mark.rule("R52")
def test_nodes_are_in_sessions_of_their_own(pool: sky.Compute) -> None:
    """So that Ctrl-C in the terminal reaches the client only."""
    mine = os.getsid(0)
    assert {os.getsid(process.pid) for process in family(pool)}.isdisjoint({mine})


@pytest.mark.rule("R29")
@pytest.mark.rule("F2")
def test_interrupt_cancels_what_its_thread_waits_on(pool: sky.Compute, tmp_path: Path) -> None:
    """It surfaces soon, loses no other result, and leaves the pool usable."""
    other: list[Any] = []

    def gather_all() -> None:
        other.extend(sky.gather(*[add(i, 1) for i in range(300)]) >> pool)

    def wait_for(kind: str) -> Any:
        call = hold(str(tmp_path), kind).on(0)
        match kind:
            case "call":
                return call >> pool
            case "group":
                return sky.gather(call, hold(str(tmp_path), "x").on(0)) >> pool
            case "stream":
                return list(sky.gather(call, stream=True) >> pool)
            case "future":
                return (call > pool).result()
            case _:
                return list(pool.map(lambda name: hold.local(str(tmp_path), name), [kind]))

    for kind in ("call", "group", "stream", "future", "map"):
        other.clear()
        thread = threading.Thread(target=gather_all)

        def interrupt(kind: str = kind) -> None:
            runs(tmp_path, kind)
            os.kill(os.getpid(), signal.SIGINT)

        sender = threading.Thread(target=interrupt)
        sender.start()
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            wait_for(kind)
        sender.join()
        thread.join(60)
        assert other == [i + 1 for i in range(300)]
        until(lambda: pool.snapshot().in_flight == 0)
        assert not (tmp_path / f"{kind}-done").exists()
    assert [(place(i) >> pool)[0] for i in range(4)] == [0, 1, 2, 3]


@pytest.mark.rule("R30")
def test_interrupt_while_opening_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C during `open` ends the program, and all that was started."""
    (tmp_path / "tmp").mkdir()
    process = script(
        "import os, signal, threading\nimport skyward as sky\n"
        "threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n    pool = sky.Compute(nodes=8).open()\n"
        "    import time; time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n",
        cwd=tmp_path,
        env={"TMPDIR": str(tmp_path / "tmp"), "SKYWARD_TEST_MARK": str(tmp_path)},
    )
    out, err = process.communicate(timeout=60)
    assert out.strip() == "interrupted", err
    until(lambda: not list((tmp_path / "tmp").iterdir()))


@pytest.mark.rule("R15")
@pytest.mark.rule("R30")
def test_pool_is_an_async_context_manager() -> None:
    """Opening and closing let the event loop run."""
    import asyncio

    async def main() -> tuple[int, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.ensure_future(tick())
        async with sky.Compute(nodes=1) as pool:
            assert ticks > 10
            value = await (add(1, 2) > pool)
            assert await (add(2, 2) > sky) == 4
        ticker.cancel()
        return value, ticks

    assert asyncio.run(main())[0] == 3


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
