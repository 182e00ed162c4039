"""The nodes of a pool: launched, joined, watched, lost, let go."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from skyward.dispatch.liveness import BEATS
from skyward.dispatch.membership import FIRST_PAUSE
from skyward.errors import NodeLostError, ProvisionError
from skyward.mesh.crew import ATTEMPTS
from skyward.model import Nodes, NodeState
from skyward.wire.messages import Beat, Bye, Hello, Roster
from tests.mesh.meshes import QUIET
from tests.mesh.scripted import LONG
from tests.rules.work import until

if TYPE_CHECKING:
    from skyward.model import PoolSnapshot
    from tests.mesh.meshes import Mesh


def snapshot(mesh: Mesh) -> PoolSnapshot:
    """Return how things stand, seen by the owner of the loop."""
    found: list[PoolSnapshot] = []
    mesh.do(lambda: found.append(mesh.engine.snapshot()))
    return found[0]


def states(mesh: Mesh) -> dict[int, NodeState]:
    """Return the states of the nodes by rank."""
    return {node.rank: node.state for node in snapshot(mesh).nodes}


# --- joining -------------------------------------------------------------------------------


@pytest.mark.rule("R33")
def test_pool_opens_at_min_nodes(mesh: Mesh) -> None:
    """The rest join as they come up, under their own ranks."""
    first, second = mesh.nodes(2)
    mesh.make(Nodes(3, min=2))
    with mesh.opening():
        second.welcome()
        second.expect(Roster)
        first.welcome()
        first.expect(Roster)
    assert states(mesh) == {0: NodeState.READY, 1: NodeState.READY, 2: NodeState.STARTING}
    assert mesh.join(mesh.node()) == 2
    assert states(mesh)[2] is NodeState.READY


def test_snapshot_says_how_each_node_is(mesh: Mesh) -> None:
    """Rank, state, endpoint, process, slots, what it holds and since when; nothing of one that is only coming."""
    (node,) = mesh.nodes(1, slots=4)
    mesh.make(Nodes(2, min=1))
    with mesh.opening():
        node.welcome()
        node.expect(Roster)
    mesh.send(node)
    ready, coming = snapshot(mesh).nodes
    assert node.launched is not None
    assert (ready.rank, ready.state, ready.endpoint) == (0, NodeState.READY, node.endpoint)
    assert (ready.pid, ready.slots, ready.in_flight) == (node.launched.pid, 4, 1)
    assert 0 <= ready.known_for < LONG
    assert (coming.state, coming.endpoint, coming.pid, coming.slots, coming.known_for) == (
        NodeState.STARTING,
        "",
        None,
        0,
        0.0,
    )


def test_failed_launch_ends_the_opening(mesh: Mesh) -> None:
    """A provider that cannot start a node now will not in a moment: its own error is raised."""
    error = ProvisionError("no room")
    mesh.provider.failures = {1: error}
    mesh.make(Nodes(2))
    errors: list[BaseException] = []
    with mesh.opening(errors):
        pass
    assert errors == [error]


@pytest.mark.rule("R33")
def test_failed_launch_does_not_end_an_opening_that_can_do_without(mesh: Mesh) -> None:
    """As long as ``min`` nodes are coming."""
    first, _, third = mesh.nodes(3)
    mesh.provider.failures = {1: ProvisionError("no room")}
    mesh.make(Nodes(3, min=2))
    errors: list[BaseException] = []
    with mesh.opening(errors):
        until(lambda: errors or mesh.engine.crew.membership.causes)
        if not errors:
            first.welcome()
            third.welcome()
    assert errors == []
    assert mesh.causes() == ["no room"]


def test_bug_of_a_provider_ends_the_opening(mesh: Mesh) -> None:
    """Whatever a launch raises is no node that is still coming."""
    error = ZeroDivisionError("a bug")
    mesh.provider.failures = {0: error}
    mesh.make(Nodes(1))
    errors: list[BaseException] = []
    with mesh.opening(errors):
        pass
    assert errors == [error]


def test_failed_launch_of_an_open_pool_is_tried_again(mesh: Mesh) -> None:
    """After a pause; its cause is kept for whoever waits for a node in vain."""
    *_, node = mesh.nodes(3)
    mesh.provider.failures = {0: ProvisionError("no room"), 1: ProvisionError("still none")}
    mesh.make(Nodes(1, min=0), heartbeat=0.5)
    with mesh.opening():
        pass
    begin = time.monotonic()
    node.welcome()
    assert time.monotonic() - begin >= FIRST_PAUSE
    assert node.expect(Roster).rank == 0
    assert mesh.causes() == ["no room", "still none"]


def test_failed_launch_is_tried_again_between_heartbeats(mesh: Mesh) -> None:
    """However long these are: one that fails, and a node that is refused before it is ready."""
    refusing, _, node = mesh.nodes(3)
    mesh.provider.failures = {1: ProvisionError("no room")}
    mesh.make(Nodes(1, min=0), heartbeat=QUIET)
    with mesh.opening():
        pass
    refusing.expect(Hello)
    refusing.refuse("full")
    node.welcome()
    assert node.expect(Roster).rank == 0
    assert mesh.causes() == ["node 0: the node refused us (full): so be it", "no room"]


def test_node_that_dies_before_it_is_ready_is_replaced(mesh: Mesh) -> None:
    """One accident does not end an opening."""
    (node,) = mesh.nodes(1)
    mesh.make(Nodes(1), heartbeat=0.5, mortal=True)
    with mesh.opening():
        node.expect(Hello)
        node.die()
        assert mesh.join(mesh.node()) == 0
    assert node.ended.wait(LONG)


def test_nodes_that_never_become_ready_end_the_opening(mesh: Mesh) -> None:
    """Where nodes die one after the other `open` says so instead of hanging."""
    nodes = mesh.nodes(ATTEMPTS)
    mesh.make(Nodes(1), heartbeat=0.5, mortal=True)
    errors: list[BaseException] = []
    with mesh.opening(errors):
        for node in nodes:
            node.expect(Hello)
            node.log = ("Traceback", "ImportError: zmq")
            node.die()
    (error,) = errors
    assert isinstance(error, ProvisionError)
    assert str(error) == (
        "no node lives long enough to take part; node 0: its process died; its log ends with: ImportError: zmq"
    )


# --- going ---------------------------------------------------------------------------------


@pytest.mark.rule("R36")
@pytest.mark.rule("R51")
def test_dead_node_is_replaced_under_its_rank(mesh: Mesh) -> None:
    """A death is noticed at once, its task moves, the provider cleans up, and a new node takes the rank."""
    node, other = mesh.open(2, mortal=True)
    task, single = mesh.send(node)
    node.log = ("first", "last words")
    node.die()
    assert other.tasks() == [task.id]
    assert node.ended.wait(LONG)
    other.finish([task.id], "moved")
    assert mesh.outcome(single) == "moved"
    assert mesh.causes() == ["node 0: its process died; its log ends with: last words"]
    assert mesh.join(mesh.node()) == 0
    assert [member.rank for member in other.expect(Roster).members] == [1]
    assert [member.rank for member in other.expect(Roster).members] == [0, 1]


def test_death_without_a_log_has_no_last_words(mesh: Mesh) -> None:
    """What is not known is not said."""
    (node,) = mesh.open(1, mortal=True)
    _, single = mesh.send(node, retries=0)
    node.die()
    error = mesh.outcome(single)
    assert isinstance(error, NodeLostError)
    assert error.reason == "its process died"


def test_death_of_a_forgotten_node_changes_nothing(mesh: Mesh) -> None:
    """A descriptor that nobody watches any more may still be reported in the same turn."""
    (node,) = mesh.open(1, mortal=True)
    fd = node.launched.death_fd if node.launched is not None else None
    assert fd is not None
    node.send(Bye(node.epoch, 0, "so be it"))
    assert node.ended.wait(LONG)
    mesh.do(lambda: mesh.engine.crew.died(fd))
    assert len(mesh.causes()) == 1


@pytest.mark.rule("F67")
def test_lost_twice_counts_once(mesh: Mesh) -> None:
    """A node that dies while it is being given up is gone once."""
    (node,) = mesh.open()
    mate = mesh.engine.crew.mates[0]
    for reason in ("first", "second"):
        mesh.do(partial(mesh.engine.crew.lose, mate, reason))
    assert mesh.causes() == ["node 0: first"]
    assert node.ended.wait(LONG)


def test_refusal_after_the_opening_is_a_lost_node(mesh: Mesh) -> None:
    """A node that will not talk any more is given up, in the words of the refusal."""
    node, _ = mesh.open(2)
    node.refuse("full")
    assert node.ended.wait(LONG)
    assert mesh.causes() == ["node 0: the node refused us (full): so be it"]


@pytest.mark.rule("R36")
def test_silent_node_is_lost_after_three_heartbeats(mesh: Mesh) -> None:
    """Not sooner, counted from its last word; one that pulses stays."""
    heartbeat = 0.5
    node, other = mesh.open(2, heartbeat=heartbeat)
    node.expect(Beat)
    spoke = time.monotonic()
    node.pulse()
    while not node.ended.is_set():
        other.expect(Beat)
        other.pulse()
    assert time.monotonic() - spoke > BEATS * heartbeat
    assert mesh.causes() == ["node 0: it was silent for 1.5 s"]
    assert not other.ended.is_set()


def test_last_words_do_not_count_from_the_look_before(mesh: Mesh) -> None:
    """A node is silent from its last word on, not from the heartbeat before it."""
    (node,) = mesh.open(heartbeat=QUIET)
    crew = mesh.engine.crew
    now = time.monotonic()
    mesh.do(lambda: crew._liveness.watched(now - QUIET))
    mesh.do(lambda: crew.heard(0))
    mesh.do(lambda: crew._liveness.watched(time.monotonic()))
    assert crew._liveness._silence[0] < LONG
    assert not node.ended.is_set()


def test_next_tick_is_a_heartbeat_or_a_death(mesh: Mesh) -> None:
    """A node that is nearly dead is looked at as soon as it can be, one just found alive at the next beat."""
    mesh.open(heartbeat=10.0)
    crew = mesh.engine.crew
    found: list[float] = []

    def look() -> None:
        now = time.monotonic() + 1000.0
        for _ in range(2):
            crew._beats_at = now + 10.0
            found.append(crew.next_tick(now) - now)
            now += 9.0
            assert crew._liveness.watched(now) == []
        crew._beats_at = now + 110.0
        found.append(crew.next_tick(now) - now)
        found.append(crew.next_tick(now + 100.0) - now - 100.0)

    mesh.do(look)
    assert found[-2] == pytest.approx(6.0, abs=0.1)
    assert found[-1] == pytest.approx(0.01)
    assert max(found) == 10.0


# --- the end -------------------------------------------------------------------------------


def test_close_says_goodbye_and_ends_all(mesh: Mesh) -> None:
    """Each node is told, then the provider ends what it has started."""
    nodes = mesh.open(2)
    mesh.engine.close()
    for node in nodes:
        assert node.expect(Bye).reason == "the pool is closed"
    assert mesh.provider.closed


def test_node_that_comes_up_during_close_is_not_joined(mesh: Mesh) -> None:
    """Nobody greets a node when the pool is closing; its provider ends it."""
    mesh.open(1)
    late = mesh.node()
    launched = late.launch(mortal=False)
    mesh.engine.close()
    mesh.engine.crew._join(1, launched, None)
    mesh.engine.crew._change(mesh.engine.crew.membership.on_resize(Nodes(3), (), 0.0))
    assert list(mesh.engine.crew.mates) == [0]
    assert late.hears_nothing()
