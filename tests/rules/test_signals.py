"""What a pool does about signals and threads of the client: nothing that lasts (R52)."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.processes import family, pid_of
from tests.rules.work import BUSY, LONG, add, hold, let_go, place, runs, until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

SOON = 1.0 * BUSY  # seconds within which a handler must run
ALL = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put the handlers of user signals back."""
    saved = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)}
    yield
    for number, handler in saved.items():
        signal.signal(number, handler)


def standing() -> list[Any]:
    """Return the handlers of all signals."""
    return [signal.getsignal(number) for number in ALL]


@pytest.mark.rule("R52")
def test_handlers_are_the_users_at_every_stage(tmp_path: Path) -> None:
    """Before, in and after the block; after calls, errors, streams, and in a callback."""
    before = standing()
    masks = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    seen: list[list[Any]] = []
    with sky.Compute(nodes=2) as pool:
        seen.append(standing())
        assert [value for value, _, _ in place(1) @ pool] == [1, 1]
        seen.append(standing())
        for _ in sky.gather(*[add(i) for i in range(10)], stream=True) >> pool:
            seen.append(standing())  # noqa: PERF401 - between two results
        with pytest.raises(TimeoutError):
            (hold(str(tmp_path), "a") > pool).result(timeout=0.1)
        seen.append(standing())
        pool.close(cancel=True)
    seen.append(standing())
    assert all(handlers == before for handlers in seen)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == masks
    assert signal.set_wakeup_fd(-1) == -1


@contextmanager
def struck_by(handler: Callable[[int, Any], None], directory: Path) -> Generator[None]:
    """Have a signal with this handler strike when the task "a" runs."""
    signal.signal(signal.SIGUSR1, handler)

    def send() -> None:
        runs(directory, "a")
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.mark.rule("R52")
@pytest.mark.usefixtures("handlers")
def test_users_handler_runs_while_the_main_thread_waits(pool: sky.Compute, tmp_path: Path) -> None:
    """In the main thread, soon, once for each signal; the wait goes on, and its result arrives."""
    seen: list[tuple[int, str, float]] = []

    def handler(number: int, _frame: Any) -> None:
        seen.append((number, threading.current_thread().name, time.monotonic()))

    signal.signal(signal.SIGUSR1, handler)
    signal.signal(signal.SIGUSR2, handler)
    sent: list[float] = []

    def send() -> None:
        runs(tmp_path, "a")
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            sent.append(time.monotonic())
            os.kill(os.getpid(), number)
            until(lambda: len(seen) == len(sent))
        let_go(tmp_path, "a")

    thread = threading.Thread(target=send)
    thread.start()
    assert hold(str(tmp_path), "a") >> pool == "a"
    thread.join()
    assert [(number, name) for number, name, _ in seen] == [
        (signal.SIGUSR1, "MainThread"),
        (signal.SIGUSR2, "MainThread"),
    ]
    assert all(came - went < SOON for (_, _, came), went in zip(seen, sent, strict=True))
    assert signal.getsignal(signal.SIGUSR1) is handler


@pytest.mark.rule("R52")
@pytest.mark.usefixtures("handlers")
def test_users_handler_may_raise_and_may_use_the_pool(pool: sky.Compute, tmp_path: Path) -> None:
    """What it raises ends the wait; a pool that is used in a handler answers."""

    class Alarm(Exception):
        pass

    def use(_number: int, _frame: Any) -> None:
        raise Alarm(add(20, 3) >> pool)

    with struck_by(use, tmp_path), pytest.raises(Alarm, match="23"):
        hold(str(tmp_path), "a") >> pool
    assert [value for value, _, _ in place(1) @ pool] == [1, 1]
    assert not (tmp_path / "a-done").exists()


@pytest.mark.rule("R52")
@pytest.mark.usefixtures("handlers")
def test_what_a_handler_raises_ends_a_map_and_is_no_outcome(pool: sky.Compute, tmp_path: Path) -> None:
    """The chunk that was waited for is cancelled, as with Ctrl-C, and no item is said to have failed."""

    def expire(_number: int, _frame: Any) -> None:
        raise TimeoutError("too long")

    results = pool.map(hold.local, [str(tmp_path)], ["a"])
    with struck_by(expire, tmp_path), pytest.raises(TimeoutError, match="too long"):
        next(results)
    assert list(results) == []
    until(lambda: pool.snapshot().in_flight == 0)
    assert not (tmp_path / "a-done").exists()


@pytest.mark.rule("R52")
def test_every_part_of_a_pools_life_works_in_any_thread(tmp_path: Path) -> None:
    """Opened in one, used in others, closed in another, while the main thread only waits for them."""
    pools: list[sky.Compute] = []
    results: list[Any] = []

    def in_thread(work: Any) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(LONG)
        assert not thread.is_alive()

    in_thread(lambda: pools.append(sky.Compute(nodes=2).open()))
    (pool,) = pools
    users = [threading.Thread(target=lambda i=i: results.append(place(i) >> pool)) for i in range(8)]
    for user in users:
        user.start()
    for user in users:
        user.join(LONG)
    assert sorted(value for value, _, _ in results) == list(range(8))
    in_thread(lambda: results.append(place(9) @ pool))
    assert {rank for _, _, rank in results[-1]} == {0, 1}
    in_thread(pool.close)
    assert not pool.is_active


@pytest.mark.rule("R52")
def test_every_node_has_a_session_of_its_own(pool: sky.Compute) -> None:
    """Daemons lead one each, and so do workers: no terminal, and no group of the client's."""
    processes = family(pool)
    place(1) @ pool
    nodes = {pid_of(node) for node in pool.snapshot().nodes}
    assert {os.getsid(pid) for pid in nodes} == nodes
    assert {os.getsid(process.pid) for process in processes}.isdisjoint({os.getsid(0)})
    assert {os.getpgid(process.pid) for process in processes}.isdisjoint({os.getpgid(0)})

    @sky.function
    def alone(value: int) -> tuple[int, bool, bool]:
        return value, os.getsid(0) == os.getpid(), os.isatty(0)

    assert alone(2) @ pool == [(2, True, False)] * 2


@pytest.mark.rule("R52")
def test_tasks_have_the_signals_of_a_plain_program(pool: sky.Compute) -> None:
    """Defaults, none blocked; a task may set its own."""

    @sky.function
    def inside(value: int) -> Any:
        heard: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
        os.kill(os.getpid(), signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        defaults = [signal.getsignal(number) == signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGHUP)]
        return value, heard, len(blocked), defaults

    assert inside(3) @ pool == [(3, [signal.SIGUSR1], 0, [True, True])] * 2
