"""The client keeps code for nobody but tasks, and for the nodes that count on it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from skyward.mesh import talk
from skyward.wire.functions import FunctionBlob
from skyward.wire.messages import Answer, Function, Need, Tasks
from skyward.wire.shelf import CALLS
from tests.mesh.scripted import LONG, blob
from tests.mesh.test_talk_nested import submit

if TYPE_CHECKING:
    from tests.mesh.meshes import Mesh
    from tests.mesh.scripted import Node

LARGE = bytes(CALLS)


def kept(prefix: str) -> list[str]:
    """Return the names of all functions in memory that begin so."""
    gc.collect()
    blobs: list[Any] = [it for it in gc.get_objects() if type(it) is FunctionBlob and it.name.startswith(prefix)]
    return sorted(it.name for it in blobs)


@pytest.mark.rule("R21")
def test_code_of_settled_tasks_is_let_go(mesh: Mesh) -> None:
    """Also if somebody keeps the task, as a future does."""
    (node,) = mesh.open()
    tasks = [mesh.task(blob(f"settled{number}", f"module{number}")) for number in range(3)]
    for task in tasks:
        mesh.submit(task)
        node.finish(node.tasks())
    mesh.engine.wait_idle(lambda: None)
    assert kept("settled") == []


@pytest.mark.rule("R19")
def test_need_is_answered_for_every_task_that_a_node_has(mesh: Mesh) -> None:
    """However much code has gone there since."""
    (node,) = mesh.open(slots=100)
    functions = [blob(f"f{number}", "m") for number in range(50)]
    for function in functions:
        mesh.submit(mesh.task(function))
        node.tasks()
    node.send(Need(node.epoch, [functions[0].key, functions[30].key], []))
    assert [node.expect(Function).key for _ in range(2)] == [functions[0].key, functions[30].key]


@pytest.mark.rule("R43")
def test_need_of_code_without_a_task_is_nonsense(mesh: Mesh) -> None:
    """A node that has told the result needs no code for it."""
    (node,) = mesh.open()
    task = mesh.task(blob("f"))
    mesh.submit(task)
    node.finish(node.tasks())
    mesh.engine.wait_idle(lambda: None)
    node.send(Need(node.epoch, [blob("f").key], []))
    assert node.ended.wait(LONG)
    assert "the node asks for code of which it has no task" in mesh.causes()[0]


def test_what_nodes_have_is_not_remembered_without_end(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was forgotten is sent once more: the node ignores it if it has it."""
    monkeypatch.setattr(talk, "KNOWN", 4)
    (node,) = mesh.open(slots=100)
    sent: list[str] = []
    for name in ("a", "b", "c", "d", "a", "e", "a", "a"):
        mesh.submit(mesh.task(blob(name)))
        node.tasks()
        sent += [message.name for message in node.code if isinstance(message, Function)]
    assert sent == ["a", "b", "c", "d", "e", "a"]


# --- calls of tasks ------------------------------------------------------------------------


def bring(node: Node, name: str) -> bytes:
    """Have a node send large code; return its key."""
    key = blob(name).key
    node.send(Function(node.epoch, key, [], name), [LARGE])
    return key


@pytest.mark.rule("R21")
def test_code_of_calls_is_given_up(mesh: Mesh) -> None:
    """What the newest calls need stays, and what tasks need."""
    node, other = mesh.open(2, slots=2)
    parent, _ = mesh.send(node)
    for number in range(6):
        submit(node, parent.id, [number], [bring(node, f"large{number}")], ranks=[1])
        message = other.expect(Tasks)
        if number:  # the first goes on
            other.finish(message.ids)
            assert node.expect(Answer).calls == [number]
    assert kept("large") == ["large0", "large4", "large5"]


@pytest.mark.rule("R22")
def test_code_that_the_client_keeps_need_not_come_again(mesh: Mesh) -> None:
    """Calls that name the functions of the calls before them."""
    node, other = mesh.open(2)
    parent, _ = mesh.send(node)
    keys = [bring(node, "large1"), bring(node, "large2")]
    for number in range(4):
        submit(node, parent.id, [number], [keys[number % 2]], ranks=[1])
        message = other.expect(Tasks)
        assert other.payloads(message) == [b"nested"]
        other.finish(message.ids)


@pytest.mark.rule("R43")
def test_call_of_code_that_was_given_up_is_nonsense(mesh: Mesh) -> None:
    """The node knows what the client keeps."""
    node, other = mesh.open(2)
    parent, _ = mesh.send(node)
    for number in range(3):
        submit(node, parent.id, [number], [bring(node, f"large{number}")], ranks=[1])
        other.finish(other.expect(Tasks).ids)
    submit(node, parent.id, [9], [blob("large0").key], ranks=[1])
    assert node.ended.wait(LONG)
    assert "nested calls of a function that was never sent" in mesh.causes()[0]


@pytest.mark.rule("R22")
def test_calls_that_are_said_again_count_as_uses(mesh: Mesh) -> None:
    """The node counts them, too; so both go on to agree about what the client keeps."""
    node, other = mesh.open(2)
    parent, _ = mesh.send(node)
    keys = [bring(node, "large1"), bring(node, "large2")]
    for number in range(2):
        submit(node, parent.id, [number], [keys[number]], ranks=[1], seq=number + 1)
        other.finish(other.expect(Tasks).ids)
    submit(node, parent.id, [0], [keys[0]], ranks=[1], seq=1)
    submit(node, parent.id, [2], [bring(node, "large3")], ranks=[1], seq=3)
    other.finish(other.expect(Tasks).ids)
    submit(node, parent.id, [3], [keys[0]], ranks=[1], seq=4)
    assert other.payloads(other.expect(Tasks)) == [b"nested"]


@pytest.mark.rule("R21")
def test_code_that_many_nodes_send_is_kept_once(mesh: Mesh) -> None:
    """A mesh costs no more than a node."""
    nodes = mesh.open(3)
    for node in nodes:
        parent, _ = mesh.send(node)
        submit(node, parent.id, [1], [bring(node, "large")], ranks=[99])
        assert node.expect(Answer).calls == [1]
    assert kept("large") == ["large"]
