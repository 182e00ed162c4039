"""The nodes of a pool whose size is changed: launched, let go when they have finished, taken back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from skyward.errors import ProvisionError
from skyward.model import Nodes, NodeState
from skyward.wire.messages import Bye, Returned, Roster
from tests.mesh.scripted import LONG
from tests.mesh.test_crew import states

if TYPE_CHECKING:
    from tests.mesh.meshes import Mesh


@pytest.mark.rule("R33")
def test_growing_launches_nodes(mesh: Mesh) -> None:
    """A larger number starts what is missing, under the next ranks."""
    mesh.open(1)
    mesh.do(lambda: mesh.engine.crew.resize(Nodes(2)))
    assert states(mesh) == {0: NodeState.READY, 1: NodeState.STARTING}
    assert not mesh.engine.crew.is_settled()
    assert mesh.join(mesh.node()) == 1
    assert mesh.engine.crew.is_settled()


@pytest.mark.rule("R51")
def test_shrinking_takes_the_highest_idle_rank(mesh: Mesh) -> None:
    """A node that has nothing to do goes at once, with a goodbye; it is no cause of anything."""
    first, second, third = mesh.open(3)
    mesh.send(first)
    mesh.do(lambda: mesh.engine.crew.resize(Nodes(2)))
    assert third.expect(Bye).reason == "the pool is closed"
    assert third.ended.wait(LONG)
    assert [member.rank for member in second.expect(Roster).members] == [0, 1]
    assert mesh.causes() == []


@pytest.mark.rule("R51")
def test_busy_node_goes_when_it_has_finished(mesh: Mesh) -> None:
    """What it holds it finishes; it gets nothing new."""
    first, second = mesh.open(2)
    one, _ = mesh.send(first)
    two, single = mesh.send(second)
    mesh.do(lambda: mesh.engine.crew.resize(Nodes(1)))
    assert states(mesh)[1] is NodeState.DRAINING
    three = mesh.task()
    mesh.submit(three)
    assert mesh.leaves_alone(second)
    second.finish([two.id], "finished")
    assert mesh.outcome(single) == "finished"
    mesh.do(mesh.engine.crew.retire_idle)
    second.expect(Bye)
    first.finish([one.id])
    assert first.tasks() == [three.id]


@pytest.mark.rule("R51")
@pytest.mark.rule("R33")
def test_busy_node_that_was_let_go_is_taken_back(mesh: Mesh) -> None:
    """If the pool grows before it has gone it stays under its rank, all nodes are told, and it gets calls again."""
    first, second = mesh.open(2)
    one, _ = mesh.send(first)
    two, single = mesh.send(second)
    mesh.do(mesh.engine.talk.roster)
    mesh.do(lambda: mesh.engine.crew.resize(Nodes(1)))
    mesh.do(mesh.engine.talk.roster)
    for size in (2, 1):
        while len(first.expect(Roster).members) != size:
            pass
    mesh.do(lambda: mesh.engine.crew.resize(Nodes(2)))
    assert states(mesh) == {0: NodeState.READY, 1: NodeState.READY}
    assert [member.rank for member in first.expect(Roster).members] == [0, 1]
    second.finish([two.id], "finished")
    assert mesh.outcome(single) == "finished"
    three = mesh.task()
    mesh.submit(three)
    assert second.tasks() == [three.id]
    first.finish([one.id])
    assert mesh.engine.crew.is_settled()


@pytest.mark.rule("R51")
def test_node_that_was_called_off_while_it_started_is_taken_back(mesh: Mesh) -> None:
    """The launch that is under way is for the same rank; there is no other."""
    mesh.open(1)
    for size in (2, 1, 2):
        mesh.do(partial(mesh.engine.crew.resize, Nodes(size)))
    assert states(mesh) == {0: NodeState.READY, 1: NodeState.STARTING}
    assert mesh.join(mesh.node()) == 1
    assert states(mesh) == {0: NodeState.READY, 1: NodeState.READY}


def test_node_let_go_before_it_is_ready_is_ended(mesh: Mesh) -> None:
    """A node that comes up for a pool that has shrunk meanwhile is sent away."""
    mesh.open(1)
    mesh.do(lambda: mesh.engine.crew.resize(Nodes(2)))
    assert mesh.provider.asked.acquire(timeout=LONG)
    mesh.do(lambda: mesh.engine.crew.resize(Nodes(1)))
    late = mesh.node()
    mesh.provider.add(late)
    late.welcome()
    late.expect(Bye)
    assert late.ended.wait(LONG)
    assert list(states(mesh)) == [0]


def test_launch_that_fails_for_a_pool_that_shrank_is_no_cause(mesh: Mesh) -> None:
    """Nobody misses a node that was let go before it came."""
    mesh.open(1)
    mesh.do(lambda: mesh.engine.crew.resize(Nodes(2)))
    mesh.do(lambda: mesh.engine.crew.resize(Nodes(1)))
    mesh.do(lambda: mesh.engine.crew._join(1, None, ProvisionError("too late")))
    assert list(states(mesh)) == [0]
    assert mesh.causes() == []


@pytest.mark.rule("R33")
def test_call_wakes_a_pool_without_nodes(mesh: Mesh) -> None:
    """With ``min=0`` the first call starts a node, and only one."""
    mesh.make(Nodes(0, max=2))
    with mesh.opening():
        pass
    assert states(mesh) == {}
    task = mesh.task()
    mesh.submit(task, mesh.task())
    assert states(mesh) == {0: NodeState.STARTING}
    node = mesh.node()
    assert mesh.join(node) == 0
    assert node.tasks() == [task.id]


def test_returned_task_of_a_leaving_node_runs_elsewhere(mesh: Mesh) -> None:
    """A node that hands back its last task has nothing more to do, and goes."""
    first, second = mesh.open(2)
    one, _ = mesh.send(first)
    two, single = mesh.send(second)
    mesh.do(lambda: mesh.engine.crew.resize(Nodes(1)))
    second.send(Returned(second.epoch, [two.id]))
    first.finish([one.id])
    assert first.tasks() == [two.id]
    first.finish([two.id], "at the other")
    assert mesh.outcome(single) == "at the other"
    mesh.do(mesh.engine.crew.retire_idle)
    second.expect(Bye)
