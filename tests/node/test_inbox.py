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
from skyward_node.worker.inbox import RECENT, Inbox


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
    inbox.add(*batch(3, 1, 2))  # type: ignore[arg-type]  # a list of buffers
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
    inbox.add(*batch(1, 3, 4))  # type: ignore[arg-type]  # as above
    assert list(inbox.pending) == [4]


def test_running_task_is_not_answered_for() -> None:
    """However long ago it was read."""
    inbox, _ = new()
    assert cancel(inbox, 1, running=False, current=1) == ([], [1])


@pytest.mark.rule("R17")
def test_task_that_came_back_is_answered_for_each_time() -> None:
    """Handed back unread, given again, and cancelled again: what runs may wait for it, so nothing waits to be read."""
    inbox, _ = new()
    assert cancel(inbox, 1, running=False)[0] == [1]
    assert cancel(inbox, 1, running=True)[0] == [1]
    inbox.add(*batch(1))  # type: ignore[arg-type]  # as above
    assert inbox.settle(Cancel(0, [1], False)) == []
    inbox.add(*batch(1))  # type: ignore[arg-type]  # as above
    assert inbox.settle(Cancel(0, [1], True)) == []
    assert not inbox.pending
    inbox.add(*batch(1))  # type: ignore[arg-type]  # as above
    assert list(inbox.pending) == [1]


@pytest.mark.rule("R17")
@pytest.mark.parametrize("read", [True, False])
def test_task_that_was_read_once_and_handed_back_is_answered_for_unread(read: bool) -> None:
    """Whether it had been handed back before it was read, or after that."""
    inbox, _ = new()
    if read:
        inbox.add(*batch(1))  # type: ignore[arg-type]  # as above
    assert cancel(inbox, 1, running=False)[0] == [1]
    if not read:
        inbox.add(*batch(1))  # type: ignore[arg-type]  # as above
    assert inbox.settle(Cancel(0, [1], False)) == []
    assert cancel(inbox, 1, running=False)[0] == [1]


@pytest.mark.rule("R17")
def test_task_that_came_back_begins_in_its_new_place() -> None:
    """The daemon goes by the order in which it has given them: what it takes for the one that runs lends its slot."""
    order: list[int] = []
    inbox = Inbox(order.append, order.remove)
    inbox.add(*batch(1, 2))  # type: ignore[arg-type]  # as above
    assert cancel(inbox, 2, running=False)[0] == [2]
    assert inbox.settle(Cancel(0, [2], False)) == []
    inbox.add(*batch(3, 2))  # type: ignore[arg-type]  # as above
    assert order == [1, 3, 2]


@pytest.mark.rule("R17")
def test_cancel_that_comes_after_its_copy_takes_nothing_that_was_given_since() -> None:
    """The copy has handed the task back, and it was given again: that is for the next cancel."""
    inbox, _ = new()
    inbox.add(*batch(1))  # type: ignore[arg-type]  # as above
    assert inbox.settle(Cancel(0, [1], False)) == [1]
    inbox.add(*batch(1))  # type: ignore[arg-type]  # as above
    assert cancel(inbox, 1, running=False) == ([], [1])
    assert cancel(inbox, 1, running=False) == ([1], [])
    assert inbox.settle(Cancel(0, [1], False)) == []
    inbox.add(*batch(1))  # type: ignore[arg-type]  # as above
    assert list(inbox.pending) == [1]


def test_copy_that_is_read_first_does_the_work() -> None:
    """The copy on the data pipe may be read before the cancel itself, which then leaves nothing behind."""
    inbox, _ = new()
    inbox.add(*batch(1))  # type: ignore[arg-type]  # as above
    assert inbox.settle(Cancel(0, [1, 2], True)) == [1]
    assert cancel(inbox, 1, 2) == ([], [1, 2])
    assert not inbox._doomed


class Pipes:
    """A daemon, a worker of one slot, and the three pipes between them, each read when chance says so."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.inbox, self.order = new()
        self.data: list[Tasks | Cancel] = []
        self.control: list[Cancel] = []
        self.up: list[tuple[str, list[int]]] = []
        self.current: int | None = None
        self.sent = 0
        self.held: set[int] = set()  # what the daemon has given and not got back
        self.asked: set[int] = set()  # what it has asked for, of this
        self.back: list[int] = []  # what it has to give again
        self.unwanted: set[int] = set()  # what is to end, and is not given again
        self.ran: list[int] = []
        self.steps = {
            "give": self.give, "give again": self.give_again, "ask back": self.ask_back, "end some": self.end_some,
            "read data": self.read_data, "read control": self.read_control, "begin": self.begin, "end": self.end,
            "hear": self.hear,
        }  # fmt: skip

    def give(self) -> None:
        """Give two tasks."""
        self.sent += 2
        self._hand_over([self.sent - 1, self.sent])

    def give_again(self) -> None:
        """Give what came back."""
        back, self.back = self.back, []
        self._hand_over(back)

    def _hand_over(self, ids: list[int]) -> None:
        if ids:
            self.held.update(ids)
            self.data.append(batch(*ids)[0])

    def ask_back(self) -> None:
        """Ask for some of what was given."""
        self._cancel(self._some(self.held - self.asked - self.unwanted), running=False)

    def end_some(self) -> None:
        """Have some end that were given, asked for or not."""
        ids = self._some(self.held - self.unwanted)
        self.unwanted.update(ids)
        self._cancel(ids, running=True)

    def _some(self, ids: set[int]) -> list[int]:
        return [id for id in sorted(ids) if self.chance.random() < 0.7]

    def _cancel(self, ids: list[int], *, running: bool) -> None:
        if ids:
            self.asked.update(ids)
            self.data.append(Cancel(0, ids, running))
            self.control.append(Cancel(0, ids, running))

    def read_data(self) -> None:
        """The main thread reads a message."""
        if self.data:
            message = self.data.pop(0)
            if isinstance(message, Cancel):
                self._answer(message, self.inbox.settle(message))
            else:
                self.inbox.add(*batch(*message.ids))  # type: ignore[arg-type]  # as above

    def read_control(self) -> None:
        """The control thread reads one, and interrupts what runs if it shall end."""
        if self.control:
            message = self.control.pop(0)
            dropped, others = self.inbox.cancel(message, lambda: [self.current])
            self._answer(message, dropped)
            if message.running and self.current in others:
                self.end()

    def _answer(self, message: Cancel, ids: list[int]) -> None:
        if ids:
            self.up.append(("ended" if message.running else "back", ids))

    def begin(self) -> None:
        """The slot takes a task."""
        if self.current is None and self.order:
            id = self.order.pop(0)
            if self.inbox.pending.pop(id, None) is not None:
                self.current = id

    def end(self) -> None:
        """The task ends."""
        if self.current is not None:
            self.ran.append(self.current)
            self.up.append(("done", [self.current]))
            self.current = None

    def hear(self) -> None:
        """The daemon reads a message. What is not to end has one answer each time that it was given."""
        if self.up:
            kind, ids = self.up.pop(0)
            assert {id for id in ids if id not in self.held} <= self.unwanted
            self.held.difference_update(ids)
            self.asked.difference_update(ids)
            if kind == "back":
                self.back += [id for id in ids if id not in self.unwanted]


# Not so long that what was read is forgotten: then what has finished is answered for, too, which the daemon ignores.
@given(st.lists(st.sampled_from(list(Pipes(random.Random(0)).steps)), max_size=RECENT), st.integers(0, 2**32))
def test_every_task_runs_once_and_nothing_waits_behind_one_that_waits(script: list[str], seed: int) -> None:
    """However the pipes are read. What runs may never end before what was asked back is: that comes without it."""
    pipes = Pipes(random.Random(seed))
    for word in script:
        pipes.steps[word]()
    while pipes.control or pipes.up:  # the data pipe may not be read now, and the slot not go on
        pipes.read_control()
        pipes.hear()
    assert pipes.asked <= {pipes.current}
    while pipes.data or pipes.back or pipes.order or pipes.current is not None:
        for word in ("give again", "read data", "begin", "end", "hear"):
            pipes.steps[word]()
    assert len(pipes.ran) == len(set(pipes.ran))
    assert set(range(1, pipes.sent + 1)) - pipes.unwanted <= set(pipes.ran)
    assert not pipes.inbox.pending
    assert not pipes.inbox._doomed


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
    inbox.add_one(Call(0, 0, bytes(16), 2, b"x2"))
    assert (order, inbox.pending) == ([], {})
    assert inbox.settle(Cancel(0, [2], running=True)) == []
    assert inbox.claim(3, slot)
