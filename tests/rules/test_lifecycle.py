"""How pools begin and end, in every way (R30)."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.errors import ProvisionError
from tests.rules.processes import GONE, ended, family, script
from tests.rules.providers import Gate
from tests.rules.work import LONG, add, echo, hold, let_go, place, runs, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD = "import os, sys, time, threading, signal\nimport skyward as sky\n"
PIDS = (
    "def tell(pool):\n"
    "    print(*[n.pid for n in pool.snapshot().nodes], *sky.function(os.getpid)() @ pool, flush=True)\n"
)


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """Return a directory for the temporary files of a program, and check that none is left soon after its end."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    yield directory
    until(lambda: os.listdir(directory) == [], timeout=GONE)


@pytest.mark.rule("R30")
def test_leaving_waits_for_every_kind_of_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Futures of calls and of groups, and streams that nobody has consumed yet; no process is left."""
    with sky.Compute(nodes=2) as pool:
        close = pool.close

        def let_go_and_close(*, cancel: bool) -> None:
            let_go(tmp_path, "a")
            close(cancel=cancel)

        monkeypatch.setattr(pool, "close", let_go_and_close)
        single = hold(str(tmp_path), "a") > pool
        group = sky.gather(*[place(i) for i in range(10)]) > pool
        stream = sky.gather(*[add(i, 1) for i in range(10)], stream=True) >> pool
        processes = family(pool)
        runs(tmp_path, "a")
    assert single.done()
    assert single.result() == "a"
    assert [value for value, _, _ in group.result()] == list(range(10))
    assert list(stream) == list(range(1, 11))
    assert not any(process.is_running() for process in processes)
    assert not pool.is_active


def submitted(pool: sky.Compute) -> int:
    """Return how many calls have not ended."""
    stands = pool.snapshot()
    return stands.in_flight + stands.queued


@pytest.mark.rule("R30")
def test_close_by_force_ends_whatever_waits(tmp_path: Path) -> None:
    """Threads that wait for calls, groups and futures are told; running tasks are stopped."""
    pool = sky.Compute(nodes=2).open()
    raised: dict[str, BaseException] = {}

    def wait(name: str, work: Any) -> None:
        try:
            work()
        except BaseException as error:  # the test is about these
            raised[name] = error

    works: dict[str, Any] = {
        "call": lambda: hold(str(tmp_path), "call") >> pool,
        "group": lambda: sky.gather(*[hold(str(tmp_path), f"group{i}") for i in range(2)]) >> pool,
        "future": lambda: pool.run_async(hold(str(tmp_path), "queued")).result(),
        "stream": lambda: list(sky.gather(hold(str(tmp_path), "streamed"), stream=True) >> pool),
        "broadcast": lambda: hold(str(tmp_path), "all") @ pool,
        "map": lambda: list(pool.map(lambda i: hold.local(str(tmp_path), f"map{i}"), range(3))),
    }
    threads = [threading.Thread(target=wait, args=item) for item in works.items()]
    for thread in threads:
        thread.start()
    until(lambda: submitted(pool) == 10)  # one each, and one more of the group, one of the broadcast, two of the map
    processes = family(pool)
    pool.close(cancel=True)
    for thread in threads:
        thread.join(LONG)
    assert {name: type(error) for name, error in raised.items()} == {
        name: CancelledError if name == "future" else sky.PoolClosedError for name in works
    }
    assert not list(tmp_path.glob("*-done"))
    assert not any(process.is_running() for process in processes)


@pytest.mark.rule("R30")
def test_every_use_after_the_end_is_refused() -> None:
    """By a `PoolClosedError`, which is a `RuntimeError`; what still can be asked is answered."""
    with sky.Compute(nodes=1) as pool:
        assert add(1, 2) >> pool == 3
    uses: list[Any] = [
        lambda: add(1, 2) >> pool,
        lambda: add(1, 2) > pool,
        lambda: add(1, 2) @ pool,
        lambda: sky.gather(add(1, 2)) >> pool,
        lambda: sky.gather(add(1, 2), stream=True) >> pool,
        lambda: pool.map(add, [1]),
        lambda: pool.resize(2),
        pool.snapshot,
        pool.open,
    ]
    for use in uses:
        with pytest.raises(sky.PoolClosedError) as caught:
            use()
        assert isinstance(caught.value, RuntimeError)
    assert (pool.is_active, pool.current_nodes(), pool.concurrency) == (False, 0, 1)
    assert repr(pool) == "<sky.Compute on local, closed>"


@pytest.mark.rule("R30")
def test_open_that_fails_leaves_nothing() -> None:
    """Its error says why; nodes that did start are ended, and the pool is no active one."""
    from skyward.providers.local import Local

    started: list[int | None] = []

    class Halfway(Local):
        def launch(self, spec: Any, index: int, cancelled: threading.Event) -> Any:
            if index:
                until(lambda: started)
                raise ProvisionError("no more room")
            launched = super().launch(spec, index, cancelled)
            started.append(launched.pid)
            return launched

    with pytest.raises(ProvisionError, match="no more room"), sky.Compute(Halfway(), nodes=2):
        pytest.fail("it has opened")
    assert started[0] is not None
    assert not Path(f"/proc/{started[0]}").exists()
    with pytest.raises(RuntimeError, match="no active pool"):
        add(1, 2) >> sky


@pytest.mark.rule("R30")
def test_bad_provider_is_told() -> None:
    """A name that no mesh has, a class in place of an instance, and anything else."""
    with pytest.raises(sky.UnknownMeshError, match="mesh 'office'"):
        sky.Compute("office")
    with pytest.raises(TypeError, match=r"sky\.Local\(\)"):
        sky.Compute(sky.Local)  # type: ignore[arg-type]  # that is the mistake
    with pytest.raises(TypeError, match="provider"):
        sky.Compute(3)  # type: ignore[arg-type]  # that is the mistake


@pytest.mark.rule("R30")
@pytest.mark.parametrize("ending", ["raise ValueError", "sys.exit(3)", "os.kill(os.getpid(), signal.SIGINT)"])
def test_error_in_the_block_ends_everything(tmp_path: Path, temporary: Path, ending: str) -> None:
    """By an exception, by `sys.exit`, by an interrupt: the program ends soon, and nothing is left."""
    process = script(
        f"{HEAD}{PIDS}with sky.Compute(nodes=2) as pool:\n    tell(pool)\n"
        "    future = sky.function(time.sleep)(3600) > pool\n"
        f"    {ending}\n    time.sleep(3600)\n",
        cwd=tmp_path,
        env={"TMPDIR": str(temporary)},
    )
    out, err = process.communicate(timeout=60)
    pids = [int(pid) for pid in out.split()]
    assert len(set(pids)) == 4
    assert ended(pids, 0.0)
    expected = {"raise ValueError": 1, "sys.exit(3)": 3}
    assert process.returncode == expected.get(ending, -signal.SIGINT), err


@pytest.mark.rule("R30")
@pytest.mark.rule("F6")
@pytest.mark.parametrize("work", ["future", "thread", "none"])
def test_interpreter_exit_is_quick_and_clean(tmp_path: Path, temporary: Path, work: str) -> None:
    """With work under way it warns; with none it says nothing; within two seconds it is over."""
    lines = {
        "future": "future = sky.function(time.sleep)(3600) > pool\n",
        "thread": (
            "def wait():\n    try:\n        sky.function(time.sleep)(3600) >> pool\n"
            "    except sky.PoolClosedError:\n        print('told', flush=True)\n"
            "threading.Thread(target=wait, daemon=True).start()\n"
            "while not pool.snapshot().in_flight:\n    time.sleep(0.01)\n"
        ),
        "none": "",
    }
    process = script(
        f"{HEAD}{PIDS}pool = sky.Compute(nodes=2).open()\ntell(pool)\n{lines[work]}print('end', flush=True)\n",
        cwd=tmp_path,
        env={"TMPDIR": str(temporary)},
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert process.stdout.readline() == "end\n"
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < GONE
    assert (process.returncode, "still open at exit" in err) == (0, work != "none"), err
    assert len(set(pids)) == 4
    assert ended(pids, 0.0)


@pytest.mark.rule("R30")
@pytest.mark.rule("F1")
def test_killed_client_takes_its_workers_and_their_children_along(tmp_path: Path, temporary: Path) -> None:
    """Two seconds after `kill -9` of the client while tasks run, no process of the pool is left."""
    process = script(
        f"{HEAD}import subprocess\n"
        "@sky.function\ndef work(seconds):\n"
        "    child = subprocess.Popen(['sleep', str(seconds)])\n"
        "    with open(f'{os.getpid()}.pids', 'w') as file:\n"
        "        file.write(f'{os.getppid()} {os.getpid()} {child.pid}')\n"
        "    os.rename(f'{os.getpid()}.pids', f'{os.getpid()}.told')\n"
        "    time.sleep(seconds)\n"
        "with sky.Compute(nodes=2) as pool:\n    work(3600) @ pool\n",
        cwd=tmp_path,
        env={"TMPDIR": str(temporary)},
    )
    until(lambda: len(list(tmp_path.glob("*.told"))) == 2)
    pids = [int(pid) for file in tmp_path.glob("*.told") for pid in file.read_text().split()]
    assert len(set(pids)) == 6
    process.kill()
    assert ended(pids)
    process.communicate()


@pytest.mark.rule("F5")
@pytest.mark.rule("R30")
def test_forked_child_of_the_client_harms_nobody(pool: sky.Compute) -> None:
    """It is refused at each use, and its end, clean or not, leaves the parent's nodes and tasks alone."""
    future = echo("kept") > pool
    leaving: list[Callable[[], object]] = [
        pool.close,
        lambda: pool.close(cancel=True),
        lambda: os.kill(os.getpid(), signal.SIGKILL),
    ]
    for leave in leaving:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for use in (lambda: add(1, 2) >> pool, lambda: add(1, 2) @ pool, pool.snapshot):
                    with pytest.raises(sky.ForkedPoolError) as caught:
                        use()
                    os.write(write, f"{caught.value}\n".encode())
                leave()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(write)
        with os.fdopen(read) as said:
            assert ["open a pool of your own" in line for line in said] == [True] * 3
    assert future.result() == "kept"
    assert len({pid for _, pid, _ in place(1) @ pool}) == 2


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


@pytest.mark.rule("R30")
@pytest.mark.parametrize("late", [False, True])
def test_opening_that_is_not_awaited_any_more_is_undone(late: bool) -> None:
    """Nothing runs when the cancelled `async with` has been left, wherever the opening had come to."""
    import asyncio

    gate = Gate(free=1)
    pool = sky.Compute(gate, nodes=2)

    async def enter() -> None:
        async with pool:
            pytest.fail("it cannot have opened")

    async def main() -> None:
        entering = asyncio.ensure_future(enter())
        await asyncio.to_thread(gate.waiting.acquire)
        await asyncio.to_thread(until, lambda: pool._engine is not None)  # nodes start before the rest of the pool
        entering.cancel()
        if late:
            gate.opened.set()
        await entering

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert not pool.is_active
    with pytest.raises(ProvisionError):
        gate.prepare()  # the provider is closed


@pytest.mark.rule("R30")
def test_pool_that_is_closed_while_it_opens_is_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first nodes have been started then, and are ended."""
    make = sky.Compute._make_engine

    def close_before(pool: sky.Compute, *arguments: Any) -> Any:
        pool.close(cancel=True)
        return make(pool, *arguments)

    monkeypatch.setattr(sky.Compute, "_make_engine", close_before)
    pool = sky.Compute(nodes=1)
    with pytest.raises(sky.PoolClosedError, match="closed while it opened"):
        pool.open()
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
