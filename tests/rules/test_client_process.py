"""What a pool does to the process that opened it: signals, threads, event loops."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.processes import family, script
from tests.rules.work import add, echo, hold, let_go, place, runs, until

if TYPE_CHECKING:
    from pathlib import Path


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
def test_interrupt_while_opening_leaves_nothing(tmp_path: Path, short_path: Path) -> None:
    """Ctrl-C during `open` ends the program, and all that was started."""
    process = script(
        "import os, signal, threading\nimport skyward as sky\n"
        "threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n    pool = sky.Compute(nodes=8).open()\n"
        "    import time; time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n",
        cwd=tmp_path,
        env={"TMPDIR": str(short_path), "SKYWARD_TEST_MARK": str(tmp_path)},
    )
    out, err = process.communicate(timeout=60)
    assert out.strip() == "interrupted", err
    until(lambda: not list(short_path.iterdir()))


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
