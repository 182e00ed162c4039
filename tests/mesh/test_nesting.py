"""Calls that tasks make, between the nodes they come from and the scheduler."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from skyward.dispatch.scheduler import BATCH
from skyward.dispatch.tasks import ANY
from skyward.errors import AbsentRankError
from skyward.mesh.nesting import Nesting
from skyward.results import DISCARD, CancelledError
from skyward.wire import failures
from skyward.wire.codec import pack_body, split_body
from skyward.wire.frames import Payload
from skyward.wire.messages import Submit
from skyward.wire.statuses import OK, REFUSED
from tests.mesh.scripted import blob

if TYPE_CHECKING:
    from skyward.dispatch.tasks import Task

F, G = blob("f"), blob("g")
BLOBS = {F.key: F, G.key: G}
EPOCHS = {0: 7, 1: 8}  # of the nodes that are there


def nesting() -> Nesting:
    """Return one that numbers its tasks from 100 on."""
    count = itertools.count(100)
    return Nesting(lambda: next(count))


def submit(nested: Nesting, calls: list[int], *, rank: int = 0, parent: int = 1, **changes: Any) -> list[Task]:
    """Return the tasks for calls of one parent."""
    count = len(calls)
    sizes, buffers, body = pack_body([Payload(b"args", (b"buffer",))] * count)
    columns: dict[str, Any] = {
        "functions": [F.key],
        "fns": [0] * count,
        "retries": [0] * count,
        "timeouts": [0.0] * count,
        "ranks": [ANY] * count,
        "names": ["f"] * count,
        **changes,
    }
    message = Submit(EPOCHS[rank], parent, calls=calls, sizes=sizes, buffers=buffers, **columns)
    return nested.submit(rank, message, body, [BLOBS[key] for key in message.functions])


def value(data: bytes = b"value") -> Any:
    """Return an outcome that is a value."""
    return (OK, data, (b"large",), 1, 100, "f")


def test_nested_calls_become_tasks() -> None:
    """Each with an id of the client's, and with what the parent said of it."""
    one, two = submit(
        nesting(), [8, 9], functions=[F.key, G.key], fns=[1, 0], retries=[3, 0], timeouts=[0.0, 2.5], ranks=[ANY, 1]
    )
    assert (one.id, one.function, one.retries, one.timeout, one.rank) == (100, G, 3, 0.0, ANY)
    assert (two.id, two.function, two.retries, two.timeout, two.rank) == (101, F, 0, 2.5, 1)
    assert (one.data, one.buffers, one.sink) == (b"args", (b"buffer",), two.sink)


def test_answers_leave_together() -> None:
    """Everything that has ended since the last time goes in one message, in the order of the ends."""
    nested = nesting()
    one, two, three = submit(nested, [7, 8, 9], ranks=[ANY, 3, ANY])
    one.node = 1
    three.sink.deliver(three, AbsentRankError(3, ()))
    one.sink.deliver(one, value(b"first"))
    two.sink.deliver(two, value(b"second"))
    assert bool(nested.answering)
    ((rank, answer, body),) = nested.flush(EPOCHS.get)
    assert list(nested.flush(EPOCHS.get)) == []
    assert (rank, answer.epoch, answer.parent) == (0, 7, 1)
    assert (answer.calls, answer.statuses, answer.ranks) == ([9, 7, 8], [REFUSED, OK, OK], [0, 1, 3])
    (failure, _), first, second = split_body(answer.sizes, answer.buffers, body)
    error = failures.to_exception(failure, function="f", node=0, task=1)
    assert isinstance(error, AbsentRankError)
    assert (first, second) == ((b"first", (b"large",)), (b"second", (b"large",)))
    assert nested.flush(EPOCHS.get) == []


def test_parent_may_go_on_submitting() -> None:
    """Later calls of the same parent are answered too."""
    nested = nesting()
    (one,) = submit(nested, [1])
    one.sink.deliver(one, value())
    nested.flush(EPOCHS.get)
    (two,) = submit(nested, [2])
    assert two.sink is one.sink
    two.sink.deliver(two, value())
    ((_, answer, _),) = nested.flush(EPOCHS.get)
    assert answer.calls == [2]


def test_many_answers_are_cut_into_messages() -> None:
    """No message has more answers than a batch."""
    nested = nesting()
    tasks = submit(nested, list(range(BATCH + 1)))
    for task in tasks:
        task.sink.deliver(task, value())
    messages = nested.flush(EPOCHS.get)
    assert [answer.calls for _, answer, _ in messages] == [list(range(BATCH)), [BATCH]]


def test_parents_are_told_apart_by_node_and_task() -> None:
    """The same number on another node is another parent."""
    nested = nesting()
    tasks = [
        submit(nested, [1], rank=0, parent=5)[0],
        submit(nested, [1], rank=1, parent=5)[0],
        submit(nested, [1], rank=1, parent=6)[0],
    ]
    for task in tasks:
        task.sink.deliver(task, value())
    messages = nested.flush(EPOCHS.get)
    assert [(rank, answer.epoch, answer.parent) for rank, answer, _ in messages] == [(0, 7, 5), (1, 8, 5), (1, 8, 6)]


def test_revoked_calls_are_not_answered() -> None:
    """Their tasks are given back to be cancelled, and belong to nobody; other calls are still answered."""
    nested = nesting()
    one, two = submit(nested, [1, 2])
    parent = two.sink
    assert nested.revoke(0, 1, [1, 99]) == [one]
    assert one.sink is DISCARD
    assert nested.revoke(0, 1, [1]) == []
    assert nested.revoke(1, 1, [2]) == []
    assert two.sink is parent


def test_answered_call_cannot_be_revoked() -> None:
    """It is over."""
    nested = nesting()
    (one,) = submit(nested, [1])
    one.sink.deliver(one, CancelledError())
    assert nested.revoke(0, 1, [1]) == []
    assert len(nested.flush(EPOCHS.get)) == 1


def test_parent_that_ended_gives_up_its_calls() -> None:
    """What it has not awaited is to be cancelled, and what is already there is not sent."""
    nested = nesting()
    one, two = submit(nested, [1, 2])
    one.sink.deliver(one, value())
    assert nested.parent_ended(0, 1) == [two]
    assert nested.parent_ended(0, 1) == []
    assert nested.answering
    assert nested.flush(EPOCHS.get) == []
    assert not nested.answering


def test_lost_node_gives_up_the_calls_of_its_tasks() -> None:
    """All of its parents end; those of other nodes go on."""
    nested = nesting()
    first = submit(nested, [1], parent=1) + submit(nested, [1], parent=2)
    (other,) = submit(nested, [1], rank=1)
    assert nested.node_lost(0) == first
    assert nested.node_lost(0) == []
    other.sink.deliver(other, value())
    assert len(nested.flush(EPOCHS.get)) == 1


def test_answer_to_a_node_that_has_gone_is_dropped() -> None:
    """A parent whose node has no link is not told."""
    nested = nesting()
    (one,) = submit(nested, [1])
    one.sink.deliver(one, value())
    assert nested.flush(lambda rank: None) == []
    (two,) = submit(nested, [2])
    two.sink.deliver(two, value())
    ((_, answer, _),) = nested.flush(EPOCHS.get)
    assert answer.calls == [2]
