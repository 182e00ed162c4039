"""Cancelled tasks, tasks over their time, and workers that die, by the actions that come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.messages import Progress, Returned
from skyward.wire.statuses import CANCELLED, CANCELLED_FAILURE, CRASHED, TIMED_OUT, Failure
from skyward_node.core.actions import (
    Bury,
    Kill,
    Send,
    Spawn,
)
from skyward_node.executors.events import Exited

if TYPE_CHECKING:
    from collections.abc import Callable

    Rig = Any

EPOCH = 77


def crash(attempts: int = 1, signal: int = 9, exitcode: int = -1) -> Failure:
    """Return what a crash is reported as."""
    return Failure(
        CRASHED, "WorkerCrashedError", signal=signal, exitcode=exitcode, stderr=["oops"], peak_memory=5_000,
        attempts=attempts,
    )  # fmt: skip


def overdue(timeout: float) -> Failure:
    """Return what a timeout is reported as."""
    return Failure(TIMED_OUT, "TaskTimeoutError", timeout=timeout)


# --- cancel --------------------------------------------------------------------------------------


@pytest.mark.rule("R7")
def test_cancel_drops_a_queued_task(make_rig: Callable[..., Rig]) -> None:
    """A task that waits in the node is dropped, and never reaches a worker."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, 2)
    assert rig.cancel(2) == [rig.failed(1, (2, CANCELLED_FAILURE))]
    assert rig.finish(1, 1) == [rig.results(2, 1)]


@pytest.mark.rule("R7")
def test_cancel_interrupts_a_running_task_and_then_kills(make_rig: Callable[..., Rig]) -> None:
    """A running task is interrupted; after the grace its worker is killed and replaced."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1)
    assert rig.cancel(1) == [rig.withdraw(1, 1, running=True)]
    assert rig.handle(after=0.9) == []
    assert rig.handle(after=0.2) == [Kill(1), Spawn(2, 1, 0)]
    assert rig.die(1) == [Bury(1), rig.failed(1, (1, CANCELLED_FAILURE))]


@pytest.mark.rule("R7")
def test_cancelled_task_that_stops_in_time_keeps_its_worker(make_rig: Callable[..., Rig]) -> None:
    """A worker whose task obeys the interrupt runs the next one."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, 2)
    rig.cancel(1)
    assert rig.finish(1, 1, status=CANCELLED) == [rig.results(1, 1, status=CANCELLED), rig.give(1, 2)]
    assert rig.handle(after=2.0) == []


@pytest.mark.rule("R7")
def test_cancel_of_a_finished_task_does_nothing(rig: Rig) -> None:
    """Its result is on the way."""
    rig.open()
    rig.submit(1)
    rig.finish(1, 1)
    assert rig.cancel(1, 99) == []


@pytest.mark.rule("R32")
def test_cancel_of_a_running_thread_is_answered_with_its_start(make_rig: Callable[..., Rig]) -> None:
    """A thread cannot be stopped: the client learns that the task runs."""
    rig = make_rig(2, threads=True)
    rig.open()
    rig.submit(1)
    assert rig.cancel(1) == [Send(b"peer1", Progress(EPOCH, [], [1]))]
    assert rig.finish(1, 1) == [rig.results(1, 1)]


def test_cancel_of_a_task_in_a_workers_queue_waits_for_the_worker(rig: Rig) -> None:
    """Only the worker knows whether it has begun; when it hands the task back, it is cancelled."""
    rig.open()
    rig.teach(100)
    rig.submit(*range(1, 21))
    assert rig.cancel(3) == [rig.withdraw(1, 3, running=True)]
    assert rig.hand_back(1, 3) == [rig.failed(1, (3, CANCELLED_FAILURE))]


# --- take back -------------------------------------------------------------------------------------


@pytest.mark.rule("R18")
def test_queued_tasks_are_taken_back_at_once(make_rig: Callable[..., Rig]) -> None:
    """What waits in the node returns to the client; what runs is said to run."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, 2, 3)
    assert rig.cancel(1, 2, 3, running=False) == [
        Send(b"peer1", Progress(EPOCH, [], [1])),
        Send(b"peer1", Returned(EPOCH, [2, 3])),
    ]


@pytest.mark.rule("R18")
def test_tasks_in_a_workers_queue_are_taken_back_through_it(rig: Rig) -> None:
    """The worker is asked, and what it hands back returns to the client."""
    rig.open()
    rig.teach(100)
    rig.submit(*range(1, 21))
    assert rig.cancel(2, 3, running=False) == [rig.withdraw(1, 2, 3, running=False)]
    assert rig.hand_back(1, 3) == [Send(b"peer1", Returned(EPOCH, [3]))]


@pytest.fixture
def behind(rig: Rig) -> Rig:
    """Return a node on which a task waits in a worker behind another one, and the other worker idles."""
    rig.open()
    rig.teach(100)
    rig.submit(*range(1, 5))
    rig.finish(2, 3, 4, elapsed=100)
    return rig


@pytest.mark.rule("R18")
def test_tasks_behind_a_long_one_move_to_a_free_worker(behind: Rig) -> None:
    """When a task takes longer than expected, those behind it are taken back and run elsewhere."""
    rig = behind
    assert rig.progress(1, 1) == [Send(b"peer1", Progress(EPOCH, [], [1])), rig.withdraw(1, 2, running=False)]
    assert rig.hand_back(1, 2) == [rig.give(2, 2)]


@pytest.mark.rule("R18")
def test_worker_is_asked_once_for_what_it_has_not_started(behind: Rig) -> None:
    """The answer to the first question returns to the client what it has asked for meanwhile."""
    rig = behind
    rig.progress(1, 1)
    assert rig.cancel(2, running=False) == []
    assert rig.hand_back(1, 2) == [Send(b"peer1", Returned(EPOCH, [2]))]


@pytest.mark.rule("R18")
def test_tasks_given_to_a_worker_that_turns_out_to_be_busy_move_to_a_free_one(rig: Rig) -> None:
    """A worker that has not read what it was given cannot say that it takes long: the node sees it by itself."""
    rig.open()
    rig.teach(100)
    rig.submit(1, 2, 3, 4)
    rig.finish(2, 3, 4, elapsed=100)
    rig.finish(1, 1, elapsed=100)
    rig.submit(5)
    rig.submit(6)
    rig.finish(2, 5, elapsed=100)
    assert rig.handle(after=0.02) == [rig.withdraw(1, 6, running=False)]
    assert rig.hand_back(1, 6) == [rig.give(2, 6)]


def test_task_taken_back_can_be_sent_again(make_rig: Callable[..., Rig]) -> None:
    """A returned task is forgotten: its id counts as new."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, 2)
    rig.cancel(2, running=False)
    rig.submit(2)
    assert rig.finish(1, 1) == [rig.results(1, 1), rig.give(1, 2)]


# --- timeouts ----------------------------------------------------------------------------------------


@pytest.mark.rule("R39")
def test_task_over_its_time_is_stopped_and_its_worker_replaced(make_rig: Callable[..., Rig]) -> None:
    """It is interrupted at its timeout, killed after the grace, and reported as timed out."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, timeouts=[2.0])
    assert rig.handle(after=1.9) == []
    assert rig.handle(after=0.2) == [rig.withdraw(1, 1, running=True)]
    assert rig.handle(after=1.1) == [Kill(1), Spawn(2, 1, 0)]
    assert rig.die(1) == [Bury(1), rig.failed(1, (1, overdue(2.0)))]


@pytest.mark.rule("R39")
def test_task_over_its_time_that_is_handed_back_is_timed_out(make_rig: Callable[..., Rig]) -> None:
    """Whoever stopped it: its user is told the reason."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, timeouts=[2.0])
    rig.handle(after=2.1)
    assert rig.hand_back(1, 1) == [rig.failed(1, (1, overdue(2.0)))]


@pytest.mark.rule("R39")
@pytest.mark.parametrize("status", [0, CANCELLED])
def test_task_that_ends_after_its_time_is_timed_out_all_the_same(make_rig: Callable[..., Rig], status: int) -> None:
    """Whatever comes after the timeout counts as a timeout, and the worker is replaced."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, timeouts=[2.0])
    rig.handle(after=2.1)
    actions = rig.finish(1, 1, status=status)
    assert actions == [Kill(1), Spawn(2, 1, 0), rig.failed(1, (1, overdue(2.0)))]
    assert rig.die(1) == [Bury(1)]


@pytest.mark.rule("R39")
def test_clock_of_a_task_starts_when_it_starts(rig: Rig) -> None:
    """Time that a task waits in the node, or in a worker's queue, does not count."""
    rig.open()
    rig.teach(1_000)
    rig.submit(1, 2, 3, 4, timeouts=[2.0] * 4)  # 1 and 2 run, 3 and 4 wait behind them
    rig.handle(after=1.5)
    rig.finish(1, 1)
    assert rig.handle(after=1.0) == [rig.withdraw(2, 2, running=True)]
    assert rig.handle(after=0.9) == []
    assert rig.withdraw(1, 3, running=True) in rig.handle(after=0.2)


@pytest.mark.rule("R39")
def test_clock_does_not_run_before_the_worker_is_up(make_rig: Callable[..., Rig]) -> None:
    """The start of a process is no run time of the task."""
    rig = make_rig(1)
    rig.core.start()
    rig.open()
    rig.submit(1, timeouts=[2.0])
    assert rig.handle(after=5.0) == []
    rig.spawned(1)
    assert rig.handle(after=2.1) == [rig.withdraw(1, 1, running=True)]


@pytest.mark.rule("R32")
def test_timeout_of_a_thread_is_reported_while_its_slot_stays_taken(make_rig: Callable[..., Rig]) -> None:
    """The client hears of the timeout at once; the slot is free when the function returns, unheard."""
    rig = make_rig(1, threads=True)
    rig.open()
    rig.submit(1, 2, timeouts=[2.0, 0.0])
    assert rig.handle(after=2.1) == [rig.failed(1, (1, overdue(2.0)))]
    assert rig.finish(1, 1) == [rig.give(1, 2)]


# --- crashes --------------------------------------------------------------------------------------------


@pytest.mark.rule("R38")
def test_crashed_task_runs_once_more_on_a_fresh_worker(rig: Rig) -> None:
    """A task whose worker dies is given to a worker that has run nothing yet."""
    rig.open()
    rig.submit(1, 2)
    rig.finish(2, 2)
    actions = rig.die(1)
    assert actions == [Bury(1), Spawn(3, 1, 0), *rig.first(3, 1)]
    rig.spawned(3)
    assert rig.finish(3, 1) == [rig.results(2, 1)]


@pytest.mark.rule("R38")
def test_task_that_crashes_twice_fails(make_rig: Callable[..., Rig]) -> None:
    """After the second death the task ends, whatever its retries, and the slot is back."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, retries=[9])
    rig.die(1)
    rig.spawned(2)
    assert rig.die(2, signal=11) == [Bury(2), Spawn(3, 1, 0), rig.failed(1, (1, crash(2, signal=11)))]
    assert rig.submit(2) == rig.first(3, 2)


@pytest.mark.rule("R38")
def test_task_without_retries_fails_at_its_first_crash(make_rig: Callable[..., Rig]) -> None:
    """With ``retries=0`` nothing runs twice."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, retries=[])
    assert rig.die(1, signal=None, exitcode=3) == [
        Bury(1),
        Spawn(2, 1, 0),
        rig.failed(1, (1, crash(1, signal=0, exitcode=3))),
    ]


@pytest.mark.rule("R38")
def test_tasks_behind_a_crash_move_without_blame(make_rig: Callable[..., Rig]) -> None:
    """Of a chunk, the one that ran is to blame; the others go to the next worker, in order, not charged."""
    rig = make_rig(1)
    rig.open()
    rig.teach(100)
    rig.submit(*range(1, 6), retries=[1] * 5)
    rig.finish(1, 1, 2, elapsed=100)
    actions = rig.die(1)
    assert actions == [Bury(1), Spawn(2, 1, 0), *rig.first(2, 3), rig.give(2, 4, 5)]
    tasks = rig.core.node.sessions[rig.session].tasks
    assert {id: (task.retries, task.crashes) for id, task in tasks.items()} == {3: (0, 1), 4: (1, 0), 5: (1, 0)}
    rig.spawned(2)
    assert rig.finish(2, 3, 4, 5) == [rig.results(2, 3, 4, 5)]


@pytest.mark.rule("R38")
def test_last_note_of_a_worker_says_who_is_to_blame(make_rig: Callable[..., Rig]) -> None:
    """A task whose result was lost with the worker, but that had ended, runs again uncharged."""
    rig = make_rig(1)
    rig.open()
    rig.teach(100)
    rig.submit(1, 2, 3, retries=[1, 1, 1])
    rig.handle(Exited(1, None, 11, running=(2,)))
    tasks = rig.core.node.sessions[rig.session].tasks
    assert {id: (task.retries, task.crashes) for id, task in tasks.items()} == {1: (1, 0), 2: (0, 1), 3: (1, 0)}


@pytest.mark.rule("R36")
def test_task_without_retries_never_runs_again_though_another_is_to_blame(make_rig: Callable[..., Rig]) -> None:
    """A thread that had ended when its neighbour killed the process has run, and its result is lost."""
    rig = make_rig(2, threads=True)
    rig.open()
    rig.submit(1, 2, retries=[0, 1])
    actions = rig.handle(Exited(1, None, 9, running=(2,)))
    assert rig.failed(1, (1, Failure(CRASHED, "WorkerCrashedError", signal=9))) in actions
    assert rig.give(2, 2) in actions


@pytest.mark.rule("R39")
def test_timers_of_ended_tasks_are_forgotten(make_rig: Callable[..., Rig]) -> None:
    """A pool with an hour of time limit keeps nothing of tasks that have ended."""
    rig = make_rig(1)
    rig.open()
    for id in range(1, 4_000):
        rig.submit(id, timeouts=[3600.0], ack=id - 1)
        rig.finish(1, id)
    assert len(rig.core.node._timers) <= 1_024


def test_task_is_not_blamed_for_a_worker_that_never_came_up(make_rig: Callable[..., Rig]) -> None:
    """When a process cannot start, its tasks wait for the next one; starts are spaced out (F62)."""
    rig = make_rig(1)
    rig.core.start()
    rig.open()
    rig.submit(1, retries=[])
    assert rig.die(1, signal=None, exitcode=1) == [Bury(1)]
    assert rig.handle(after=0.04) == []
    assert rig.handle(after=0.02) == [Spawn(2, 1, 0), *rig.first(2, 1)]
    assert rig.die(2, signal=None, exitcode=1) == [Bury(2)]
    assert rig.handle(after=0.06) == []
    assert rig.handle(after=0.06) == [Spawn(3, 1, 0), *rig.first(3, 1)]


@pytest.mark.rule("R32")
def test_crash_of_a_thread_worker_ends_all_that_ran_in_it(make_rig: Callable[..., Rig]) -> None:
    """All threads of a process die with it; what had not started moves on."""
    rig = make_rig(2, threads=True)
    rig.open()
    rig.submit(1, 2, 3, retries=[0, 0, 0])
    failed = rig.failed(1, (1, crash()), (2, crash()))
    assert rig.die(1) == [Bury(1), Spawn(2, 2, 0), failed, *rig.first(2, 3)]


def test_fresh_processes_run_one_task_each(make_rig: Callable[..., Rig]) -> None:
    """With ``reuse_processes=False`` a worker ends after its task, and the next one is ready."""
    rig = make_rig(1, reuse=False)
    rig.open()
    rig.teach(1)
    rig.submit(1, 2)
    actions = rig.finish(1, 1)
    assert [type(action).__name__ for action in actions] == ["Retire", "Spawn", "Send", "Give", "Give", "Give"]
    assert actions[1] == Spawn(2, 1, 0)
    assert actions[3:] == rig.first(2, 2)


def test_worker_that_does_not_end_is_killed(make_rig: Callable[..., Rig]) -> None:
    """A retired worker has two seconds."""
    rig = make_rig(1, reuse=False)
    rig.open()
    rig.submit(1)
    rig.finish(1, 1)
    assert rig.handle(after=1.9) == []
    assert rig.handle(after=0.2) == [Kill(1)]
