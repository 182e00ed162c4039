"""When an engine uses a node's lane, when it must not, and what it does when the lane ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from skyward.errors import NodeLostError
from skyward.results import Single
from skyward.wire.codec import encode
from skyward.wire.lone import MAX_SMALL, Call, Reply
from skyward.wire.messages import Bye, Cancel, Hello, Progress, Roster, Tasks
from skyward.wire.statuses import OK
from tests.mesh.scripted import LONG, TOKEN, blob

if TYPE_CHECKING:
    from skyward.dispatch.tasks import Task
    from tests.mesh.meshes import Mesh
    from tests.mesh.scripted import Node


def alone(mesh: Mesh, **fields: Any) -> tuple[Task, Single]:
    """Return a task that was handed in alone, and where its outcome will be."""
    single = Single()
    task = mesh.task(sink=single, **fields)
    mesh.submit_alone(task)
    return task, single


def by_road(mesh: Mesh, node: Node, **fields: Any) -> None:
    """Have a lone call come and go by the road."""
    task, single = alone(mesh, **fields)
    assert node.expect(Call).id == task.id
    node.reply(task.id, "by road")
    assert mesh.outcome(single) == "by road"
    assert node.lane_is_quiet()


def by_lane(mesh: Mesh, node: Node) -> None:
    """Have a lone call come and go by the lane."""
    task, single = alone(mesh)
    assert node.call_by_lane().id == task.id
    node.reply_by_lane(task.id, "by lane")
    assert mesh.outcome(single) == "by lane"
    assert node.hears_nothing(), node.receive()


def open_lane(mesh: Mesh, count: int = 1, **how: Any) -> list[Node]:
    """Return nodes whose lanes may be used from now on."""
    nodes = mesh.open(count, calls=True, lanes=True, **how)
    for node in nodes:
        by_road(mesh, node, rank=nodes.index(node))
    return nodes


def say_beat(mesh: Mesh, node: Node) -> None:
    """Have a heartbeat go to the only node."""
    assert mesh.leaves_alone(node)


def say_code(mesh: Mesh, node: Node) -> None:
    """Have a call of another function go by the road."""
    task, single = alone(mesh, function=blob("g"))
    node.expect(Call)
    node.reply(task.id, "code")
    assert mesh.outcome(single) == "code"


def say_cancel(mesh: Mesh, node: Node) -> None:
    """Have a call that has come by the lane cancelled, which the node never answers."""
    task, _ = alone(mesh)
    assert node.call_by_lane().id == task.id
    mesh.do(lambda: mesh.engine.cancel([task]))
    assert node.expect(Cancel).ids == [task.id]
    node.reply_by_lane(task.id, "too late")


def test_lone_calls_take_the_lane(mesh: Mesh) -> None:
    """From the second on, if nothing comes between."""
    (node,) = open_lane(mesh)
    for _ in range(3):
        by_lane(mesh, node)


def test_call_by_lane_says_all_that_one_by_the_road_does(mesh: Mesh) -> None:
    """Also what the client has heard."""
    (node,) = open_lane(mesh)
    task, _ = alone(mesh, data=b"other", retries=2, timeout=5.0)
    assert node.call_by_lane() == Call(node.epoch, 1, blob().key, task.id, b"other", 2, 5.0)


def test_each_node_has_its_own_lane(mesh: Mesh) -> None:
    """The calls of a thread that waits go round."""
    nodes = open_lane(mesh, 2)
    for node in nodes * 2:
        by_lane(mesh, node)


@pytest.mark.parametrize("say", [say_beat, say_cancel])
@pytest.mark.rule("F43")
def test_call_does_not_overtake_what_was_said(mesh: Mesh, say: Any) -> None:
    """After a message by the road, the next call follows it there; the one after that may take the lane again."""
    (node,) = open_lane(mesh)
    by_lane(mesh, node)
    say(mesh, node)
    by_road(mesh, node)
    by_lane(mesh, node)


def test_call_does_not_overtake_its_code(mesh: Mesh) -> None:
    """A call that needs code goes after it by the road, and shows that the road is level again."""
    (node,) = open_lane(mesh)
    by_lane(mesh, node)
    say_code(mesh, node)
    by_lane(mesh, node)


def test_call_among_others_takes_the_road(mesh: Mesh) -> None:
    """As does one that nobody waits for alone."""
    (node,) = open_lane(mesh, slots=2)
    first, held = alone(mesh)
    assert node.call_by_lane().id == first.id
    second, single = alone(mesh)
    assert node.expect(Call).id == second.id
    node.reply(second.id, 2)
    assert mesh.outcome(single) == 2
    node.reply(first.id, 1)
    assert mesh.outcome(held) == 1
    mesh.submit(mesh.task())
    node.expect(Call)
    assert node.lane_is_quiet()


def test_large_call_takes_the_road(mesh: Mesh) -> None:
    """What is no single frame does not fit."""
    (node,) = open_lane(mesh)
    task, single = alone(mesh, data=bytes(MAX_SMALL + 1))
    assert node.expect(Tasks).ids == [task.id]
    node.reply(task.id, "large")
    assert mesh.outcome(single) == "large"
    by_road(mesh, node)
    by_lane(mesh, node)


def test_node_that_takes_in_none_has_the_road(mesh: Mesh) -> None:
    """It has not said that it does, or nobody listens where it does."""
    (node,) = mesh.open(calls=True)
    for _ in range(3):
        task, single = alone(mesh)
        node.expect(Call)
        node.reply(task.id)
        mesh.outcome(single)
    node.refuse("session")
    node.welcome(resumed=True, calls=True, lane=TOKEN)
    node.expect(Roster)
    for _ in range(3):
        task, single = alone(mesh)
        node.expect(Call)
        node.reply(task.id)
        mesh.outcome(single)


def test_outcome_may_take_the_road(mesh: Mesh) -> None:
    """A node that has more to say says it there; the next call takes the lane all the same."""
    (node,) = open_lane(mesh)
    for _ in range(2):
        task, single = alone(mesh)
        assert node.call_by_lane().id == task.id
        node.send(Progress(node.epoch, [], [task.id]))
        node.finish([task.id], "with more")
        assert mesh.outcome(single) == "with more"


@pytest.mark.rule("R37")
def test_outcome_of_a_cancelled_call_comes_late(mesh: Mesh) -> None:
    """It is counted and dropped, by whatever way it comes."""
    (node,) = open_lane(mesh, slots=2)
    task, _ = alone(mesh)
    node.call_by_lane()
    mesh.do(lambda: mesh.engine.cancel([task]))
    node.expect(Cancel)
    by_road(mesh, node)
    other, single = alone(mesh)
    assert node.expect(Call).id == other.id
    node.reply_by_lane(task.id, "too late")
    node.reply(other.id, "in time")
    assert mesh.outcome(single) == "in time"
    by_lane(mesh, node)


@pytest.mark.rule("R43")
def test_nonsense_by_the_lane_loses_the_node(mesh: Mesh) -> None:
    """As it does by the road."""
    (node,) = open_lane(mesh)
    node.say_by_lane(encode(Reply(node.epoch, 99, 1, OK, 9, b"value")))
    assert node.ended.wait(LONG)
    assert mesh.causes() == ["node 0: it sent a message that makes no sense: results 2 to 98 are missing"]


# --- breaks --------------------------------------------------------------------------------


@pytest.mark.rule("R36")
def test_call_goes_again_when_its_lane_ends(mesh: Mesh) -> None:
    """It may not have arrived: client and node agree on what has, as after a break of the connection."""
    (node,) = open_lane(mesh)
    task, single = alone(mesh, retries=0)
    node.cut()
    hello = node.welcome(resumed=True, calls=True, lane=TOKEN)
    assert hello.ack == 1
    node.expect(Roster)
    assert node.expect(Call).id == task.id
    node.take_in()
    node.reply(task.id, "again")
    assert mesh.outcome(single) == "again"
    by_road(mesh, node)
    by_lane(mesh, node)


def test_lane_that_ends_under_nothing_costs_nothing(mesh: Mesh) -> None:
    """The road has lost nothing."""
    (node,) = open_lane(mesh)
    by_lane(mesh, node)
    node.cut()
    task, single = alone(mesh)
    assert node.expect(Call).id == task.id
    node.reply(task.id, "by road")
    assert mesh.outcome(single) == "by road"
    assert mesh.leaves_alone(node)


@pytest.mark.rule("F43")
def test_call_does_not_overtake_what_was_said_again(mesh: Mesh) -> None:
    """The outcome may be of the first time: a call by the lane would make the node forget it, and run it once more."""
    (node,) = open_lane(mesh)
    task, single = alone(mesh)
    node.call_by_lane()
    node.refuse("session")
    node.welcome(resumed=True, calls=True, lane=TOKEN)
    node.expect(Roster)
    node.take_in()
    node.reply(task.id, "of the first time")
    assert mesh.outcome(single) == "of the first time"
    assert node.expect(Call).id == task.id
    by_road(mesh, node)


def test_connection_that_has_to_greet_has_another_lane(mesh: Mesh) -> None:
    """The old one ends with the welcome, and is not used before."""
    (node,) = open_lane(mesh)
    node.refuse("session")
    hello = node.expect(Hello)
    task, single = alone(mesh)
    assert node.lane_is_quiet()
    node.send(node.greeting(hello, resumed=True, calls=True))
    node.expect(Roster)
    assert node.expect(Call).id == task.id
    node.reply(task.id, "greeted")
    assert mesh.outcome(single) == "greeted"


@pytest.mark.rule("F9")
def test_daemon_that_was_restarted_has_no_call_of_the_lane(mesh: Mesh) -> None:
    """Its successor says so by its epoch: what was on the lane is lost with the node."""
    (node,) = open_lane(mesh)
    _, single = alone(mesh, retries=0)
    node.call_by_lane()
    node.cut()
    node.epoch += 1
    node.welcome(calls=True)
    outcome = mesh.outcome(single)
    assert isinstance(outcome, NodeLostError)
    assert "it was restarted" in str(outcome)


@pytest.mark.rule("F7")
def test_call_of_a_lane_moves_when_its_node_dies(mesh: Mesh) -> None:
    """Within its retries, as one by the road."""
    node, other = open_lane(mesh, 2, mortal=True)
    task, single = alone(mesh)
    node.call_by_lane()
    node.cut()
    node.die()
    assert other.expect(Call).id == task.id
    other.reply(task.id, "elsewhere")
    assert mesh.outcome(single) == "elsewhere"


def test_pool_that_closes_greets_nobody(mesh: Mesh) -> None:
    """Whatever becomes of its lane: a hello would open another session."""
    (node,) = open_lane(mesh)
    task, _ = alone(mesh)
    node.call_by_lane()
    mate = mesh.engine.crew.mates[0]

    def end() -> None:
        mesh.engine._say_goodbye()
        node.cut()
        deadline = time.monotonic() + LONG
        while mate.link is not None and mate.link.lane is not None and time.monotonic() < deadline:
            mesh.engine.turn(0.01)

    mesh.do(end)
    mesh.engine.close()
    assert node.expect(Cancel).ids == [task.id]
    node.expect(Bye)
    while not node.hears_nothing():
        node.expect(Bye)  # of the second time
