"""What is said again when a connection breaks, and what counts once, against a node that says what the test wants."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from skyward.machine.versions import package_versions
from skyward.model import Nodes
from skyward.wire import payload
from skyward.wire.codec import pack_body, split_body
from skyward.wire.frames import Payload
from skyward.wire.messages import Answer, Beat, Draining, Function, Hello, Pulse, Revoke, Roster, Submit, Tasks
from skyward.wire.statuses import OK
from tests.mesh.scripted import LONG, blob

if TYPE_CHECKING:
    from skyward.dispatch.tasks import Task
    from tests.mesh.meshes import Mesh
    from tests.mesh.scripted import Node

G = blob("g")


def submit(node: Node, parent: Task, *calls: int, seq: int = 0, **columns: Any) -> None:
    """Let a task of a node call something."""
    count = len(calls)
    sizes, buffers, body = pack_body([Payload(b"nested")] * count)
    fields: dict[str, Any] = {"retries": [], "timeouts": [], "ranks": [-1] * count, "names": ["g"] * count, **columns}
    number = seq or node.number()
    message = Submit(
        node.epoch, parent.id, [G.key], list(calls), [0] * count, sizes=sizes, buffers=buffers, seq=number, **fields
    )
    node.send(message, body)


def opened(mesh: Mesh) -> tuple[Node, Node, Task]:
    """Return a node that runs a task and has sent code, another that is free, and the task."""
    node, other = mesh.open(2)
    parent, _ = mesh.send(node)
    node.send(Function(node.epoch, G.key, [], "g"), [G.body])
    return node, other, parent


def answered(node: Node) -> tuple[int, list[int], list[Any]]:
    """Return number, calls and values of the next answer."""
    answer = node.expect(Answer)
    assert answer.statuses == [OK] * len(answer.calls)
    rows = split_body(answer.sizes, answer.buffers, node.body)
    return answer.seq, answer.calls, [payload.loads_value(data, buffers) for data, buffers in rows]


def come_back(node: Node, **changes: Any) -> Hello:
    """Let a node ask for a hello, and welcome the client back."""
    node.refuse("session")
    return node.welcome(resumed=True, **changes)


def beat(mesh: Mesh, node: Node) -> Beat:
    """Return the next heartbeat of the client."""
    assert mesh.leaves_alone(node)
    for mate in mesh.engine.crew.mates.values():
        if mate.launched is node.launched:
            mesh.do(lambda mate=mate: mesh.engine.talk.beat(mate, 1.0))  # type: ignore[misc]  # of this round
    message = node.receive()
    assert isinstance(message, Beat)
    return message


# --- calls ---------------------------------------------------------------------------------


@pytest.mark.rule("R22")
def test_call_that_comes_twice_runs_once(mesh: Mesh) -> None:
    """The node cannot know whether it has arrived; how far we have heard is in every beat and greeting."""
    node, other, parent = opened(mesh)
    submit(node, parent, 1)
    ids = other.tasks()
    submit(node, parent, 1, seq=1)
    assert mesh.leaves_alone(other)
    assert beat(mesh, node).heard == 1
    submit(node, parent, 2)
    other.finish(ids, "one")
    ids = other.tasks()
    other.finish(ids, "two")
    assert [answered(node), answered(node)] == [(1, [1], ["one"]), (2, [2], ["two"])]
    assert come_back(node).heard == 2


@pytest.mark.rule("R22")
def test_call_of_a_parent_that_has_ended_is_dropped(mesh: Mesh) -> None:
    """It may cross the end on a connection that breaks: nobody waits for it, and it would never be forgotten."""
    node, other, parent = opened(mesh)
    node.finish([parent.id], "done")
    submit(node, parent, 1)
    node.send(Draining(node.epoch, 1.0, "a word that is heard behind it"))
    while not mesh.engine.scheduler.nodes[0].draining:
        mesh.do(lambda: None)
    assert mesh.leaves_alone(other)
    assert mesh.engine.nesting.parents == {}
    assert mesh.engine.scheduler.is_idle()


def test_call_may_leave_its_limits_out(mesh: Mesh) -> None:
    """The protocol allows empty columns: no retries, no time limit."""
    node, other, parent = opened(mesh)
    submit(node, parent, 1, 2, ranks=[1, 1])
    first = other.expect(Tasks)
    assert (first.retries, first.timeouts) == ([], [])
    assert mesh.engine.bug is None


@pytest.mark.rule("R22")
def test_revocation_that_comes_twice_counts_once(mesh: Mesh) -> None:
    """It is one of the numbered messages."""
    node, _, parent = opened(mesh)
    submit(node, parent, 1)
    node.send(Revoke(node.epoch, parent.id, [1], node.number()))
    node.send(Revoke(node.epoch, parent.id, [1], 2))
    while beat(mesh, node).heard < 2:
        pass
    assert mesh.causes() == []


@pytest.mark.rule("R43")
@pytest.mark.parametrize("seq", [0, 2])
@pytest.mark.parametrize("what", ["submit", "revoke"])
def test_call_out_of_order_is_nonsense(mesh: Mesh, what: str, seq: int) -> None:
    """Connections keep order: the node is given up."""
    node, _, parent = opened(mesh)
    if what == "submit":
        node._calls = seq - 1
        submit(node, parent, 1)
    else:
        node.send(Revoke(node.epoch, parent.id, [1], seq))
    assert node.ended.wait(LONG)
    (cause,) = mesh.causes()
    assert cause.endswith(f"number {seq} of calls and answers came after number 0")


# --- answers -------------------------------------------------------------------------------


@pytest.mark.rule("R22")
def test_answers_that_may_be_lost_are_said_again(mesh: Mesh) -> None:
    """Those above what the node says it has heard, under their old numbers."""
    node, other, parent = opened(mesh)
    for call in (1, 2, 3):
        submit(node, parent, call)
        other.finish(other.tasks(), f"value {call}")
        assert answered(node) == (call, [call], [f"value {call}"])
    node.pulse(heard=1)
    come_back(node, heard=2)
    assert answered(node) == (3, [3], ["value 3"])
    node.expect(Roster)
    assert node.tasks() == [parent.id]
    node.pulse(heard=3)
    come_back(node, heard=3)
    assert node.tasks() == [parent.id]


@pytest.mark.rule("R22")
def test_answers_that_come_up_while_the_node_is_greeted_are_said_afterwards(mesh: Mesh) -> None:
    """Nothing but the hello is sent before its answer."""
    node, other, parent = opened(mesh)
    submit(node, parent, 1)
    ids = other.tasks()
    node.refuse("session")
    hello = node.expect(Hello)
    other.finish(ids, "value")
    while not mesh.engine.crew.mates[0].link.unconfirmed:  # type: ignore[union-attr]  # the node is there
        mesh.do(lambda: None)
    assert node.hears_nothing()
    node.send(node.greeting(hello, resumed=True))
    assert answered(node) == (1, [1], ["value"])


@pytest.mark.rule("R43")
@pytest.mark.parametrize("where", ["pulse", "welcome"])
def test_answers_never_given_cannot_be_confirmed(mesh: Mesh, where: str) -> None:
    """It is nonsense: the node is given up."""
    node, _ = mesh.open(2)
    if where == "pulse":
        node.send(Pulse(node.epoch, 0, 0, 0.0, heard=1))
    else:
        come_back(node, heard=1)
    assert node.ended.wait(LONG)
    (cause,) = mesh.causes()
    assert cause.endswith("1 calls and answers are confirmed, but only 0 were sent")


# --- tasks ---------------------------------------------------------------------------------


@pytest.mark.rule("R36")
def test_tasks_that_come_up_while_the_node_is_greeted_are_sent_afterwards_once(mesh: Mesh) -> None:
    """They count as sent, and are among those that are sent again."""
    (node,) = mesh.open(slots=2)
    first, _ = mesh.send(node)
    node.refuse("session")
    hello = node.expect(Hello)
    second = mesh.task()
    mesh.submit(second)
    assert node.hears_nothing()
    node.send(node.greeting(hello, resumed=True))
    assert node.expect(Tasks).ids == [first.id, second.id]
    assert mesh.leaves_alone(node)


@pytest.mark.rule("R37")
def test_client_that_has_greeted_twice_takes_both_answers(mesh: Mesh) -> None:
    """What comes twice with them changes nothing."""
    node, other, parent = opened(mesh)
    hello = come_back(node)
    submit(node, parent, 1)
    node.send(node.greeting(hello, resumed=True))
    submit(node, parent, 1, seq=1)
    other.finish(other.tasks(), "value")
    assert node.tasks() == node.tasks() == [parent.id]
    assert answered(node) == (1, [1], ["value"])
    assert mesh.causes() == []


# --- versions ------------------------------------------------------------------------------


@pytest.mark.rule("R35")
def test_package_differences_are_shown_at_once(mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    """When the node joins, and not at the first value that one side cannot read; the same versions are no news."""
    same, other = mesh.nodes(2)
    mesh.make(Nodes(2), console=True)
    mine = package_versions(sys.path)
    with mesh.opening():
        same.welcome(versions=mine)
        same.expect(Roster)
        other.welcome(versions={**mine, "numpy": "1.0.7"})
    mesh.engine.close()
    assert capsys.readouterr().err == (
        f"[node 1] numpy differs: client has {mine['numpy']}, node has 1.0.7; what one pickles the other may not read\n"
    )
