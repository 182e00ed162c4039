"""One pool's tasks, timers, window and end, driven by one loop."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.answers.waiting import Waiter
from skyward.errors import (
    AbsentRankError,
    NodeLostError,
    NoNodesError,
    ProvisionError,
)
from skyward.mesh.intake import BURST, CROWD
from skyward.mesh.launching import free_port
from skyward.model import Nodes
from skyward.results import CancelledError, Single
from skyward.wire import failures
from skyward.wire.messages import Bye, Cancel, Progress, Roster
from skyward.wire.statuses import CANCELLED, Failure
from tests.mesh.scripted import LONG, blob
from tests.rules.work import until

if TYPE_CHECKING:
    from skyward.dispatch.tasks import Task
    from tests.mesh.meshes import Mesh

GIVEN_UP = failures.encode(Failure(CANCELLED))


@sky.function
def double(x: int) -> int:
    """Be called."""
    return 2 * x


class _Noting(Single):
    """Notes what it hears of its task."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[bool] = []

    def on_started(self, *, unstoppable: bool) -> None:
        """Note it."""
        self.started.append(unstoppable)


# --- tasks ---------------------------------------------------------------------------------


@pytest.mark.rule("R17")
def test_no_node_gets_a_second_task_before_each_has_one(mesh: Mesh) -> None:
    """Tasks go out in submission order, round-robin over the nodes."""
    first, second = mesh.open(2, slots=2)
    tasks = [mesh.task(blob(f"f{index}")) for index in range(4)]
    mesh.submit(*tasks)
    ids = [task.id for task in tasks]
    for node, expected in ((first, [ids[0], ids[2]]), (second, [ids[1], ids[3]])):
        got: list[int] = []
        while len(got) < len(expected):
            got += node.tasks()
        assert got == expected


@pytest.mark.rule("R36")
def test_task_is_lost_at_most_retries_times(mesh: Mesh) -> None:
    """Each loss uses up a re-run; the error counts them."""
    first, second = mesh.open(2)
    task, single = mesh.send(first, retries=1)
    first.send(Bye(first.epoch, 0, "one"))
    assert second.tasks() == [task.id]
    second.send(Bye(second.epoch, 0, "two"))
    error = mesh.outcome(single)
    assert isinstance(error, NodeLostError)
    assert (error.node, error.attempts, error.task, error.reason) == (1, 2, task.id, "it said goodbye: two")
    assert mesh.engine.snapshot().rerun == 1


def test_absent_rank_is_told_with_those_there_are(mesh: Mesh) -> None:
    """A task for a rank that the pool does not have ends at once."""
    mesh.open(2)
    single = Single()
    mesh.submit(mesh.task(sink=single, rank=5))
    error = mesh.outcome(single)
    assert isinstance(error, AbsentRankError)
    assert (error.rank, error.present) == (5, (0, 1))


@pytest.mark.rule("R51")
def test_no_node_for_too_long_ends_the_wait(mesh: Mesh) -> None:
    """With the last causes."""
    mesh.provider.failures = {index: ProvisionError(f"no room {index}") for index in range(9)}
    mesh.make(Nodes(1, min=0), heartbeat=0.02, node_wait=0.3)
    with mesh.opening():
        pass
    single = Single()
    mesh.submit(mesh.task(sink=single))
    error = mesh.outcome(single)
    assert isinstance(error, NoNodesError)
    assert (error.waited, error.causes[0]) == (0.3, "no room 0")


def test_queued_task_is_cancelled_at_once(mesh: Mesh) -> None:
    """What no node has ends without asking anybody."""
    (node,) = mesh.open()
    mesh.send(node)
    single = Single()
    task = mesh.task(sink=single)
    mesh.submit(task)
    mesh.do(lambda: mesh.engine.cancel([task]))
    assert isinstance(mesh.outcome(single), CancelledError)
    assert mesh.leaves_alone(node)


def test_sent_task_ends_as_its_node_says(mesh: Mesh) -> None:
    """A cancel asks the node; its answer, even a value, is the outcome."""
    (node,) = mesh.open(slots=2)
    (first, one), (second, two) = mesh.send(node), mesh.send(node)
    mesh.do(lambda: mesh.engine.cancel([first, second]))
    assert node.expect(Cancel) == Cancel(node.epoch, [first.id, second.id], True)
    node.finish([first.id], "was faster")
    node.finish([second.id], status=CANCELLED, data=GIVEN_UP)
    assert mesh.outcome(one) == "was faster"
    assert isinstance(mesh.outcome(two), CancelledError)


def test_cancel_after_the_end_says_nothing(mesh: Mesh) -> None:
    """A settled task is left alone, and its arguments are let go."""
    (node,) = mesh.open()
    task, single = mesh.send(node)
    node.finish([task.id], 1)
    assert mesh.outcome(single) == 1
    mesh.do(lambda: mesh.engine.cancel([task]))
    assert mesh.leaves_alone(node)
    assert (task.data, task.sink) == (b"", None)


@pytest.mark.parametrize(("executor", "expected"), [("thread", True), ("process", False)])
def test_cancelled_task_that_goes_on_cannot_be_stopped(mesh: Mesh, executor: Any, expected: bool) -> None:
    """A thread answers a cancel by saying that it runs; a process can always be stopped."""
    (node,) = mesh.nodes(1)
    mesh.make(Nodes(1), worker=sky.Worker(executor="process"))
    with mesh.opening():
        node.welcome(executor=executor)  # it counts what the node is, not what the pool wants
        node.expect(Roster)
    single = _Noting()
    task = mesh.task(sink=single)
    mesh.submit(task)
    node.tasks()
    node.send(Progress(node.epoch, [], [task.id]))
    until(lambda: single.started)
    mesh.do(lambda: mesh.engine.cancel([task]))
    node.expect(Cancel)
    node.send(Progress(node.epoch, [], [task.id]))
    node.finish([task.id])
    mesh.outcome(single)
    assert single.started == [False, expected]


def test_progress_of_a_node_that_has_gone_is_nothing(mesh: Mesh) -> None:
    """It may be read in the turn in which the node is lost."""
    mesh.open()
    mesh.do(lambda: mesh.engine.started(9, [1]))
    assert mesh.engine.bug is None


def test_snapshot_counts_tasks(mesh: Mesh) -> None:
    """Queued, in flight, done, failed."""
    (node,) = mesh.open()
    task, single = mesh.send(node)
    waiting = mesh.task(retries=0)
    mesh.submit(waiting)
    stands = mesh.engine.snapshot()
    assert (stands.queued, stands.in_flight, stands.done, stands.failed, stands.active) == (1, 1, 0, 0, True)
    node.finish([task.id])
    mesh.outcome(single)
    mesh.do(lambda: mesh.engine.cancel([waiting]))
    stands = mesh.engine.snapshot()
    assert (stands.done, stands.failed, stands.rerun) == (1, 0, 0)


# --- time, room, idleness ------------------------------------------------------------------


def test_timers_run_in_their_order(mesh: Mesh) -> None:
    """Commands for later run when their time has come, soonest first."""
    mesh.open()
    order: list[str] = []
    done = Waiter()

    def last() -> None:
        order.append("late")
        done.finish()

    def start() -> None:
        mesh.engine.call_later(0.1, last)
        mesh.engine.call_later(0.05, lambda: order.append("early"))
        order.append("now")

    begin = time.monotonic()
    mesh.do(start)
    assert mesh.engine.is_busy()
    assert mesh.engine.loop.wait(done, begin + LONG)
    assert time.monotonic() - begin >= 0.1
    assert order == ["now", "early", "late"]
    assert not mesh.engine.is_busy()


@pytest.mark.rule("R21")
def test_full_window_blocks_until_something_ends(mesh: Mesh) -> None:
    """Arguments in flight are bounded in bytes; who waits goes on as room comes, in one's own size."""
    (node,) = mesh.open(slots=2, window=10)
    mesh.engine.wait_for_room(10)
    single = Single()
    task = mesh.task(data=bytes(8), sink=single)
    mesh.submit(task)
    assert node.tasks() == [task.id]
    assert mesh.engine.window.outstanding == 8
    mesh.engine.wait_for_room(2)
    went = threading.Event()

    def wait() -> None:
        mesh.engine.wait_for_room(3)
        went.set()

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: mesh.engine.window.waiting)
    assert not went.is_set()
    assert mesh.engine.is_busy()
    node.finish([task.id])
    mesh.outcome(single)
    thread.join(LONG)
    assert went.is_set()
    assert mesh.engine.window.outstanding == 0


@pytest.mark.rule("R21")
def test_empty_window_takes_anything(mesh: Mesh) -> None:
    """What alone exceeds the window must still be able to run."""
    mesh.open(window=10)
    mesh.engine.wait_for_room(1000)


def test_owner_rests_only_while_many_tasks_are_ahead(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes meanwhile is late then: not for free slots, nor for those who wait for a few tasks."""
    (node,) = mesh.open()
    rests: list[bool] = []
    monkeypatch.setattr(mesh.engine.loop, "doze", lambda *, deaf: rests.append(deaf))

    def hand_in(count: int) -> list[Task]:
        tasks = [mesh.task(sink=Single()) for _ in range(count)]
        mesh.engine.intake.hand_in(tasks, sum(task.size for task in tasks))
        mesh.do(lambda: None)
        return tasks

    first = hand_in(CROWD + 2)[0]  # it is not known yet how long they take: they wait here
    assert node.tasks() == [first.id]
    assert rests == [False]
    single = first.sink
    node.finish([first.id])
    mesh.outcome(single)
    assert len(node.tasks()) > 1
    hand_in(BURST)
    assert rests == [False]
    hand_in(BURST + 1)
    assert rests == [False, True]


def test_wait_idle_returns_when_nothing_is_unsettled(mesh: Mesh) -> None:
    """At once if so; else with the last outcome."""
    (node,) = mesh.open()
    mesh.engine.wait_idle(lambda: None)
    task, single = mesh.send(node)
    done = threading.Event()

    def wait() -> None:
        mesh.engine.wait_idle(lambda: None)
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: mesh.engine._idle_waiters)
    assert not done.is_set()
    node.finish([task.id])
    mesh.outcome(single)
    thread.join(LONG)
    assert done.is_set()


def test_free_port_is_free() -> None:
    """It can be listened on."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
