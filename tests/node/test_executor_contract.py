"""What every executor promises, whether it runs tasks in processes or in threads."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from skyward.wire.statuses import CANCELLED, CRASHED, OK
from skyward_node.testing import Rig
from tests.node.work import hold, let_go, meet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOTS = 3


@pytest.fixture(params=["process", "thread"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A rig of each kind."""
    with Rig(executor=request.param) as rig:
        yield rig


def workers(rig: Rig) -> list[int]:
    """Start what a node with some slots has: as many processes, or one with as many threads."""
    if rig.config.executor == "thread":
        return [rig.spawn(SLOTS)] * SLOTS
    return [rig.spawn(index=index) for index in range(SLOTS)]


def test_every_task_has_one_result(rig: Rig) -> None:
    """Thousands of calls come back once each, whoever runs them."""
    tasks = [task for worker in workers(rig) for task in rig.submit_all(worker, abs, [(-n,) for n in range(2000)])]
    rig.until(lambda: len(rig.results) == len(tasks))
    assert [rig.value(task) for task in tasks] == list(range(2000)) * SLOTS
    assert not rig.repeated


def test_as_many_tasks_run_as_there_are_slots(rig: Rig, tmp_path: Path) -> None:
    """Tasks that wait for one another meet, if there are slots for all."""
    paths = [str(tmp_path / str(number)) for number in range(SLOTS)]
    tasks = [rig.submit(worker, meet, path, paths) for worker, path in zip(workers(rig), paths, strict=True)]
    assert [rig.value(task) for task in tasks] == [None] * SLOTS


def test_failures_stay_with_their_task(rig: Rig) -> None:
    """Exceptions and ``sys.exit`` fail one task, and the slot goes on."""
    worker = workers(rig)[0]

    def fail(code: int) -> None:
        if code:
            raise SystemExit(code)
        raise ValueError("no")

    tasks = [rig.submit(worker, fail, n % 3) for n in range(9)]
    failures = [rig.failure(task) for task in tasks]
    assert [failure.type_name for failure in failures[::3]] == ["ValueError"] * 3
    assert [(failure.status, failure.exitcode) for failure in failures[1::3]] == [(CRASHED, 1)] * 3
    assert rig.call(worker, abs, -1) == 1


def test_coroutines_run(rig: Rig) -> None:
    """``async def`` functions are awaited, in every slot."""

    async def double(n: int) -> int:
        import asyncio

        await asyncio.sleep(0.001)
        return 2 * n

    tasks = [rig.submit(worker, double, n) for n, worker in enumerate(workers(rig) * 3)]
    assert [rig.value(task) for task in tasks] == [2 * n for n in range(3 * SLOTS)]


def test_queued_tasks_can_be_cancelled_and_taken_back(rig: Rig, tmp_path: Path) -> None:
    """What has not started is dropped or handed back, and nothing else is touched."""
    worker = workers(rig)[0]
    slots = SLOTS if rig.config.executor == "thread" else 1

    running = rig.submit_all(worker, hold, [(str(tmp_path / "a"),)] * slots)
    queued = rig.submit_all(worker, abs, [(-1,)] * 40)
    rig.until(lambda: set(running) <= set(rig.started))
    rig.cancel(worker, queued[:10])
    rig.cancel(worker, queued[10:20], running=False)
    rig.until(lambda: len(rig.results) + len(rig.returned) == 20)
    let_go(tmp_path / "a")
    rig.until(lambda: len(rig.results) + len(rig.returned) == slots + 40)
    assert {rig.outcome(task)[0] for task in queued[:10]} == {CANCELLED}
    assert sorted(rig.returned) == queued[10:20]
    assert {rig.outcome(task)[0] for task in running + queued[20:]} == {OK}


def test_cancel_of_a_running_task_stops_it_or_says_that_it_runs(rig: Rig, tmp_path: Path) -> None:
    """A process is interrupted; of a thread the worker says that the task has started, and lets it finish."""
    worker = workers(rig)[0]
    path = tmp_path / "a"
    task = rig.submit(worker, hold, str(path))
    rig.until(lambda: worker in rig.printed)
    rig.cancel(worker, [task])
    if rig.config.executor == "thread":
        rig.until(lambda: task in rig.started)
        let_go(path)
        assert rig.value(task) == "let go"
    else:
        assert rig.outcome(task)[0] == CANCELLED


def test_finished_results_do_not_wait_for_long_tasks(rig: Rig) -> None:
    """Short tasks among long ones are reported while the long ones run."""
    worker = workers(rig)[0]

    def nap(seconds: float) -> None:
        import time

        time.sleep(seconds)

    short, long, *_ = rig.submit_all(worker, nap, [(0,), (30,), (30,), (30,), (30,)])
    rig.until(lambda: short in rig.results and long in rig.started)


def test_retired_workers_finish_and_leave(rig: Rig) -> None:
    """After `retire` all that was sent is run, then the process exits with 0."""
    crew = workers(rig)
    tasks = [task for worker in crew for task in rig.submit_all(worker, abs, [(-n,) for n in range(100)])]
    for worker in set(crew):
        rig.supervisor.retire(worker)
    assert {rig.exit_of(worker).exitcode for worker in crew} == {0}
    assert set(rig.results) == set(tasks)


def test_a_death_is_reported_once_with_what_ran(rig: Rig) -> None:
    """A worker that dies is reported once, with the tasks that ran in it."""
    crew = workers(rig)

    def nap() -> None:
        import time

        print("x", end="", flush=True)
        time.sleep(60)

    tasks = [rig.submit(worker, nap) for worker in crew]
    rig.until(lambda: sum(len(streams[1]) for streams in rig.printed.values()) == SLOTS)
    for worker in set(crew):
        os.kill(rig.pid(worker), signal.SIGKILL)
    deaths = {worker: rig.exit_of(worker) for worker in crew}
    assert {death.signal for death in deaths.values()} == {signal.SIGKILL}
    assert sorted(task for death in deaths.values() for task in death.running) == tasks
    assert all(len(exits) == 1 for exits in rig.exits.values())


@pytest.mark.rule("R26")
def test_each_slot_has_an_index_of_its_own(rig: Rig, tmp_path: Path) -> None:
    """The slots of a node are numbered from 0."""

    def index(own: str, others: list[str]) -> int:
        from skyward import runtime

        meet(own, others)  # so that each slot gets one
        info = runtime.instance_info()
        assert info is not None
        return info.worker

    paths = [str(tmp_path / str(number)) for number in range(SLOTS)]
    tasks = [rig.submit(worker, index, path, paths) for worker, path in zip(workers(rig), paths, strict=True)]
    assert {rig.value(task) for task in tasks} == set(range(SLOTS))
