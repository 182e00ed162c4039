"""What every executor promises, whether it runs tasks in processes or in threads."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from skyward.wire.statuses import CANCELLED, CRASHED, OK
from skyward_node.testing import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def test_as_many_tasks_run_as_there_are_slots(rig: Rig) -> None:
    """Tasks that wait for one another meet, if there are slots for all."""

    def meet(path: str, count: int) -> int:
        import os
        import time

        os.close(os.open(f"{path}/{time.monotonic_ns()}-{os.urandom(4).hex()}", os.O_CREAT))
        while len(os.listdir(path)) < count:
            time.sleep(0.001)
        return count

    import tempfile

    with tempfile.TemporaryDirectory() as path:
        tasks = [rig.submit(worker, meet, path, SLOTS) for worker in workers(rig)]
        assert [rig.value(task) for task in tasks] == [SLOTS] * SLOTS


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


def test_queued_tasks_can_be_cancelled_and_taken_back(rig: Rig) -> None:
    """What has not started is dropped or handed back, and nothing else is touched."""
    worker = workers(rig)[0]
    slots = SLOTS if rig.config.executor == "thread" else 1

    def nap(seconds: float) -> float:
        import time

        time.sleep(seconds)
        return seconds

    running = rig.submit_all(worker, nap, [(0.5,)] * slots)
    queued = rig.submit_all(worker, nap, [(0.0,)] * 40)
    rig.until(lambda: set(running) <= set(rig.started))
    rig.cancel(worker, queued[:10])
    rig.cancel(worker, queued[10:20], running=False)
    rig.until(lambda: len(rig.results) + len(rig.returned) == slots + 40)
    assert {rig.outcome(task)[0] for task in queued[:10]} == {CANCELLED}
    assert sorted(rig.returned) == queued[10:20]
    assert {rig.outcome(task)[0] for task in running + queued[20:]} == {OK}


def test_cancel_of_a_running_task_stops_it_or_says_that_it_runs(rig: Rig) -> None:
    """A process is interrupted; of a thread the worker says that the task has started, and lets it finish."""
    worker = workers(rig)[0]

    def nap() -> str:
        import time

        print("running", flush=True)
        time.sleep(0.5)
        return "done"

    task = rig.submit(worker, nap)
    rig.until(lambda: worker in rig.printed)
    rig.cancel(worker, [task])
    if rig.config.executor == "thread":
        rig.until(lambda: task in rig.started)
        assert rig.value(task) == "done"
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
def test_each_slot_has_an_index_of_its_own(rig: Rig) -> None:
    """The slots of a node are numbered from 0."""

    def index() -> int:
        import time

        from skyward import runtime

        info = runtime.instance_info()
        assert info is not None
        time.sleep(0.05)  # so that each slot gets one
        return info.worker

    tasks = [rig.submit(worker, index) for worker in workers(rig)]
    assert {rig.value(task) for task in tasks} == set(range(SLOTS))
