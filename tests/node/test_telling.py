"""When outcomes are told: as few times as may be, and before the worker has nothing to do."""

from __future__ import annotations

from typing import Any, cast

import pytest

from skyward.wire.frames import Payload
from skyward.wire.statuses import OK
from skyward_node.worker.outbox import Outbox
from skyward_node.worker.telling import AWAY_NS, LEAST_NS, MOST_NS, MOST_SIZE, Teller

MS = 1_000_000  # ns


class Desk:
    """A teller whose outbox and pipe are lists."""

    def __init__(self, *ahead: int) -> None:
        self.told: list[list[int]] = []
        self.coming: list[list[int]] = []  # what each look finds
        self.looks = 0
        self.order = list(ahead)
        self.outbox = Outbox(cast("Any", self), lambda: None)
        self.teller = Teller(self.outbox, self.order, self.look)
        self.teller.paused = False
        self.now = 100 * MS

    def write(self, *messages: Any) -> None:
        """Stand for the pipe: `Outbox.take` is replaced by what it takes."""
        self.told += messages

    def look(self) -> bool:
        """Take in what has come."""
        self.looks += 1
        self.order += self.coming.pop(0) if self.coming else []
        return True

    def run(self, took: int, data: bytes = b"", buffers: tuple[bytes, ...] = ()) -> None:
        """Do the next task, which takes so many ns."""
        id = self.order.pop(0)
        self.now += took
        self.teller.take((id, OK, Payload(data, buffers), 0), self.now - took, self.now)


@pytest.fixture(autouse=True)
def ids_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an outbox send the ids of its outcomes."""

    def take(self: Outbox, most: int = 1000) -> list[Any]:
        return [[self.done.popleft()[0] for _ in range(min(most, len(self.done)))]]

    monkeypatch.setattr(Outbox, "take", take)


def test_first_outcome_after_a_pause_is_told_at_once() -> None:
    """And no other one for that; a little work is not worth it."""
    desk = Desk(*range(1, 11))
    desk.teller.paused = True
    desk.run(LEAST_NS)
    assert desk.told == []
    desk.run(MS)
    assert desk.told == [[1, 2]]
    desk.run(MS)
    assert desk.told == [[1, 2]]


def test_outcomes_are_told_when_half_of_the_work_is_done() -> None:
    """Of six tasks in hand the first three are, in one message; the next tasks come while the others run."""
    desk = Desk(1, 2, 3, 4, 5, 6)
    for _ in range(3):
        assert desk.told == []
        desk.run(MS)
    assert desk.told == [[1, 2, 3]]


def test_last_but_one_is_told_at_once() -> None:
    """Else the worker would run dry while its client waits for nothing."""
    desk = Desk(1, 2)
    desk.run(LEAST_NS + 1)
    assert desk.told == [[1]]


@pytest.mark.parametrize("away", [AWAY_NS, 2 * AWAY_NS])
def test_who_comes_by_is_left_to_tell(away: int) -> None:
    """As long as the control thread does, what it will tell before the work in hand is done can wait for it."""
    desk = Desk(1, 2, 3, 4, 5, 6)
    for _ in range(3):
        desk.outbox.looked = desk.now + MS - away
        desk.run(MS)
    assert desk.told == ([] if away == AWAY_NS else [[1, 2, 3]])
    desk.outbox.send_ready(desk.now)
    assert desk.told == [[1, 2, 3]]
    for _ in range(2):
        desk.outbox.looked = desk.now
        desk.run(MS)
    assert desk.told == [[1, 2, 3], [4, 5]]  # one is left: it may not come in time


def test_what_has_come_meanwhile_is_work_in_hand() -> None:
    """It is looked for before anything is told, and only when it matters."""
    desk = Desk(1, 2, 3)
    desk.coming = [[4, 5, 6]]
    desk.run(MS)
    assert desk.looks == 0
    desk.run(MS)
    assert (desk.looks, desk.told) == (1, [])
    desk.run(MS)
    assert (desk.looks, desk.told) == (2, [[1, 2, 3]])


def test_little_work_is_not_worth_a_message() -> None:
    """Tasks of some microseconds gather until there are no more, or have taken long together."""
    desk = Desk(*range(100))
    for _ in range(99):
        desk.run(LEAST_NS // 100)
    assert (desk.looks, desk.told) == (0, [])
    desk = Desk(*range(1000))
    while not desk.told:
        desk.run(MS // 100)
    assert desk.now - 100 * MS == MOST_NS + MS // 100
    assert desk.looks == 0


def test_much_is_told_at_once() -> None:
    """Large values, and all that refers to memory that the next task could change."""
    desk = Desk(*range(10))
    desk.run(1, bytes(MOST_SIZE // 2))
    assert desk.told == []
    desk.run(1, bytes(MOST_SIZE // 2 + 1))
    assert desk.told == [[0, 1]]
    desk.run(1, bytes(MOST_SIZE // 2))
    desk.run(1, b"", (b"buffer",))
    assert desk.told == [[0, 1], [2, 3]]


def test_what_others_have_told_counts_no_more() -> None:
    """The control thread may have sent what had gathered: work and size begin anew."""
    desk = Desk(*range(100))
    for _ in range(9):
        desk.run(MOST_NS - 1, bytes(MOST_SIZE - 1))
        desk.outbox.done.clear()
    assert desk.told == []


def test_only_what_is_ready_is_sent_by_another_thread() -> None:
    """It does not touch what tasks print, so it must be out by then; little work is not worth that."""
    desk = Desk(*range(10))
    desk.run(1)
    desk.outbox.send_ready(desk.now)
    assert desk.told == []
    desk.run(MS)
    desk.outbox.send_ready(desk.now)
    assert desk.told == [[0, 1]]
    desk.outbox.send_ready(desk.now)
    desk.run(1)
    desk.outbox.send_ready(desk.now)
    assert desk.told == [[0, 1]]


@pytest.mark.rule("R17")
def test_outcomes_that_another_thread_has_told_meanwhile_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reports a task that takes long, with all outcomes there are, at any moment."""
    desk = Desk(1)
    look = desk.look

    def report() -> bool:
        desk.outbox.flush()
        return look()

    monkeypatch.setattr(desk.teller, "_look", report)
    desk.run(2 * LEAST_NS)
    assert desk.told == [[1]]
