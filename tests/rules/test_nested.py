"""Calls that tasks make to the pool they run in."""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import skyward as sky
from tests.rules.work import add, die_by, fail, fibonacci, hold, let_go, meet, place, runs, until


@pytest.mark.rule("R22")
def test_task_submits_to_its_pool_without_deadlock(pool: sky.Compute, tmp_path: Path) -> None:
    """Recursion far deeper than there are slots ends, on two nodes."""
    assert fibonacci(8) >> pool == 21

    @sky.function
    def spread(directory: str) -> set[int]:
        return {pid for _, pid in (meet(directory, "a", 2) & meet(directory, "b", 2)) >> sky}

    assert len(spread(str(tmp_path)) >> pool) == 2


@pytest.mark.rule("R22")
def test_captured_pool_arrives_as_a_handle(pool: sky.Compute) -> None:
    """As a global, a closure variable or an argument it is the pool the task runs in."""

    @sky.function
    def outer(handle: Any, x: int) -> tuple[Any, ...]:
        future = add(x, 1) > pool
        stream = sky.gather(add(x, 2), add(x, 3), stream=True) >> handle
        return future.result(), list(stream), [node for _, _, node in place() @ handle], list(handle.map(abs, [-x]))

    assert outer(pool, 5) >> pool == (6, [7, 8], [0, 1], [5])


@pytest.mark.rule("R22")
@pytest.mark.parametrize("how", [lambda call, pool: call >> pool, lambda call, pool: (call > pool).result()])
def test_pool_is_captured_by_the_first_call_of_a_function(pool: sky.Compute, how: Any) -> None:
    """Also by one whose arguments are plain, which goes a shorter way."""

    @sky.function
    def outer(x: int) -> int:
        return add(x, 1) >> pool

    assert how(outer(5), pool) == 6


@pytest.mark.rule("R22")
def test_nested_failures_arrive_as_in_the_client(pool: sky.Compute) -> None:
    """The parent can catch its children's exceptions, and what it does not catch is its own."""

    @sky.function
    def outer(catch: bool) -> str:
        try:
            fail(7) >> sky
        except ValueError as error:
            if not catch:
                raise
            return str(error)
        return "no"

    assert outer(True) >> pool == "bad 7"
    with pytest.raises(ValueError, match="bad 7"):
        outer(False) >> pool


@pytest.mark.rule("R22")
def test_nested_calls_work_in_thread_workers(threads: sky.Compute) -> None:
    """Slots are lent there, too."""
    assert fibonacci(6) >> threads == 8


@pytest.mark.rule("R22")
@pytest.mark.parametrize("executor", ["process", "thread"])
def test_threads_in_the_context_of_a_task_call_for_it(executor: Any) -> None:
    """As `asyncio.to_thread` makes them; of another thread it is not known for which of several tasks it works."""

    @sky.function
    async def both(x: int) -> tuple[int, Any]:
        with ThreadPoolExecutor(1) as others:
            other = others.submit(lambda: add(x, 2) >> sky).exception()
        return await asyncio.to_thread(lambda: add(x, 1) >> sky), type(other).__name__ if other else None

    with sky.Compute(nodes=1, executor=executor, concurrency=2) as pool:
        values = sky.gather(*[both(x) for x in range(4)]) >> pool
    assert [value for value, _ in values] == [1, 2, 3, 4]
    assert {other for _, other in values} == {"PoolClosedError" if executor == "thread" else None}


@pytest.mark.rule("R22")
def test_single_thread_is_enough_for_any_depth() -> None:
    """Calls nest far deeper and wider than there are threads."""

    @sky.function
    def deeper(n: int) -> int:
        return 1 + (deeper(n - 1) >> sky) if n else 0

    with sky.Compute(nodes=1, executor="thread") as pool:
        assert deeper(30) >> pool == 30
        assert fibonacci(9) >> pool == 34


@pytest.mark.rule("R26")
@pytest.mark.parametrize("executor", ["process", "thread"])
def test_indexes_of_workers_are_those_of_slots(executor: Any, tmp_path: Path) -> None:
    """Also after calls have nested, and then two tasks that run at once on a node have different ones."""

    @sky.function
    def slot(directory: str, name: str) -> tuple[int, int]:
        meet.local(directory, name, 2)
        info = sky.instance_info()
        assert info is not None
        return info.worker, info.global_worker_index

    with sky.Compute(nodes=1, executor=executor, concurrency=2) as pool:
        assert fibonacci(7) >> pool == 13
        both = (slot(str(tmp_path), "a") & slot(str(tmp_path), "b")) >> pool
    assert sorted(both) == [(0, 0), (1, 1)]


@pytest.mark.rule("R17")
def test_threads_that_ran_for_lent_slots_rest_afterwards() -> None:
    """No more tasks run at once than there are slots, when all that had lent theirs have gone on."""

    @sky.function
    def outer(x: int) -> int:
        return add(x, 1) >> sky

    @sky.function
    def work() -> int:
        running.append(1)
        found = len(running)
        time.sleep(0.001)  # long enough for a second one to begin
        running.pop()
        return found

    with sky.Compute(nodes=1, executor="thread", concurrency=1) as pool:
        running: list[int] = []  # one list, wherever the function is unpickled once
        assert sky.gather(*[outer(x) for x in range(4)]) >> pool == (1, 2, 3, 4)
        assert set(sky.gather(*[work().with_retries(1) for _ in range(100)]) >> pool) == {1}


@pytest.mark.rule("R22")
def test_slot_is_lent_while_its_task_waits(tmp_path: Path) -> None:
    """On the only slot of the only node the child runs while its parent waits, and others with it."""

    @sky.function
    def outer(directory: str) -> tuple[str, int, int]:
        return hold(directory, "child") >> sky, os.getpid(), (place() >> sky)[1]

    with sky.Compute(nodes=1) as pool:
        future = outer(str(tmp_path)) > pool
        runs(tmp_path, "child")
        let_go(tmp_path, "child")
        name, parent, child = future.result()
        assert name == "child"
        assert parent != child
        assert add(1, 2) >> pool == 3


@pytest.mark.rule("R22")
def test_calls_of_a_cancelled_parent_are_cancelled(pool: sky.Compute, tmp_path: Path) -> None:
    """Nobody waits for them any more."""

    @sky.function
    def outer(directory: str) -> None:
        (hold(directory, "a") & hold(directory, "b")) >> sky

    future = outer(str(tmp_path)) > pool
    runs(tmp_path, "a")
    assert future.cancel()
    until(lambda: (pool.snapshot().in_flight, pool.snapshot().queued) == (0, 0))
    assert not list(tmp_path.glob("*-done"))
    assert sky.gather(*[add(i) for i in range(10)]) >> pool == tuple(range(10))


@pytest.mark.rule("R22")
def test_calls_left_behind_by_a_parent_are_cancelled(pool: sky.Compute, tmp_path: Path) -> None:
    """A task that ends without waiting for its calls does not leave them running."""

    @sky.function
    def outer(directory: str) -> str:
        future = hold(directory, "a") > sky
        until(Path(directory, "a-runs").exists)
        return repr(future.done())

    assert outer(str(tmp_path)) >> pool == "False"
    until(lambda: (pool.snapshot().in_flight, pool.snapshot().queued) == (0, 0))
    assert not (tmp_path / "a-done").exists()


@pytest.mark.rule("R22")
def test_parent_that_is_run_again_gets_its_own_answers(pool: sky.Compute, tmp_path: Path) -> None:
    """The answers to the calls of its first run do not reach the second."""

    @sky.function
    def outer(directory: str) -> list[int]:
        first = not Path(directory, "died").exists()
        Path(directory, "died").touch()
        base = 100 if first else 0
        futures = [add(base, i) > sky for i in range(20)]
        if first:
            die_by.local(9)
        return [future.result() for future in futures]

    assert outer(str(tmp_path)) >> pool == list(range(20))


@pytest.mark.rule("R22")
def test_nested_call_has_the_options_of_the_pool(tmp_path: Path) -> None:
    """Its time limit and its retries are those of the pool, unless it says otherwise."""

    @sky.function(timeout=60)
    def outer(directory: str) -> str:
        try:
            hold(directory, "a") >> sky
        except sky.TaskTimeoutError as error:
            return f"after {error.timeout}"
        return "never"

    with sky.Compute(nodes=2, timeout=0.25) as pool:
        assert outer(str(tmp_path)) >> pool == "after 0.25"


@pytest.mark.rule("R22")
def test_handle_tells_how_large_its_pool_is() -> None:
    """As the pool itself does; what only its holder can do is no attribute, and the error says whose it is."""

    @sky.function
    def told() -> tuple[Any, ...]:
        handle: Any = pool
        words: list[str] = []
        for name in missing:
            with pytest.raises(AttributeError) as caught:
                getattr(handle, name)
            words.append(str(caught.value))
        return handle.current_nodes(), handle.concurrency, handle.is_active, words

    missing = ("resize", "snapshot", "open", "close", "nodez")
    with sky.Compute(nodes=2, concurrency=3) as pool:
        nodes, concurrency, active, words = told() >> pool
        assert (nodes, concurrency, active) == (pool.current_nodes(), pool.concurrency, pool.is_active) == (2, 3, True)
    assert words[0] == "a task has no resize of the pool it runs in: nodes and their life are the client's"
    assert words[-1] == "'NestedPool' object has no attribute 'nodez'"
