"""Whom a dead worker is charged to, by its last note: nobody, if it shows that it was idle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward.wire.lone import Call, Reply
from skyward.wire.messages import Progress
from skyward.wire.statuses import CRASHED, Failure
from skyward_node.cells import READY
from skyward_node.core.actions import Bury, Send, Spawn
from skyward_node.executors.events import Exited
from tests.node.core.conftest import EPOCH, KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.node.core.conftest import Rig

pytestmark = pytest.mark.rule("R38")

KILLED = Failure(CRASHED, "WorkerCrashedError", signal=9)


def charges(rig: Rig) -> dict[int, tuple[int, int]]:
    """Return what is left of the retries of each task, and the crashes it is charged with."""
    tasks = rig.core.node.sessions[rig.session].tasks
    return {id: (task.retries, task.crashes) for id, task in tasks.items()}


@pytest.mark.rule("R36")
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_task_that_an_idle_worker_never_began_moves_without_blame(make_rig: Callable[..., Rig], used: bool) -> None:
    """Also with `retries=0`: it has not run. Those behind it come with it, in order."""
    rig = make_rig(1)
    rig.open()
    rig.teach(100)
    if used:
        rig.submit(1)
        rig.finish(1, 1, elapsed=100)
    rig.submit(2, 3, 4, retries=[0, 1, 1])
    actions = rig.handle(Exited(1, None, 9, running=(1 if used else READY,)))
    assert actions[:2] == [Bury(1), Spawn(2, 1, 0)]
    assert charges(rig) == {2: (0, 0), 3: (1, 0), 4: (1, 0)}
    rig.spawned(2)
    rig.finish(2, 2, elapsed=100)
    assert list(charges(rig)) == [3, 4]


def test_second_idle_worker_that_a_task_loses_is_its_fault(make_rig: Callable[..., Rig]) -> None:
    """What it brings may be what kills them: it is told after two, however many retries it has."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, retries=[5])
    rig.handle(Exited(1, None, 9, running=(READY,)))
    rig.spawned(2)
    assert rig.failed(1, (1, KILLED)) in rig.handle(Exited(2, None, 9, running=(READY,)))


def test_task_that_was_spared_may_crash_as_often_as_any(make_rig: Callable[..., Rig]) -> None:
    """Under its run it is charged, and runs once more."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, retries=[1])
    rig.handle(Exited(1, None, 9, running=(READY,)))
    rig.spawned(2)
    rig.handle(Exited(2, None, 9, running=(1,)))
    assert charges(rig) == {1: (0, 1)}


def test_task_that_was_spared_stays_here(make_rig: Callable[..., Rig]) -> None:
    """Another node would not know, and spare it again."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, retries=[1])
    rig.handle(Exited(1, None, 9, running=(READY,)))
    rig.cancel(1, running=False)
    assert rig.hand_back(2, 1) == [rig.give(2, 1)]
    rig.handle(Exited(2, 1, None))
    assert rig.core.node.sessions[rig.session].queued == 1
    assert rig.cancel(1, running=False) == [Send(b"peer1", Progress(EPOCH, [], [1]))]


@pytest.mark.rule("R36")
@pytest.mark.parametrize(
    ("threads", "event"),
    [
        (False, Exited(1, None, 9)),
        (False, Exited(1, None, 9, running=(READY,))),
        (False, Exited(1, None, 9, running=(0x7878787878787878,))),
        (False, Exited(1, None, 9, running=(1,), oom=True)),
        (True, Exited(1, None, 9, running=(1,))),
    ],
    ids=["never came up", "wrote over it", "wrote rubbish", "memory ran out", "threads"],
)
def test_whoever_may_have_begun_is_to_blame(make_rig: Callable[..., Rig], threads: bool, event: Exited) -> None:
    """Only a note that fits the last result proves that a worker was idle; else nothing runs a second time."""
    rig = make_rig(1, threads=threads)
    rig.open()
    rig.submit(1, retries=[0])
    rig.finish(1, 1)
    rig.submit(2, retries=[0])
    told = Failure(CRASHED, "WorkerCrashedError", signal=9, oom=event.oom)
    assert rig.failed(2, (2, told)) in rig.handle(event)


def test_worker_is_idle_after_a_task_that_went_the_short_way(rig: Rig) -> None:
    """Its result counts as any other."""
    rig.open(replies=True)
    rig.submit(1)
    rig.finish(1, 1)
    rig.say(Call(EPOCH, 0, KEY, 2, b"args 2"))
    rig.hear(1, Reply(0, 0, 2, 0, 50_000, b"result 2"))
    assert rig.shortened == 2
    rig.say(Call(EPOCH, 0, KEY, 3, b"args 3"))
    rig.handle(Exited(1, None, 9, running=(2,)))
    assert charges(rig) == {3: (0, 0)}
