"""The nodes of an elastic pool: woken, started because calls wait, let go because they were idle."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from skyward.model import Nodes, NodeState
from skyward.results import Single
from skyward.wire.messages import Bye, Roster
from tests.mesh.scripted import LONG
from tests.mesh.test_crew import states

if TYPE_CHECKING:
    from tests.mesh.meshes import Mesh


@pytest.mark.rule("R33")
def test_sleeping_pool_waits_for_its_first_node(mesh: Mesh) -> None:
    """However long that takes: `node_wait` does not count while it wakes; it does when the launch has failed."""
    mesh.make(Nodes(0, max=2), heartbeat=0.02, node_wait=0.1)
    with mesh.opening():
        pass
    task = mesh.task(sink=Single())
    begin = time.monotonic()
    mesh.submit(task)
    while time.monotonic() < begin + 0.5:
        time.sleep(0.01)
    node = mesh.node()
    assert mesh.join(node) == 0
    assert node.tasks() == [task.id]


@pytest.mark.rule("R33")
def test_elastic_pool_grows_and_lets_go(mesh: Mesh) -> None:
    """At a heartbeat: it starts a node for calls that wait, and says goodbye to one that was idle."""
    (first,) = mesh.nodes(1)
    mesh.make(Nodes(1, max=2), idle_timeout=5.0)
    with mesh.opening():
        first.welcome()
        first.expect(Roster)
    crew, begin = mesh.engine.crew, time.monotonic()
    mesh.send(first)
    single = Single()
    waiting = mesh.task(sink=single)
    mesh.submit(waiting)
    for seconds in (0.0, LONG):  # the second is longer than nodes take to start
        mesh.do(partial(crew.look, begin + seconds))
    assert states(mesh) == {0: NodeState.READY, 1: NodeState.STARTING}
    second = mesh.node()
    assert mesh.join(second) == 1
    assert second.tasks() == [waiting.id]
    second.finish([waiting.id])
    assert mesh.outcome(single) is None
    for seconds in (LONG, LONG + 4.0):
        mesh.do(partial(crew.look, begin + seconds))
    assert len(states(mesh)) == 2
    mesh.do(partial(crew.look, begin + LONG + 5.0))
    second.expect(Bye)
    assert second.ended.wait(LONG)
    assert states(mesh) == {0: NodeState.READY}
