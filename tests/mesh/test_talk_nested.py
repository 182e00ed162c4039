"""Calls of tasks, and nonsense, against a node that says what the test wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire import failures, payload
from skyward.wire.codec import encode, pack_body, split_body
from skyward.wire.frames import Payload
from skyward.wire.messages import (
    MAX_BATCH,
    PROTOCOL,
    Answer,
    Beat,
    Cancel,
    Function,
    Module,
    Need,
    Results,
    Revoke,
    Slots,
    Submit,
    Tasks,
)
from skyward.wire.statuses import CANCELLED, OK, Failure
from tests.mesh.scripted import LONG, blob

if TYPE_CHECKING:
    from tests.mesh.meshes import Mesh
    from tests.mesh.scripted import Node

GIVEN_UP = failures.encode(Failure(CANCELLED))


# --- nested calls --------------------------------------------------------------------------


def submit(node: Node, parent: int, calls: list[int], functions: list[bytes], **changes: Any) -> None:
    """Have a task call functions whose code has been sent."""
    count = len(calls)
    sizes, buffers, body = pack_body([Payload(b"nested")] * count)
    columns: dict[str, Any] = {
        "fns": [0] * count,
        "retries": [1] * count,
        "timeouts": [0.0] * count,
        "ranks": [-1] * count,
        "names": ["g"] * count,
        "seq": changes.pop("seq", 0) or node.number(),
    }
    node.send(
        Submit(node.epoch, parent, functions, calls, sizes=sizes, buffers=buffers, **{**columns, **changes}), body
    )


@pytest.mark.rule("R22")
def test_nested_call_goes_round_by_the_client(mesh: Mesh) -> None:
    """Code from one node and a call of it run on another, and the answer comes back with the rank."""
    node, other = mesh.open(2)
    parent, single = mesh.send(node)
    g = blob("g", "m")
    (m,) = g.modules
    node.send(Module(node.epoch, m.key, "m"), [m.body])
    node.send(Function(node.epoch, g.key, [m.key], "g"), [g.body])
    submit(node, parent.id, [77], [g.key])
    message = other.expect(Tasks)
    assert [type(part) for part in other.code] == [Module, Function]
    assert other.payloads(message) == [b"nested"]
    other.finish(message.ids, "nested value")
    answer = node.expect(Answer)
    assert (answer.seq, answer.parent, answer.calls, answer.statuses, answer.ranks) == (1, parent.id, [77], [OK], [1])
    ((data, _),) = split_body(answer.sizes, answer.buffers, node.body)
    assert payload.loads_value(data, ()) == "nested value"
    node.finish([parent.id], "parent value")
    assert mesh.outcome(single) == "parent value"


def test_code_of_a_node_is_not_sent_back_to_it(mesh: Mesh) -> None:
    """A nested call that runs on its own node finds its code there."""
    (node,) = mesh.open(slots=2)
    parent, _ = mesh.send(node)
    g = blob("g")
    node.send(Function(node.epoch, g.key, [], "g"), [g.body])
    submit(node, parent.id, [5], [g.key])
    node.tasks()
    assert node.code == []


def test_code_may_need_modules_of_other_code(mesh: Mesh) -> None:
    """A module that has come from the node for one function need not come again for the next."""
    node, other = mesh.open(2)
    parent, _ = mesh.send(node)
    f, g = blob("f", "m"), blob("g", "m")
    node.send(Module(node.epoch, f.modules[0].key, "m"), [f.modules[0].body])
    for function in (f, g):
        node.send(Function(node.epoch, function.key, [function.modules[0].key], function.name), [function.body])
    submit(node, parent.id, [1], [g.key])
    other.tasks()
    assert [type(part) for part in other.code] == [Module, Function]


@pytest.mark.rule("R22")
def test_revoked_nested_call_is_cancelled(mesh: Mesh) -> None:
    """What the parent does not want any more is stopped, and not answered."""
    node, other = mesh.open(2)
    parent, single = mesh.send(node)
    g = blob("g")
    node.send(Function(node.epoch, g.key, [], "g"), [g.body])
    submit(node, parent.id, [1], [g.key])
    ids = other.tasks()
    node.send(Revoke(node.epoch, parent.id, [1], node.number()))
    assert other.expect(Cancel) == Cancel(other.epoch, ids, True)
    other.finish(ids, status=CANCELLED, data=GIVEN_UP)
    node.finish([parent.id], "fine")
    assert mesh.outcome(single) == "fine"
    mesh.engine.wait_idle(lambda: None)
    assert mesh.leaves_alone(node)


@pytest.mark.rule("R22")
def test_nested_call_ends_with_its_parent(mesh: Mesh) -> None:
    """What a task has submitted and not awaited is stopped when it ends."""
    node, other = mesh.open(2)
    parent, single = mesh.send(node)
    g = blob("g")
    node.send(Function(node.epoch, g.key, [], "g"), [g.body])
    submit(node, parent.id, [1], [g.key])
    ids = other.tasks()
    node.finish([parent.id], "fine")
    assert mesh.outcome(single) == "fine"
    assert other.expect(Cancel).ids == ids


def test_answers_are_cut_into_messages(mesh: Mesh) -> None:
    """Many calls that fail at once are answered in messages that a peer takes."""
    (node,) = mesh.open()
    parent, _ = mesh.send(node)
    g = blob("g")
    node.send(Function(node.epoch, g.key, [], "g"), [g.body])
    total = MAX_BATCH + 1
    submit(node, parent.id, list(range(MAX_BATCH)), [g.key], ranks=[9] * MAX_BATCH)
    submit(node, parent.id, [MAX_BATCH], [g.key], ranks=[9])
    calls: list[int] = []
    while len(calls) < total:
        calls += node.expect(Answer).calls
    assert calls == list(range(total))


# --- nonsense ------------------------------------------------------------------------------


def _unknown_function(node: Node) -> None:
    submit(node, 1, [1], [bytes(16)])


def _unknown_need(node: Node) -> None:
    node.send(Need(node.epoch, [bytes(16)], []))


def _unknown_module(node: Node) -> None:
    node.send(Function(node.epoch, bytes(16), [b"m" * 16], "f"), [b"code"])


def _truncated_body(node: Node) -> None:
    results = Results(node.epoch, 1, [1], [OK], [10], [0], [1])
    node.send(results, [b"short"])


NONSENSE = {
    "an unknown type": lambda node: node.send_frames([bytes((PROTOCOL, 63)) + b"\x90"]),
    "a type of the client's": lambda node: node.send(Beat(node.epoch, 0, 0.0)),
    "a garbage header": lambda node: node.send_frames([bytes((PROTOCOL, Results.TYPE)) + b"\xc1garbage"]),
    "another protocol": lambda node: node.send_frames([b"\x09" + encode(Slots(node.epoch, 1))[1:]]),
    "an empty message": lambda node: node.send_frames([b""]),
    "a truncated body": _truncated_body,
    "a body where none belongs": lambda node: node.send(Slots(node.epoch, 1), [b"body"]),
    "columns of different lengths": lambda node: node.send(Results(node.epoch, 1, [1, 2], [OK], [1], [0], [1]), [b"x"]),
    "nested calls of unknown code": _unknown_function,
    "a need of unknown code": _unknown_need,
    "code with unknown modules": _unknown_module,
}


@pytest.mark.rule("R43")
@pytest.mark.rule("F39")
@pytest.mark.rule("F44")
@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_costs_its_node_only(mesh: Mesh, what: str) -> None:
    """A node that makes no sense is given up, its task moves, and everyone else goes on."""
    node, other = mesh.open(2)
    task, moved = mesh.send(node)
    mine, mate = mesh.send(other)
    NONSENSE[what](node)
    assert node.ended.wait(LONG)
    (cause,) = mesh.causes()
    assert cause.startswith("node 0: it sent a message that makes no sense: ")
    other.finish([mine.id], "at home")
    assert mesh.outcome(mate) == "at home"
    assert other.tasks() == [task.id]
    other.finish([task.id], "moved")
    assert mesh.outcome(moved) == "moved"
    assert mesh.engine.bug is None


def test_nothing_is_read_after_nonsense(mesh: Mesh) -> None:
    """What a given-up node said behind its nonsense is not heard."""
    node, other = mesh.open(2)
    task, single = mesh.send(node)
    node.send_frames([b"\x01\x3f\x90"])
    node.finish([task.id], "behind")
    assert other.tasks() == [task.id]
    other.finish([task.id], "elsewhere")
    assert mesh.outcome(single) == "elsewhere"
