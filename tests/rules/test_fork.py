"""Tasks and programs that fork, and what each worker has of its own (R50, F5)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import skyward as sky
from skyward.machine.cpus import usable_cpus
from tests.rules.processes import ended
from tests.rules.work import add, place, until
from tests.rules.yielding import fork_among

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(params=["process", "thread"])
def either(request: pytest.FixtureRequest) -> Iterator[sky.Compute]:
    """Return an open pool of two nodes whose tasks run in processes of their own, or in threads."""
    with sky.Compute(nodes=2, executor=request.param) as pool:
        yield pool
        pool.close(cancel=True)  # a test that has failed may have left calls that are held


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@pytest.mark.rule("R50")
@pytest.mark.parametrize("leave", ["return", "raise", "exit"])
def test_forked_child_of_an_item_runs_no_others(either: sky.Compute, tmp_path: Path, leave: str) -> None:
    """However it leaves: the rest of the chunk is its parent's, and the code is what its program would have."""

    def split(number: int) -> int:
        with open(tmp_path / str(number), "a", encoding="ascii") as file:
            file.write("x")
        if number != 1_500:
            return number
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if leave == "raise":
            raise ValueError("of the child")
        if leave == "exit":
            raise SystemExit(4)
        return 0

    code = {"return": 0, "raise": 1, "exit": 4}[leave]
    assert list(either.map(split, range(3_000))) == [*range(1_500), code, *range(1_501, 3_000)]
    assert {len((tmp_path / str(number)).read_text()) for number in range(3_000)} == {1}


@pytest.mark.rule("R50")
@pytest.mark.parametrize("leave", ["return", "raise", "exit", "quick"])
def test_forked_child_of_a_task_says_nothing_to_the_pool(either: sky.Compute, tmp_path: Path, leave: str) -> None:
    """However it leaves the task: its parent's result comes, once, and the worker serves on."""

    @sky.function
    def split(way: str, directory: str) -> tuple[str, int, int]:
        child = os.fork()
        if child == 0:
            with open(os.path.join(directory, str(os.getpid())), "x", encoding="ascii"):
                pass
            if way == "raise":
                raise ValueError("of the child")
            if way == "exit":
                raise SystemExit(4)
            if way == "quick":
                os._exit(5)
            return "child", 0, 0
        _, status = os.waitpid(child, 0)
        return way, os.getpid(), os.waitstatus_to_exitcode(status)

    expected = {"return": 0, "raise": 1, "exit": 4, "quick": 5}[leave]
    results = split(leave, str(tmp_path)) @ either
    assert [(way, code) for way, _, code in results] == [(leave, expected)] * 2
    assert len(list(tmp_path.iterdir())) == 2
    assert [pid for _, pid, _ in place(1) @ either] == [pid for _, pid, _ in results]
    assert either.snapshot().done == 4


@pytest.mark.rule("R50")
def test_generator_that_forks_yields_once(either: sky.Compute, tmp_path: Path) -> None:
    """Its copy in the child ends where it yields, also among values that gather."""
    values = fork_among(600, str(tmp_path)) >> either
    assert list(values) == list(range(600))
    assert not (tmp_path / "child").exists()


@pytest.mark.rule("R50")
def test_child_that_lives_on_does_not_hold_the_link(either: sky.Compute, tmp_path: Path) -> None:
    """The task's result does not wait for it, nor does the end of the pool; the pool is refused to it."""

    @sky.function
    def leave_child(directory: str) -> int:
        child = os.fork()
        if child == 0:
            try:
                add(1, 2) >> sky
            except Exception as error:
                with open(os.path.join(directory, "part"), "x", encoding="ascii") as file:
                    file.write(type(error).__name__)
                os.rename(os.path.join(directory, "part"), os.path.join(directory, f"said-{os.getpid()}"))
            import signal

            signal.pause()
        return child

    children = leave_child(str(tmp_path)).on(0) >> either, leave_child(str(tmp_path)).on(1) >> either
    for child in children:
        until((tmp_path / f"said-{child}").exists)
        assert (tmp_path / f"said-{child}").read_text() == "ForkedPoolError"
    assert [value for value, _, _ in place(2) @ either] == [2, 2]
    either.close()
    assert ended(children, 0.0)


@pytest.mark.rule("R50")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_task_may_use_multiprocessing(either: sky.Compute, method: str) -> None:
    """With each way of starting processes, and with an executor of the standard library."""

    @sky.function
    def spread(way: str, values: list[int]) -> tuple[list[int], int]:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        context: Any = multiprocessing.get_context(way)
        with ProcessPoolExecutor(2, mp_context=context) as processes:
            return list(processes.map(abs, values)), os.getpid()

    results = spread(method, [-1, 2, -3]) @ either
    assert [squares for squares, _ in results] == [[1, 2, 3]] * 2
    assert len({pid for _, pid in results}) == 2
    assert [value for value, _, _ in place(1) @ either] == [1, 1]


@pytest.mark.rule("R50")
def test_workers_draw_different_numbers() -> None:
    """From `random`, NumPy and `uuid`; workers of a node, of two nodes, and one that replaces another."""

    @sky.function
    def draw(_: int) -> tuple[float, float, str, int]:
        import random
        import uuid

        import numpy as np

        numbers = random.random(), float(np.random.rand())  # noqa: NPY002 - it is the global state that matters
        return *numbers, str(uuid.uuid4()), os.getpid()

    with sky.Compute(nodes=2, reuse_processes=False) as pool:
        drawn = sky.gather(*[draw(i) for i in range(8)]) >> pool
    assert len({pid for *_, pid in drawn}) == 8
    for column in range(3):
        assert len({row[column] for row in drawn}) == 8


@sky.function
def limits(names: tuple[str, ...] = THREADS) -> list[str | None]:
    """Return what the environment says of these."""
    return [os.environ.get(name) for name in names]


@pytest.mark.rule("R50")
@pytest.mark.parametrize(("nodes", "concurrency"), [(1, 1), (2, 1), (1, 2), (2, 4)])
def test_blas_threads_are_the_cpus_divided_by_all_slots(
    monkeypatch: pytest.MonkeyPatch, nodes: int, concurrency: int
) -> None:
    """At least one; all nodes of a pool share this machine."""
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    share = str(max(1, usable_cpus() // (nodes * concurrency)))
    with sky.Compute(nodes=nodes, concurrency=concurrency) as pool:
        assert limits() @ pool == [[share] * len(THREADS)] * nodes


@pytest.mark.rule("R50")
@pytest.mark.parametrize("chosen", THREADS)
def test_blas_threads_of_the_user_stay(monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    """What the client's environment says of one library holds for it; `OMP_NUM_THREADS` holds for all."""
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(chosen, "7")
    others = None if chosen == "OMP_NUM_THREADS" else str(max(1, usable_cpus() // 2))
    with sky.Compute(nodes=2) as pool:
        assert limits() @ pool == [["7" if name == chosen else others for name in THREADS]] * 2


def in_a_child(work: Callable[[], object]) -> str:
    """Return what comes of it in a forked child, as a text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, repr(work()).encode())
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.rule("F5")
def test_pool_is_not_open_in_a_forked_child(pool: sky.Compute) -> None:
    """It says so when it is asked, and is refused when it is entered; its parent's is as it was."""
    assert in_a_child(lambda: (pool.is_active, pool.current_nodes())) == "(False, 0)"
    assert in_a_child(lambda: pool) == f"<sky.Compute on {pool._provider.name}, of process {os.getpid()}>"
    for enter in (pool.open, pool.__enter__):
        assert "ForkedPoolError" in in_a_child(enter)
    assert (pool.is_active, pool.current_nodes()) == (True, 2)


@pytest.mark.rule("F5")
def test_pool_that_was_made_before_a_fork_is_opened_in_the_child() -> None:
    """It is the child's then, which uses and closes it."""
    made = sky.Compute(nodes=1)

    def use() -> tuple[bool, int, bool]:
        with made as pool:
            before, value = pool.is_active, add(1, 2) >> pool
            below = psutil.Process().children(recursive=True)
        return before, value, any(process.is_running() for process in below)

    assert in_a_child(use) == "(True, 3, False)"
    assert not made.is_active
