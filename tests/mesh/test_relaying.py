"""Streams between two tasks, as the client passes them on: against nodes that say what the test wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward.wire.codec import pack_body
from skyward.wire.credit import FIRST, SIZE
from skyward.wire.frames import Payload
from skyward.wire.messages import Answer, Cancel, Credit, Function, Items, Revoke, Submit
from skyward.wire.statuses import OK
from tests.mesh.scripted import LONG, blob

if TYPE_CHECKING:
    from tests.mesh.meshes import Mesh
    from tests.mesh.scripted import Node

CALL = 77


def call(mesh: Mesh, *, mortal: bool = False) -> tuple[Node, int, Node, int]:
    """Return a node with its task, and another that runs the call which the task has made."""
    above, below = mesh.open(2, mortal=mortal)
    parent, _ = mesh.send(above)
    g = blob("g")
    above.send(Function(above.epoch, g.key, [], "g"), [g.body])
    columns = {"retries": [1], "timeouts": [0.0], "ranks": [-1], "names": ["g"]}
    submit = Submit(above.epoch, parent.id, [g.key], [CALL], [0], [6], [0], seq=above.number(), **columns)  # type: ignore[arg-type]  # mixed
    above.send(submit, [b"nested"])
    (id,) = below.tasks()
    return above, parent.id, below, id


def say(node: Node, id: int, *elements: bytes, stream: int = 0, first: int = 0, call: int = 0) -> None:
    """Send elements."""
    sizes, buffers, body = pack_body([Payload(element) for element in elements])
    node.send(Items(node.epoch, id, stream, first, sizes, buffers, end=False, seq=node.number(), call=call), body)


def grant(node: Node, id: int, items: int, *, stream: int = 0, call: int = 0) -> None:
    """Send credit."""
    node.send(Credit(node.epoch, id, stream, items, 1000, seq=node.number(), call=call))


@pytest.mark.rule("R22")
@pytest.mark.rule("R23")
def test_elements_and_credit_are_readdressed(mesh: Mesh) -> None:
    """What the call yields comes to its task under the number of the call, and before the answer."""
    above, parent, below, id = call(mesh)
    say(below, id, b"one", b"two")
    items = above.expect(Items)
    assert (items.epoch, items.id, items.call, items.stream, items.first) == (above.epoch, parent, CALL, 0, 0)
    assert bytes(above.body[0]) == b"onetwo"
    grant(above, parent, 5, call=CALL)
    credit = below.expect(Credit)
    assert (credit.epoch, credit.id, credit.call, credit.stream, credit.items) == (below.epoch, id, 0, 0, 5)
    say(below, id, b"three", first=2)
    below.finish([id], None)
    assert above.expect(Items).first == 2
    assert above.expect(Answer).statuses == [OK]


@pytest.mark.rule("R22")
@pytest.mark.rule("R24")
def test_arguments_are_fed_from_the_task_above(mesh: Mesh) -> None:
    """When the function asks, as far as it asks."""
    above, parent, below, id = call(mesh)
    grant(below, id, 2, stream=1)
    credit = above.expect(Credit)
    assert (credit.epoch, credit.id, credit.call, credit.stream, credit.items) == (above.epoch, parent, CALL, 1, 2)
    say(above, parent, b"one", b"two", stream=1, call=CALL)
    items = below.expect(Items)
    assert (items.epoch, items.id, items.call, items.stream) == (below.epoch, id, 0, 1)
    assert bytes(below.body[0]) == b"onetwo"


@pytest.mark.rule("R25")
@pytest.mark.rule("R43")
@pytest.mark.parametrize("end", ["above", "below"])
def test_more_than_was_granted_is_nonsense(mesh: Mesh, end: str) -> None:
    """Of the node that sends it: the client keeps what nobody takes, as far as somebody asked for it."""
    above, parent, below, id = call(mesh)
    if end == "below":
        say(below, id, *[b"element"] * (FIRST + 1))
        assert below.ended.wait(LONG)
    else:
        grant(below, id, 1, stream=1)
        above.expect(Credit)
        say(above, parent, b"one", b"two", stream=1, call=CALL)
        assert above.ended.wait(LONG)
    (cause,) = mesh.causes()
    assert "more elements of a stream than were granted" in cause
    assert mesh.engine.bug is None


@pytest.mark.rule("R25")
def test_bytes_are_counted_too(mesh: Mesh) -> None:
    """One element may have more than are left, the next has to wait."""
    _, _, below, id = call(mesh)
    say(below, id, b"x" * SIZE, b"y")
    assert below.ended.wait(LONG)


@pytest.mark.rule("R43")
@pytest.mark.parametrize("what", ["yields", "asks", "argument"])
def test_stream_in_the_wrong_direction_is_nonsense(mesh: Mesh, what: str) -> None:
    """A task does not yield for its call, asks for nothing that it feeds, and no function has so many arguments."""
    above, parent, below, id = call(mesh)
    if what == "yields":
        say(above, parent, b"one", call=CALL)
    elif what == "asks":
        grant(above, parent, 1, stream=1, call=CALL)
    else:
        grant(below, id, 1, stream=10**6)
    assert (below if what == "argument" else above).ended.wait(LONG)
    assert mesh.engine.bug is None


@pytest.mark.rule("R22")
def test_stream_of_a_revoked_call_is_dropped(mesh: Mesh) -> None:
    """In both directions, without harm: it was on its way."""
    above, parent, below, id = call(mesh)
    above.send(Revoke(above.epoch, parent, [CALL], above.number()))
    assert below.expect(Cancel).ids == [id]
    say(below, id, b"one")
    grant(below, id, 1, stream=1)
    grant(above, parent, 5, call=CALL)
    say(above, parent, b"one", stream=1, call=CALL)
    below.finish([id], None)
    above.finish([parent], "fine")
    mesh.engine.wait_idle(lambda: None)
    assert mesh.leaves_alone(above)


@pytest.mark.rule("R22")
@pytest.mark.rule("R36")
def test_call_that_has_yielded_is_not_run_again(mesh: Mesh) -> None:
    """Its node is lost: the task above is told, behind the elements that have come."""
    above, _, below, id = call(mesh, mortal=True)
    say(below, id, b"one")
    assert above.expect(Items).call == CALL
    below.die()
    assert above.expect(Answer).statuses != [OK]
