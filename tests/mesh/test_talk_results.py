"""Results and what else a node says, against a node that says what the test wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward.errors import NodeLostError
from skyward.mesh.talk import ACK_EVERY
from skyward.results import Single
from skyward.wire import failures
from skyward.wire.messages import PROTOCOL, Beat, Bye, Draining, Output, Progress, Returned, Slots, Tasks
from skyward.wire.statuses import RAISED
from tests.mesh.scripted import LONG

if TYPE_CHECKING:
    from tests.mesh.meshes import Mesh


class _Noting(Single):
    """Notes what starts."""

    def __init__(self) -> None:
        super().__init__()
        self.started = 0

    def on_started(self, *, unstoppable: bool) -> None:
        """Note it."""
        self.started += 1


# --- results -------------------------------------------------------------------------------


def test_tasks_acknowledge_results(mesh: Mesh) -> None:
    """What goes to the node anyway says what has been seen."""
    (node,) = mesh.open()
    for seen in range(3):
        single = Single()
        mesh.submit(mesh.task(sink=single))
        message = node.expect(Tasks)
        assert message.ack == seen
        node.finish(message.ids)
        mesh.outcome(single)


def test_beat_acknowledges_results(mesh: Mesh) -> None:
    """A client that has nothing to say says what it has seen at its next heartbeat."""
    (node,) = mesh.open(heartbeat=0.5)
    task, single = mesh.send(node)
    node.finish([task.id])
    mesh.outcome(single)
    while True:
        beat = node.expect(Beat)
        node.pulse()
        if beat.ack == 1:
            break
    assert beat.at > 0


def test_much_is_acknowledged_at_once(mesh: Mesh) -> None:
    """Before a node holds too much that has been seen, it is told."""
    (node,) = mesh.open(slots=2)
    large = bytes(ACK_EVERY // 2)
    first, second = mesh.send(node), mesh.send(node)
    for task, _ in (first, second):
        node.finish([task.id], large)
    assert node.expect(Beat).ack == 2
    assert mesh.outcome(first[1]) == mesh.outcome(second[1]) == large


@pytest.mark.rule("R37")
def test_results_that_come_again_are_dropped(mesh: Mesh) -> None:
    """A batch that was seen before changes nothing, whatever it says now."""
    (node,) = mesh.open(slots=2)
    task, single = mesh.send(node)
    other, waiting = mesh.send(node)
    node.finish([task.id], "once")
    node.finish([task.id, other.id], "twice", seq=1)
    node.finish([other.id], "the other", seq=2)
    assert mesh.outcome(waiting) == "the other"
    assert mesh.outcome(single) == "once"
    assert mesh.engine.snapshot().done == 2


@pytest.mark.rule("R37")
def test_result_for_no_task_of_the_node_is_dropped(mesh: Mesh) -> None:
    """Ids that are settled, unknown, or another node's are ignored, beside one that counts."""
    node, other = mesh.open(2)
    settled, done = mesh.send(node)
    node.finish([settled.id], 1)
    assert mesh.outcome(done) == 1
    elsewhere, single = mesh.send(other)
    held, waiting = mesh.send(node)
    node.finish([settled.id, 999_999, elsewhere.id, held.id], 2)
    assert mesh.outcome(waiting) == 2
    assert single.outcome is None
    other.finish([elsewhere.id], 3)
    assert mesh.outcome(single) == 3
    assert mesh.outcome(done) == 1


@pytest.mark.rule("R37")
def test_results_of_another_epoch_are_dropped(mesh: Mesh) -> None:
    """What another life of the node says is not heard, and counts for no number."""
    (node,) = mesh.open()
    task, single = mesh.send(node)
    node.finish([task.id], "wrong", epoch=node.epoch + 1, seq=1)
    node.finish([task.id], "right", seq=1)
    assert mesh.outcome(single) == "right"


def test_missing_results_are_nonsense(mesh: Mesh) -> None:
    """A gap in the numbers means that something was lost: so is the node."""
    node, other = mesh.open(2)
    task, single = mesh.send(node)
    node.finish([task.id], "too early", seq=2)
    assert node.ended.wait(LONG)
    assert other.tasks() == [task.id]
    other.finish([task.id], "elsewhere")
    assert mesh.outcome(single) == "elsewhere"
    assert mesh.causes() == ["node 0: it sent a message that makes no sense: results 1 to 1 are missing"]


def test_failures_are_counted_and_told(mesh: Mesh) -> None:
    """A status that is no value is an exception to whoever waits, with its place."""
    (node,) = mesh.open()
    task, single = mesh.send(node)
    node.finish([task.id], status=RAISED, data=failures.encode(failures.from_exception(KeyError("k"))))
    error = mesh.outcome(single)
    assert isinstance(error, KeyError)
    assert error.__notes__ == [f"raised by f on node 0, task {task.id}"]
    assert (mesh.engine.snapshot().failed, mesh.engine.snapshot().done) == (1, 1)


# --- what else a node says -----------------------------------------------------------------


def test_draining_node_gets_no_more_tasks(mesh: Mesh) -> None:
    """New tasks go elsewhere; what it returns runs elsewhere too, and costs no retry; what it runs it finishes."""
    node, other = mesh.open(2, slots=2)
    first, running = mesh.send(node)
    mesh.send(other)
    second, returned = mesh.send(node)
    node.send(Draining(node.epoch, 30.0, "so be it"))
    node.send(Returned(node.epoch, [second.id]))
    message = other.expect(Tasks)
    assert (message.ids, message.retries) == ([second.id], [3])
    node.finish([first.id], "finished")
    assert mesh.outcome(running) == "finished"
    other.finish([second.id], "moved")
    assert mesh.outcome(returned) == "moved"
    third = mesh.task()
    mesh.submit(third)
    assert other.tasks() == [third.id]
    assert mesh.leaves_alone(node)


def test_slots_say_how_many_run_at_once(mesh: Mesh) -> None:
    """A node that lends slots gets more; one that takes them back gets fewer."""
    (node,) = mesh.open()
    first, single = mesh.send(node)
    second = mesh.task(retries=0)
    mesh.submit(second)
    assert mesh.leaves_alone(node)
    node.send(Slots(node.epoch, 2))
    assert node.tasks() == [second.id]
    node.send(Slots(node.epoch, 1))
    third = mesh.task(retries=0)
    node.finish([first.id])
    mesh.outcome(single)
    mesh.submit(third)
    node.finish([second.id])
    assert node.tasks() == [third.id]


@pytest.mark.rule("R40")
def test_goodbye_is_a_lost_node(mesh: Mesh) -> None:
    """A node that leaves is gone at once, in its own words."""
    (node,) = mesh.open()
    _, single = mesh.send(node, retries=0)
    node.send(Bye(node.epoch, 0, "the machine goes down"))
    error = mesh.outcome(single)
    assert isinstance(error, NodeLostError)
    assert error.reason == "it said goodbye: the machine goes down"
    assert node.expect(Bye).reason == "so be it"  # until then the node must not hang up


def test_progress_tells_who_waits(mesh: Mesh) -> None:
    """That a task has started reaches whom it belongs to; an unknown id reaches nobody."""
    (node,) = mesh.open()
    single = _Noting()
    task = mesh.task(sink=single)
    mesh.submit(task)
    node.tasks()
    node.send(Progress(node.epoch, [], [999, task.id]))
    node.finish([task.id])
    mesh.outcome(single)
    assert single.started == 1


def test_output_reaches_the_console(mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    """What a task prints is shown with its node."""
    (node,) = mesh.open(console=True)
    node.send(Output(node.epoch, 1, 1, 2, 0), [b"one\ntwo"])
    task, single = mesh.send(node)
    node.finish([task.id])
    mesh.outcome(single)
    mesh.engine.close()
    assert capsys.readouterr().out == "[node 0] one\n[node 0] two\n"


def test_pulse_and_unknown_hint_change_nothing(mesh: Mesh) -> None:
    """Signs of life, and what a later node may add, are heard and ignored."""
    (node,) = mesh.open()
    task, single = mesh.send(node)
    node.pulse()
    node.send_frames([bytes((PROTOCOL, 64)) + b"\x90"])
    node.send_frames([bytes((PROTOCOL, 200)) + b"anything", b"with a body"])
    node.finish([task.id], "fine")
    assert mesh.outcome(single) == "fine"
