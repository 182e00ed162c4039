"""Who takes a task: a slot, or a cancel that may come before it."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.wire.codec import pack_body
from skyward.wire.frames import Payload
from skyward.wire.lone import Call
from skyward.wire.messages import Cancel, Tasks
from skyward_node.worker.inbox import Inbox


def batch(*ids: int) -> tuple[Tasks, list[object]]:
    """Return a message with these tasks."""
    sizes, buffers, body = pack_body([Payload(b"x%d" % id, ()) for id in ids])
    return Tasks(0, 0, [bytes(16)], list(ids), [0] * len(ids), sizes, buffers), list(body)


def new() -> tuple[Inbox, list[int]]:
    """Return an inbox, and the list of what it announces."""
    order: list[int] = []
    return Inbox(order.append), order


def test_tasks_wait_in_order_with_their_arguments() -> None:
    """Every task of a batch is announced and pending, with its own bytes."""
    inbox, order = new()
    assert inbox.add(*batch(3, 1, 2)) == []  # type: ignore[arg-type]  # a list of buffers
    assert order == [3, 1, 2]
    assert [(id, bytes(data)) for id, _, data, _, _ in inbox.pending.values()] == [(3, b"x3"), (1, b"x1"), (2, b"x2")]


def cancel(inbox: Inbox, *ids: int, running: bool = True, current: int | None = None) -> tuple[list[int], list[int]]:
    """Apply a cancel from the control pipe."""
    return inbox.cancel(Cancel(0, list(ids), running), lambda: [current])


def test_cancel_takes_what_is_pending_and_names_the_rest() -> None:
    """A cancel owns what it pops; what it does not find runs, has finished, or is unread."""
    inbox, order = new()
    inbox.add(*batch(1, 2, 3, 4))  # type: ignore[arg-type]  # as above
    for id in (3, 4):
        order.remove(id)
        del inbox.pending[id]
    assert cancel(inbox, 2, 3, 4, current=4) == ([2], [3, 4])
    assert list(inbox.pending) == [1]


@pytest.mark.rule("R17")
def test_no_task_begins_before_one_that_is_handed_back() -> None:
    """A slot may take tasks while they are taken away: it is left with the first ones."""

    class Taken(dict[int, Any]):
        def pop(self, key: int, *default: Any) -> Any:
            if order:  # the slot is just as fast
                super().pop(order.pop(0), None)
            return super().pop(key, *default)

    inbox, order = new()
    inbox.pending = Taken()
    inbox.add(*batch(*range(10)))  # type: ignore[arg-type]  # as above
    assert cancel(inbox, *range(10), running=False, current=4) == ([5, 6, 7, 8, 9], [0, 1, 2, 3, 4])


def test_unread_tasks_are_answered_for_at_once_and_dropped_later() -> None:
    """A task that sits in the pipe behind one that runs for long is free to run elsewhere now."""
    inbox, _ = new()
    assert cancel(inbox, 1, 2) == ([1, 2], [1, 2])
    assert cancel(inbox, 3, running=False) == ([3], [3])
    assert inbox.add(*batch(1, 3, 4)) == []  # type: ignore[arg-type]  # as above
    assert list(inbox.pending) == [4]


def test_running_task_is_not_answered_for() -> None:
    """However long ago it was read."""
    inbox, _ = new()
    assert cancel(inbox, 1, running=False, current=1) == ([], [1])


def test_task_that_came_back_is_answered_for_once_each_time() -> None:
    """Handed back unread, given again, and cancelled again: the second copy is told when it is read."""
    inbox, _ = new()
    assert cancel(inbox, 1, running=False)[0] == [1]
    assert cancel(inbox, 1, running=True)[0] == []
    assert inbox.add(*batch(1)) == []  # type: ignore[arg-type]  # as above
    assert inbox.settle(Cancel(0, [1], False)) == []
    assert inbox.add(*batch(1)) == [([1], True)]  # type: ignore[arg-type]  # as above
    assert inbox.settle(Cancel(0, [1], True)) == []
    assert inbox.add(*batch(1)) == []  # type: ignore[arg-type]  # as above
    assert list(inbox.pending) == [1]


def test_copy_that_is_read_first_does_the_work() -> None:
    """The copy on the data pipe may be read before the cancel itself, which then leaves nothing behind."""
    inbox, _ = new()
    inbox.add(*batch(1))  # type: ignore[arg-type]  # as above
    assert inbox.settle(Cancel(0, [1, 2], True)) == [1]
    assert cancel(inbox, 1, 2) == ([], [1, 2])
    assert not inbox._doomed


@given(st.lists(st.sampled_from(["tasks", "cancel", "take"]), max_size=30), st.integers(0, 2**32))
def test_every_task_is_taken_once_and_nothing_is_remembered(script: list[str], seed: int) -> None:
    """However the two pipes are read, each task has one owner, and in the end no doom is left."""
    chance = random.Random(seed)
    inbox, order = new()
    data: list[Tasks | Cancel] = []
    control: list[Cancel] = []
    taken: list[int] = []
    sent = 0
    for word in script:
        if word == "tasks":
            sent += 2
            data.append(batch(sent - 1, sent)[0])
        elif word == "cancel" and sent:
            cancel = Cancel(0, chance.sample(range(1, sent + 1), min(sent, 2)), chance.random() < 0.5)
            data.append(cancel)
            control.append(cancel)
    while data or control or order:
        choice = chance.choice("dct")
        if choice == "d" and data:
            message = data.pop(0)
            if isinstance(message, Cancel):
                taken += inbox.settle(message)
            else:
                taken += [id for ids, _ in inbox.add(*batch(*message.ids)) for id in ids]  # type: ignore[arg-type]  # as above
        elif choice == "c" and control:
            taken += inbox.cancel(control.pop(0), list)[0]
        elif choice == "t" and order:
            entry = inbox.pending.pop(order.pop(0), None)
            taken += [entry[0]] if entry else []
    assert sorted(taken) == list(range(1, sent + 1))
    assert not inbox.pending
    assert not inbox._doomed


@pytest.mark.rule("R7")
def test_idle_slot_takes_a_lone_task_at_once() -> None:
    """It is current before a cancel can look for it, and known as read; one that was cancelled before has to wait."""
    inbox, order = new()
    slot = cast("Any", SimpleNamespace(current=None))
    assert inbox.claim(1, slot)
    assert slot.current == 1
    assert cancel(inbox, 1, current=1) == ([], [1])
    assert inbox.settle(Cancel(0, [1], running=True)) == []
    assert (order, inbox.pending) == ([], {})
    assert cancel(inbox, 2) == ([2], [2])  # is unread: answered for at once
    assert not inbox.claim(2, slot)
    assert slot.current == 1
    assert inbox.add_one(Call(0, 0, bytes(16), 2, b"x2")) == []
    assert (order, inbox.pending) == ([], {})
    assert inbox.settle(Cancel(0, [2], running=True)) == []
    assert inbox.claim(3, slot)
