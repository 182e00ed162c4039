"""What client and node say to each other, against a node that says what the test wants."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

import pytest

from skyward.dispatch.scheduler import BATCH
from skyward.errors import AuthError, NodeLostError, ProtocolError, VersionMismatchError
from skyward.machine.versions import package_versions
from skyward.mesh.greeting import REFUSALS, refusal
from skyward.model import Nodes
from skyward.results import CancelledError, Single
from skyward.wire import failures
from skyward.wire.messages import (
    MAX_BATCH,
    PROTOCOL,
    Bye,
    Cancel,
    Function,
    Hello,
    Module,
    Need,
    Refused,
    Roster,
    Tasks,
)
from skyward.wire.statuses import CANCELLED, Failure
from tests.mesh.scripted import LONG, blob

if TYPE_CHECKING:
    from tests.mesh.meshes import Mesh

GIVEN_UP = failures.encode(Failure(CANCELLED))


# --- greeting ------------------------------------------------------------------------------


def test_hello_says_what_the_node_must_know(mesh: Mesh) -> None:
    """The first message carries versions, session and the options that hold on the node."""
    (node,) = mesh.nodes(1)
    engine = mesh.make(Nodes(1), heartbeat=0.5, lease=12.0, cancel_grace=0.5, max_payload=1000, retries=2, timeout=9.0)
    with mesh.opening():
        hello = node.welcome()
    assert hello == Hello(
        protocol=PROTOCOL,
        python=platform.python_version(),
        versions=package_versions(sys.path),
        session=engine.session,
        epoch=0,
        ack=0,
        lease=12.0,
        heartbeat=0.5,
        cancel_grace=0.5,
        max_payload=1000,
        label=f"{platform.node()}:{engine.pid}",
        retries=2,
        timeout=9.0,
        replies=True,
    )


def test_roster_names_all_nodes_and_the_receiver(mesh: Mesh) -> None:
    """Each ready node learns who the nodes are, which of them it is, and where the head is."""
    first, second = mesh.nodes(2, slots=3)
    engine = mesh.make(Nodes(2))
    with mesh.opening():
        first.welcome()
        first.expect(Roster)
        second.welcome()
        rosters = [first.expect(Roster), second.expect(Roster)]
    assert [roster.rank for roster in rosters] == [0, 1]
    for roster in rosters:
        assert [member.rank for member in roster.members] == [0, 1]
        assert roster.slots == [3, 3]
        assert roster.job == engine.session.hex()
        assert roster.head_port == engine.head_port


def test_version_refusal_names_both_versions(mesh: Mesh) -> None:
    """A node of another Python ends `open` with an error that says what either side is."""
    (node,) = mesh.nodes(1)
    mesh.make(Nodes(1))
    errors: list[BaseException] = []
    with mesh.opening(errors):
        node.expect(Hello)
        node.refuse("version", python="3.99.1", protocol=42)
    (error,) = errors
    assert isinstance(error, VersionMismatchError)
    assert error.client == f"Python {platform.python_version()}, protocol {PROTOCOL}"
    assert error.node == "Python 3.99.1, protocol 42"


@pytest.mark.parametrize("code", ["full", "protocol"])
def test_other_refusal_says_why(mesh: Mesh, code: str) -> None:
    """Whatever else a node refuses ends `open` with its own words."""
    (node,) = mesh.nodes(1)
    mesh.make(Nodes(1))
    errors: list[BaseException] = []
    with mesh.opening(errors):
        node.expect(Hello)
        node.refuse(code)
    (error,) = errors
    assert isinstance(error, ProtocolError)
    assert str(error) == f"the node refused us ({code}): so be it"


@pytest.mark.rule("R42")
def test_refused_key_is_told_as_one(mesh: Mesh) -> None:
    """A node that has admitted our key and does not any more ends `open` with an error about keys."""
    (node,) = mesh.nodes(1)
    mesh.make(Nodes(1))
    errors: list[BaseException] = []
    with mesh.opening(errors):
        node.expect(Hello)
        node.refuse("auth")
    (error,) = errors
    assert isinstance(error, AuthError)
    assert str(error) == "the node refused us: so be it"


def test_refusal_stands_for_an_error() -> None:
    """A version is a mismatch, a key is not admitted; everything else should not happen."""
    assert isinstance(refusal(Refused("version", "", "3.9", 1)), VersionMismatchError)
    assert isinstance(refusal(Refused("auth", "", "3.9", 1)), AuthError)
    assert isinstance(refusal(Refused("unheard-of", "", "3.9", 1)), ProtocolError)


def test_session_refusal_is_answered_by_hello(mesh: Mesh) -> None:
    """A connection that does not know the session is told it, with the epoch and what has been seen."""
    (node,) = mesh.open()
    task, single = mesh.send(node)
    node.finish([task.id], "first")
    assert mesh.outcome(single) == "first"
    task, single = mesh.send(node)
    node.refuse("session")
    hello = node.welcome(resumed=True)
    assert (hello.epoch, hello.ack, hello.session) == (node.epoch, 1, mesh.engine.session)
    node.expect(Roster)
    again = node.expect(Tasks)
    assert (again.ids, node.payloads(again)) == ([task.id], [b"args"])
    assert node.code == [], "the node has the code already"
    node.finish([task.id], "second")
    assert mesh.outcome(single) == "second"


def test_refusals_before_the_answer_are_answered_by_one_hello(mesh: Mesh) -> None:
    """What they refuse was said before the hello, which is on its way: a second one would be answered twice."""
    (node,) = mesh.open()
    for _ in range(REFUSALS):
        node.refuse("session")
    node.welcome(resumed=True)
    node.expect(Roster)
    assert mesh.leaves_alone(node)


def test_session_refused_for_ever_is_a_lost_node(mesh: Mesh) -> None:
    """A node that asks for a hello and never answers it is given up."""
    node, other = mesh.open(2)
    for _ in range(REFUSALS + 1):
        node.refuse("session")
    assert node.ended.wait(LONG)
    assert not other.ended.is_set()


@pytest.mark.rule("R36")
def test_connection_that_broke_is_resumed(mesh: Mesh) -> None:
    """After a reconnect the tasks in flight are sent again, in batches, and their results are taken."""
    (node,) = mesh.open(slots=2 * BATCH, heartbeat=1.0)
    singles = [Single() for _ in range(BATCH + 1)]
    tasks = [mesh.task(sink=single) for single in singles]
    ids = [task.id for task in tasks]
    mesh.submit(*tasks)
    assert node.tasks() + node.tasks() == ids
    node.bind()  # every connection is gone: the client's next beat is refused
    node.welcome(resumed=True)
    node.expect(Roster)
    assert [node.tasks(), node.tasks()] == [ids[:BATCH], ids[BATCH:]]
    node.finish(ids, "done")
    assert [mesh.outcome(single) for single in singles] == ["done"] * len(ids)


def test_cancel_is_said_again_after_a_reconnect(mesh: Mesh) -> None:
    """A cancel that went down with the connection is not forgotten."""
    (node,) = mesh.open()
    task, single = mesh.send(node)
    mesh.do(lambda: mesh.engine.cancel([task]))
    assert node.expect(Cancel).ids == [task.id]
    node.refuse("session")
    node.welcome(resumed=True)
    node.expect(Roster)
    assert node.tasks() == [task.id]
    assert node.expect(Cancel) == Cancel(node.epoch, [task.id], True)
    node.finish([task.id], status=CANCELLED, data=GIVEN_UP)
    assert isinstance(mesh.outcome(single), CancelledError)


@pytest.mark.rule("R36")
def test_welcome_with_another_epoch_is_a_lost_node(mesh: Mesh) -> None:
    """A daemon that was restarted has forgotten all: its tasks run elsewhere."""
    node, other = mesh.open(2)
    task, single = mesh.send(node)
    node.refuse("session")
    node.epoch += 1
    node.welcome()
    assert other.tasks() == [task.id]
    assert node.ended.wait(LONG)
    other.finish([task.id], "elsewhere")
    assert mesh.outcome(single) == "elsewhere"


@pytest.mark.rule("R36")
def test_welcome_that_did_not_resume_is_a_lost_node(mesh: Mesh) -> None:
    """A node that has given up the session has nothing of it: without retries that is an error."""
    node, other = mesh.open(2)
    task, single = mesh.send(node, retries=0)
    node.refuse("session")
    node.welcome(resumed=False)
    error = mesh.outcome(single)
    assert isinstance(error, NodeLostError)
    assert (error.node, error.task, error.attempts) == (0, task.id, 1)
    assert error.reason == "it has given up our session"
    assert other.expect(Roster).members[0].rank == 1


# --- tasks and code ------------------------------------------------------------------------


def test_batch_is_columns(mesh: Mesh) -> None:
    """Tasks that go together share one message: functions once, everything else in their order."""
    (node,) = mesh.open(slots=3)
    f, g = blob("f"), blob("g")
    tasks = [mesh.task(f, b"1", retries=0), mesh.task(g, b"22", retries=2), mesh.task(f, b"333", retries=0)]
    tasks[2].timeout = 1.5
    mesh.submit(*tasks)
    message = node.expect(Tasks)
    assert message == Tasks(
        epoch=node.epoch,
        ack=0,
        functions=[f.key, g.key],
        ids=[task.id for task in tasks],
        fns=[0, 1, 0],
        sizes=[1, 2, 3],
        buffers=[0, 0, 0],
        retries=[0, 2, 0],
        timeouts=[0.0, 0.0, 1.5],
    )
    assert node.payloads(message) == [b"1", b"22", b"333"]
    assert node.code == [Function(node.epoch, f.key, [], "f"), Function(node.epoch, g.key, [], "g")]


@pytest.mark.rule("R19")
def test_code_is_sent_once_and_before_its_tasks(mesh: Mesh) -> None:
    """Modules, then the function, then its tasks; later batches and other functions repeat nothing."""
    (node,) = mesh.open(slots=9)
    f, g = blob("f", "m", "n"), blob("g", "n", "o")
    mesh.submit(mesh.task(f))
    node.tasks()
    m, n = f.modules
    assert node.code == [
        Module(node.epoch, m.key, "m"),
        Module(node.epoch, n.key, "n"),
        Function(node.epoch, f.key, [m.key, n.key], "f"),
    ]
    mesh.submit(mesh.task(f), mesh.task(g))
    node.tasks()
    o = g.modules[1]
    assert node.code == [Module(node.epoch, o.key, "o"), Function(node.epoch, g.key, [n.key, o.key], "g")]
    mesh.submit(mesh.task(g), mesh.task(f))
    node.tasks()
    assert node.code == []


def test_each_node_gets_the_code(mesh: Mesh) -> None:
    """What one node has says nothing about another."""
    first, second = mesh.open(2)
    mesh.submit(mesh.task(), mesh.task())
    for node in (first, second):
        node.tasks()
        assert [type(message) for message in node.code] == [Function]


def test_need_is_answered_with_code(mesh: Mesh) -> None:
    """A node that lacks code is sent it again, with its modules."""
    (node,) = mesh.open()
    f = blob("f", "m")
    mesh.submit(mesh.task(f))
    node.tasks()
    node.send(Need(node.epoch, [f.key], []))
    assert node.expect(Module) == Module(node.epoch, f.modules[0].key, "m")
    assert node.body == [f.modules[0].body]
    assert node.expect(Function) == Function(node.epoch, f.key, [f.modules[0].key], "f")
    assert node.body == [f.body]


def test_retries_left_travel_with_a_moved_task(mesh: Mesh) -> None:
    """What a loss has used up is not told to the next node."""
    node, other = mesh.open(2)
    task, _ = mesh.send(node, retries=2)
    node.send(Bye(node.epoch, 0, "so be it"))
    message = other.expect(Tasks)
    assert (message.ids, message.retries) == ([task.id], [1])


def test_defaults_take_no_column(mesh: Mesh) -> None:
    """A batch without retries and timeouts says nothing of them."""
    (node,) = mesh.open()
    mesh.submit(mesh.task(retries=0))
    message = node.expect(Tasks)
    assert (message.retries, message.timeouts) == ([], [])


def test_cancels_are_cut_into_messages(mesh: Mesh) -> None:
    """No message names more tasks than a peer takes."""
    (node,) = mesh.open()
    mate = mesh.engine.crew.mates[0]
    mesh.do(lambda: mesh.engine.talk.cancel(mate, list(range(MAX_BATCH + 1)), running=False))
    assert node.expect(Cancel) == Cancel(node.epoch, list(range(MAX_BATCH)), False)
    assert node.expect(Cancel) == Cancel(node.epoch, [MAX_BATCH], False)
