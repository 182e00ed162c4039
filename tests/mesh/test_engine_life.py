"""One pool's opening, closing, and what becomes of it when our own code fails."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.errors import (
    PoolClosedError,
)
from skyward.model import Nodes, NodeState
from skyward.results import DISCARD, Collection, Single
from skyward.wire.messages import Bye, Cancel, Hello, Roster, Tasks
from tests.mesh.scripted import LONG
from tests.rules.work import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.mesh.meshes import Mesh


@sky.function
def double(x: int) -> int:
    """Be called."""
    return 2 * x


# --- opening and closing -------------------------------------------------------------------


@pytest.mark.rule("R30")
def test_close_ends_whatever_waits(mesh: Mesh) -> None:
    """Queued and sent tasks, and whoever waits for room or for the end, hear that the pool is closed."""
    (node,) = mesh.open(window=1)
    sent, one = mesh.send(node)
    two = Single()
    mesh.submit(mesh.task(sink=two, retries=0))
    waits = [
        threading.Thread(target=mesh.engine.wait_idle, args=(lambda: None,)),
        threading.Thread(target=mesh.engine.wait_for_room, args=[100]),
    ]
    for thread in waits:
        thread.start()
    until(lambda: mesh.engine._idle_waiters and mesh.engine.window.waiting)
    mesh.engine.close()
    for thread in waits:
        thread.join(LONG)
        assert not thread.is_alive()
    assert node.expect(Cancel).ids == [sent.id]
    node.expect(Bye)
    for single in (one, two):
        assert isinstance(single.outcome, PoolClosedError)


@pytest.mark.rule("R30")
def test_nobody_polls_what_is_closed(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links and epoll are closed by who owns the loop: a thread that has waited for a call may be in its last turn."""
    mesh.open()
    owned: list[bool] = []
    close = mesh.engine.hub.close

    def note_and_close() -> None:
        owned.append(mesh.engine.loop._owned)
        close()

    monkeypatch.setattr(mesh.engine.hub, "close", note_and_close)
    mesh.engine.close()
    assert owned == [True]


def test_wait_for_the_end_looks_around(mesh: Mesh) -> None:
    """What begins meanwhile, and never ends by itself, is ended by who waits."""
    (node,) = mesh.open()
    task, _ = mesh.send(node)
    mesh.engine.wait_idle(lambda: node.finish([task.id]))


def test_submit_to_a_closed_engine_is_refused(mesh: Mesh) -> None:
    """What comes too late is told so."""
    mesh.open()
    mesh.engine.close()
    single = Single()
    task = mesh.task(sink=single)
    mesh.engine.submit([task])
    assert isinstance(single.outcome, PoolClosedError)
    mesh.engine.wait_idle(lambda: None)
    mesh.engine.wait_for_room(10**12)
    mesh.engine.turn(0.0)
    assert not mesh.engine.snapshot().active


def test_close_ends_an_opening(mesh: Mesh) -> None:
    """Who opens a pool that somebody else closes is told, and does not hang."""
    (node,) = mesh.nodes(1)
    engine = mesh.make(Nodes(1))
    errors: list[BaseException] = []
    with mesh.opening(errors):
        node.expect(Hello)
        engine.close()
    (error,) = errors
    assert isinstance(error, PoolClosedError)


@pytest.mark.rule("R33")
def test_pool_without_nodes_opens_at_once(mesh: Mesh) -> None:
    """With ``min=0`` there is nothing to wait for."""
    mesh.make(Nodes(1, min=0))
    with mesh.opening():
        pass
    (node,) = mesh.engine.snapshot().nodes
    assert node.state is NodeState.STARTING


@pytest.mark.rule("R33")
def test_broadcast_wakes_a_pool_without_nodes(mesh: Mesh) -> None:
    """A call for every node is a call: it starts one where there is none."""
    with sky.Compute(mesh.provider, nodes=sky.Nodes(0, max=1), heartbeat=100.0, console=False) as pool:
        node = mesh.node()
        mesh.provider.add(node)
        values: list[list[int]] = []
        thread = threading.Thread(target=lambda: values.append(double(2) @ pool))
        thread.start()
        node.welcome()
        node.expect(Roster)
        node.finish(node.expect(Tasks).ids, 4)
        thread.join(LONG)
        assert values == [[4]]


def test_close_ends_a_broadcast_that_waits_for_a_node(mesh: Mesh) -> None:
    """Nobody waits for a node of a closed pool."""
    errors: list[BaseException] = []
    pool = sky.Compute(mesh.provider, nodes=sky.Nodes(0, max=1), console=False).open()

    def broadcast() -> None:
        try:
            double(2) @ pool
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=broadcast)
    thread.start()
    assert mesh.provider.asked.acquire(timeout=LONG)
    pool.close(cancel=True)
    thread.join(LONG)
    assert [type(error) for error in errors] == [PoolClosedError]


# --- our own bugs --------------------------------------------------------------------------


class Bug(Exception):
    """What our own code raises where it should not."""


def fail(*args: Any, **kwargs: Any) -> Any:
    """Have a bug."""
    raise Bug("here")


PLACES: dict[str, Callable[[Any], tuple[Any, str]]] = {
    "while taking a task in": lambda engine: (engine.scheduler, "on_submit"),
    "while waking the crew": lambda engine: (engine.crew, "wake"),
    "while sending": lambda engine: (engine.talk, "tasks"),
    "while counting a result": lambda engine: (engine.scheduler, "on_results"),
    "while settling": lambda engine: (engine.console, "settle"),
    "after settling": lambda engine: (engine.scheduler, "dispatch"),
}


@pytest.mark.parametrize("place", PLACES)
def test_bug_of_ours_ends_every_call(mesh: Mesh, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Wherever our own code fails, whoever waits is told so and nobody hangs, also not at the close."""
    (node,) = mesh.open(slots=2)
    task, first = mesh.send(node)
    other, second = mesh.send(node)
    third, fourth = Single(), Single()
    mesh.submit(mesh.task(sink=third, retries=0))
    monkeypatch.setattr(*PLACES[place](mesh.engine), fail)
    mesh.submit(mesh.task(sink=fourth))
    node.finish([task.id, other.id], "a value")
    for single in (first, second, third, fourth):
        outcome = mesh.outcome(single)
        if outcome != "a value":
            assert isinstance(outcome, PoolClosedError)
            assert str(outcome) == "the pool has failed by a bug of skyward: Bug('here')"
    assert isinstance(mesh.outcome(third), PoolClosedError)
    assert isinstance(mesh.engine.bug, Bug)
    mesh.engine.wait_idle(lambda: None)
    mesh.engine.wait_for_room(10**12)


def test_bug_in_a_collector_ends_the_others(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose first outcome cannot be delivered is ended all the same."""
    (node,) = mesh.open(slots=2)
    broken = Collection(1, return_exceptions=False, cancel=fail)
    single = Single()
    tasks = [mesh.task(sink=broken), mesh.task(sink=single)]
    monkeypatch.setattr(Collection, "deliver", fail)
    mesh.submit(*tasks)
    node.tasks()
    node.finish([task.id for task in tasks])
    assert isinstance(mesh.outcome(single), PoolClosedError)


def test_bug_in_a_verdict_ends_the_others(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one of several decisions cannot be performed the tasks of the others end all the same."""
    (node,) = mesh.open(slots=2)
    (first, one), (_, two) = mesh.send(node, retries=0), mesh.send(node, retries=0)
    mesh.do(lambda: mesh.engine.cancel([first]))
    monkeypatch.setattr("skyward.mesh.engine.reason", fail)
    node.send(Bye(node.epoch, 0, "so be it"))
    for single in (one, two):
        assert isinstance(mesh.outcome(single), PoolClosedError)


def test_bug_while_opening_is_raised(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """`open` ends with what has failed."""
    (node,) = mesh.nodes(1)
    engine = mesh.make(Nodes(1))
    monkeypatch.setattr(engine.talk, "roster", fail)
    errors: list[BaseException] = []
    with mesh.opening(errors):
        node.welcome()
    assert [type(error) for error in errors] == [Bug]


def test_pool_that_failed_says_so_and_can_be_closed(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later calls are refused with the bug as their cause; leaving the block leaves nothing behind."""
    (node,) = mesh.nodes(1)
    opened: list[sky.Compute] = []
    thread = threading.Thread(
        target=lambda: opened.append(sky.Compute(mesh.provider, nodes=1, heartbeat=100.0, console=False).open())
    )
    thread.start()
    node.welcome()
    node.expect(Roster)
    thread.join(LONG)
    (pool,) = opened
    with closing(pool):
        engine = pool._engine
        assert engine is not None
        monkeypatch.setattr(engine.talk, "tasks", fail)
        with pytest.raises(PoolClosedError, match="bug of skyward: Bug"):
            double(1) >> pool
        with pytest.raises(PoolClosedError, match="bug of skyward") as caught:
            pool.run_async(double(1))
        assert isinstance(caught.value.__cause__, Bug)
        assert not pool.is_active
    assert repr(pool) == "<sky.Compute on scripted, closed>"


def test_outcome_that_nobody_wants_is_dropped(mesh: Mesh) -> None:
    """A sink for what was given up takes anything."""
    (node,) = mesh.open()
    task = mesh.task(sink=DISCARD)
    mesh.submit(task)
    node.tasks()
    node.finish([task.id])
    mesh.engine.wait_idle(lambda: None)
    assert mesh.engine.snapshot().done == 1


@pytest.mark.rule("R36")
def test_first_heartbeat_is_due_a_heartbeat_after_the_start(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """However quickly a node answers: here its welcome is there before the loop first looks."""
    (node,) = mesh.nodes(1)
    engine = mesh.make(Nodes(1))
    answered = threading.Event()
    turn = engine.turn

    def late(timeout: float, *, awaited: bool = False) -> None:
        if not answered.is_set():
            engine.hub.poll(0.01)  # says hello as soon as it is connected
            return
        link = engine.crew.mates[0].link
        assert link is not None
        if not link.ready:
            assert link.socket.poll(int(1000 * LONG))
            engine.hub._poller.used(link.socket)
        turn(timeout, awaited=awaited)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "turn", late)
        with mesh.opening():
            node.welcome()
            answered.set()
            node.expect(Roster)
    assert mesh.leaves_alone(node)
