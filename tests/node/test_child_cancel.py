"""Cancels: queued, running and finished tasks, and the races between them."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

import pytest

from skyward.wire.statuses import CANCELLED, OK
from skyward_node.testing import Rig
from tests.node.work import hold, let_go


@pytest.mark.rule("R7")
def test_cancel_drops_what_has_not_started(tmp_path: Path) -> None:
    """Queued tasks end as cancelled and never run; the running one and the rest are not touched."""
    with Rig() as rig:
        worker = rig.spawn()
        first = rig.submit(worker, hold, str(tmp_path / "a"))
        others = rig.submit_all(worker, abs, [(-1,)] * 3)
        rig.until(lambda: first in rig.started)
        rig.cancel(worker, others[:2])
        rig.until(lambda: len(rig.results) == 2)
        let_go(tmp_path / "a")
        assert rig.value(first) == "let go"
        assert [rig.outcome(task)[0] for task in others] == [CANCELLED, CANCELLED, OK]


def hold_two(rig: Rig, directory: Path) -> tuple[int, int, int]:
    """Return a worker, the task that it runs until it is let go ("a"), and one like it that waits ("b")."""
    worker = rig.spawn()
    first, other = rig.submit_all(worker, hold, [(str(directory / name),) for name in "ab"])
    rig.until(lambda: first in rig.started)
    return worker, first, other


@pytest.mark.rule("R18")
def test_take_back_returns_what_has_not_started(tmp_path: Path) -> None:
    """Without ``running``, queued tasks are handed back, also those that still sit in the pipe."""
    with Rig() as rig:
        worker, first, other = hold_two(rig, tmp_path)
        unread = rig.submit_all(worker, abs, [(-1,)] * 300)
        rig.cancel(worker, [first, other, *unread], running=False)
        rig.until(lambda: other in rig.returned)
        let_go(tmp_path / "a")
        rig.value(first)
        rig.until(lambda: len(rig.returned) == 301)
        assert sorted(rig.returned) == [other, *unread]
        assert set(rig.results) == {first}


@pytest.mark.rule("R18")
@pytest.mark.parametrize("running", [False, True])
def test_unread_tasks_do_not_wait_for_the_one_that_runs(running: bool) -> None:
    """What came after a worker began a long task, and was not read, is given up while that still runs."""
    with Rig() as rig:
        worker = rig.spawn()
        rig.call(worker, abs, -1)
        long = rig.submit(worker, time.sleep, 60.0)
        unread = rig.submit_all(worker, time.sleep, [(0,)] * 3)
        rig.cancel(worker, unread, running=running)
        rig.until(lambda: len(rig.results) + len(rig.returned) == 4)
        assert long not in rig.results
        rig.cancel(worker, [long])
        assert rig.outcome(long)[0] == CANCELLED
        assert rig.call(worker, abs, -2) == 2
        assert not rig.repeated


@pytest.mark.rule("R18")
def test_task_that_came_back_does_not_wait_for_the_one_that_runs(tmp_path: Path) -> None:
    """It was read once, and handed back; given again, it sits unread behind a task that may be waiting for it."""
    with Rig() as rig:
        worker, first, other = hold_two(rig, tmp_path)
        for _ in range(3):
            rig.returned.clear()
            rig.cancel(worker, [other], running=False)
            rig.until(lambda: rig.returned == [other])
            rig.submit_again(worker, other, hold, str(tmp_path / "b"))
        let_go(tmp_path / "a")
        assert rig.value(first) == "let go"
        let_go(tmp_path / "b")
        assert rig.value(other) == "let go"


@pytest.mark.rule("R7")
@pytest.mark.parametrize("kind", ["sleep", "loop", "lock", "async"])
def test_cancel_interrupts_the_running_task(kind: str) -> None:
    """A task that sleeps, computes, waits for a lock or awaits is stopped, and the worker goes on."""
    with Rig() as rig:
        worker = rig.spawn()

        def endless(kind: str) -> object:
            import threading
            import time

            print("running", flush=True)
            if kind == "sleep":
                time.sleep(60)
            if kind == "lock":
                threading.Semaphore(0).acquire()
            while True:
                pass

        async def coroutine(_kind: str) -> None:
            import asyncio

            print("running", flush=True)
            await asyncio.sleep(60)

        task = rig.submit(worker, coroutine if kind == "async" else endless, kind)
        rig.until(lambda: worker in rig.printed)
        rig.cancel(worker, [task])
        assert rig.outcome(task)[0] == CANCELLED
        assert rig.call(worker, abs, -1) == 1
        assert worker not in rig.exits


def test_cancelled_task_may_clean_up() -> None:
    """``finally`` blocks of an interrupted task run, and are not interrupted again."""
    with Rig() as rig:
        worker = rig.spawn()

        def careful() -> None:
            import time

            try:
                print("running", flush=True)
                time.sleep(60)
            finally:
                time.sleep(0.1)
                print("clean", flush=True)

        task = rig.submit(worker, careful)
        rig.until(lambda: worker in rig.printed)
        rig.cancel(worker, [task])
        rig.cancel(worker, [task])
        assert rig.outcome(task)[0] == CANCELLED
        assert rig.printed[worker][1] == b"running\nclean\n"


def test_cancel_waits_for_the_end_of_an_import() -> None:
    """An import is not torn by a cancel: the next task finds the module whole."""
    with Rig() as rig:
        worker = rig.spawn()

        def load(path: str) -> list[int]:
            import sys

            if path not in sys.path:
                sys.path.insert(0, path)
            import slow_package  # type: ignore[import-not-found]  # made below

            found: list[int] = slow_package.steps
            while len(found) < 100:
                pass
            return found

        def look() -> list[int]:
            import sys

            found: list[int] = sys.modules["slow_package"].steps
            return found

        with tempfile.TemporaryDirectory() as path:
            head = "import time\nsteps = []\nprint('running', flush=True)\n"
            Path(path, "slow_package.py").write_text(
                head + "for n in range(30):\n  time.sleep(0.01)\n  steps.append(n)\n"
            )
            task = rig.submit(worker, load, path)
            rig.until(lambda: worker in rig.printed)
            rig.cancel(worker, [task])
            assert rig.outcome(task)[0] == CANCELLED
            assert rig.call(worker, look) == list(range(30))


def test_task_that_survives_its_interrupt_keeps_its_value() -> None:
    """A task that catches the interrupt and returns has a result."""
    with Rig() as rig:
        worker = rig.spawn()

        def stubborn() -> str:
            import time

            try:
                print("running", flush=True)
                time.sleep(60)
            except KeyboardInterrupt:
                return "still here"
            return "never"

        task = rig.submit(worker, stubborn)
        rig.until(lambda: worker in rig.printed)
        rig.cancel(worker, [task])
        assert rig.value(task) == "still here"


def test_interrupt_of_the_users_own_is_no_cancel() -> None:
    """A task that sends itself SIGINT gets a KeyboardInterrupt, as in any program."""
    with Rig() as rig:
        worker = rig.spawn()

        def interrupt() -> None:
            import signal

            signal.raise_signal(signal.SIGINT)

        assert rig.failure(rig.submit(worker, interrupt)).type_name == "KeyboardInterrupt"
        assert rig.call(worker, abs, -1) == 1


def test_cancel_never_hits_another_task() -> None:
    """Cancels race with thousands of short tasks: each ends once, and only those asked for are cancelled."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    with Rig() as rig:
        worker = rig.spawn()

        def work(rounds: int) -> int:
            return sum(range(rounds))

        asked: set[int] = set()
        tasks: list[int] = []
        for _ in range(60):
            some = rig.submit_all(worker, work, [(chance.choice((1, 100, 20_000)),) for _ in range(100)])
            tasks += some
            for _ in range(chance.randrange(12)):
                victims = chance.sample(tasks[-150:], min(len(tasks), chance.choice((1, 1, 5))))
                asked.update(victims)
                rig.cancel(worker, victims)
                rig.pump()
        rig.until(lambda: len(rig.results) == len(tasks))
        hit = {task for task, (status, _) in rig.results.items() if status == CANCELLED}
        assert hit <= asked, seed
        assert {status for status, _ in rig.results.values()} == {OK, CANCELLED}, seed
        assert not rig.repeated, seed
        assert worker not in rig.exits, seed


def test_cancel_hammers_one_running_task_after_the_other(tmp_path: Path) -> None:
    """Each of many tasks cancelled around its start ends as cancelled, or with its value, and none takes its time."""
    with Rig() as rig:
        worker = rig.spawn()
        for _ in range(300):
            task = rig.submit(worker, hold, str(tmp_path / "a"))
            rig.cancel(worker, [task])
            assert rig.outcome(task)[0] == CANCELLED
        assert rig.call(worker, abs, -1) == 1


def test_take_back_races_with_starting() -> None:
    """Each task that is taken back while the queue moves is handed back or run, never both, never neither."""
    with Rig() as rig:
        worker = rig.spawn()
        tasks: list[int] = []
        for _ in range(50):
            tasks += rig.submit_all(worker, abs, [(n,) for n in range(100)])
            rig.cancel(worker, tasks[-60:], running=False)
            rig.pump()
        rig.until(lambda: len(rig.results) + len(rig.returned) >= len(tasks))
        assert sorted([*rig.results, *rig.returned]) == tasks
        assert all(status == OK for status, _ in rig.results.values())


def test_cancel_of_what_has_finished_leaves_nothing_behind() -> None:
    """Cancels of finished tasks are forgotten by the worker."""
    with Rig() as rig:
        worker = rig.spawn()
        for _ in range(50):
            task = rig.submit(worker, abs, -1)
            rig.value(task)
            rig.cancel(worker, [task])

        def doomed() -> list[int]:
            import gc

            from skyward_node.worker.inbox import Inbox

            return [len(thing._doomed) for thing in gc.get_objects() if type(thing) is Inbox]

        rig.until(lambda: rig.call(worker, doomed) in ([0], []))
