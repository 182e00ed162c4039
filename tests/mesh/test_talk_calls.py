"""Tasks and outcomes that travel alone, with a node that knows such messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward.results import Single
from skyward.wire.codec import encode
from skyward.wire.lone import MAX_SMALL, Call, Reply
from skyward.wire.messages import Function, Roster, Tasks
from tests.mesh.scripted import LONG, blob

if TYPE_CHECKING:
    from skyward.dispatch.tasks import Task
    from tests.mesh.meshes import Mesh
    from tests.mesh.scripted import Node


def send(mesh: Mesh, node: Node) -> tuple[Task, Single]:
    """Return a task that has gone to the node in one frame, and where its outcome will be."""
    single = Single()
    task = mesh.task(sink=single)
    mesh.submit(task)
    assert node.expect(Call).id == task.id
    return task, single


def test_small_task_goes_in_one_frame_after_its_code(mesh: Mesh) -> None:
    """The frame says all that a batch would, and the code comes once."""
    (node,) = mesh.open(slots=3, calls=True)
    mesh.submit(mesh.task(data=b"args", retries=2, timeout=5.0))
    call = node.expect(Call)
    assert call == Call(node.epoch, 0, blob().key, call.id, b"args", 2, 5.0)
    assert [type(message) for message in node.code] == [Function]
    assert node.body == []
    mesh.submit(mesh.task())
    node.expect(Call)
    assert node.code == []


@pytest.mark.parametrize(("size", "kind"), [(MAX_SMALL, Call), (MAX_SMALL + 1, Tasks)])
def test_large_task_has_a_body(mesh: Mesh, size: int, kind: type[Call | Tasks]) -> None:
    """What is too large for a header is a batch of one."""
    (node,) = mesh.open(calls=True)
    mesh.submit(mesh.task(data=bytes(size)))
    node.expect(kind)


def test_two_tasks_are_a_batch(mesh: Mesh) -> None:
    """Nothing is said twice that can be said once."""
    (node,) = mesh.open(slots=2, calls=True)
    mesh.submit(mesh.task(), mesh.task())
    assert len(node.expect(Tasks).ids) == 2


def test_node_that_does_not_know_calls_gets_none(mesh: Mesh) -> None:
    """One task is a batch of one to it."""
    (node,) = mesh.open()
    mesh.submit(mesh.task())
    node.expect(Tasks)


def test_call_acknowledges_results(mesh: Mesh) -> None:
    """Replies and batches count in one row, and what goes to the node anyway says what has been seen."""
    (node,) = mesh.open(calls=True)
    for seen in range(4):
        single = Single()
        mesh.submit(mesh.task(sink=single))
        call = node.expect(Call)
        assert call.ack == seen
        if seen % 2:
            node.finish([call.id], seen)
        else:
            node.reply(call.id, seen)
        assert mesh.outcome(single) == seen


def test_reply_frees_its_slot(mesh: Mesh) -> None:
    """What waits for one goes at once."""
    (node,) = mesh.open(calls=True)
    task, single = send(mesh, node)
    mesh.submit(mesh.task())
    node.reply(task.id, "done")
    assert node.expect(Call).id != task.id
    assert mesh.outcome(single) == "done"


@pytest.mark.rule("R37")
def test_reply_that_comes_again_is_dropped(mesh: Mesh) -> None:
    """What was seen before changes nothing, whatever it says now."""
    (node,) = mesh.open(slots=2, calls=True)
    task, single = send(mesh, node)
    other, waiting = send(mesh, node)
    node.reply(task.id, "once")
    node.reply(task.id, "twice", seq=1)
    node.reply(other.id, "the other", seq=1)
    node.reply(other.id, "right", seq=2)
    assert mesh.outcome(waiting) == "right"
    assert mesh.outcome(single) == "once"
    assert mesh.engine.snapshot().done == 2


@pytest.mark.rule("R37")
@pytest.mark.rule("F44")
def test_reply_for_no_task_of_the_node_is_dropped_and_logged(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    """An id that is settled, unknown, or another node's is ignored."""
    node, other = mesh.open(2, calls=True)
    settled, done = send(mesh, node)
    node.reply(settled.id, 1)
    assert mesh.outcome(done) == 1
    elsewhere, single = send(mesh, other)
    held, waiting = send(mesh, node)
    for id in (settled.id, 999_999, elsewhere.id, held.id):
        node.reply(id, 2)
    assert mesh.outcome(waiting) == 2
    assert single.outcome is None
    assert [record.getMessage() for record in caplog.records] == [
        f"node 0 sent results of tasks that it does not hold, [{id}]: dropped"
        for id in (settled.id, 999_999, elsewhere.id)
    ]
    other.reply(elsewhere.id, 3)
    assert mesh.outcome(single) == 3


@pytest.mark.rule("R37")
def test_reply_of_another_epoch_is_dropped(mesh: Mesh) -> None:
    """What another life of the node says is not heard, and counts for no number."""
    (node,) = mesh.open(calls=True)
    task, single = send(mesh, node)
    node.reply(task.id, "wrong", epoch=node.epoch + 1, seq=1)
    node.reply(task.id, "right", seq=1)
    assert mesh.outcome(single) == "right"


def test_missing_reply_is_nonsense(mesh: Mesh) -> None:
    """A gap in the numbers means that something was lost: so is the node."""
    node, other = mesh.open(2, calls=True)
    task, single = send(mesh, node)
    node.reply(task.id, "too early", seq=2)
    assert node.ended.wait(LONG)
    assert other.expect(Call).id == task.id
    other.reply(task.id, "elsewhere")
    assert mesh.outcome(single) == "elsewhere"
    assert mesh.causes() == ["node 0: it sent a message that makes no sense: results 1 to 1 are missing"]


def test_call_goes_again_after_a_break(mesh: Mesh) -> None:
    """With the tries that are left, behind what the node must know."""
    (node,) = mesh.open(calls=True)
    task, single = send(mesh, node)
    node.refuse("session")
    node.welcome(resumed=True, calls=True)
    node.expect(Roster)
    again = node.expect(Call)
    assert (again.id, again.retries) == (task.id, 3)
    node.reply(task.id, "back")
    assert mesh.outcome(single) == "back"


def test_reply_with_a_body_is_nonsense(mesh: Mesh) -> None:
    """It has none."""
    (node,) = mesh.open(calls=True)
    task, _ = send(mesh, node)
    node.send_frames([encode(Reply(node.epoch, 1, task.id, 0, 9, b"value")), b"more"])
    assert node.ended.wait(LONG)
    assert mesh.causes() == [
        "node 0: it sent a message that makes no sense: Reply came with 1 body frames instead of 0"
    ]
