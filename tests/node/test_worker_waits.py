"""Who waits in a task, and what the daemon hears of it."""

from __future__ import annotations

from typing import Any

from skyward_node.pipe_messages import Waiting
from skyward_node.worker.waits import Waits


def make() -> tuple[Waits, list[Any]]:
    """Return waits that write down what they do."""
    seen: list[Any] = []
    return Waits(seen.append, lambda task: seen.append(("lend", task)), lambda task: seen.append(("back", task))), seen


def test_daemon_hears_of_the_first_and_of_the_last() -> None:
    """However many wait in between."""
    waits, seen = make()
    for _ in range(3):
        waits.begin(1, idle=False)
    waits.end(1, idle=False)
    waits.begin(1, idle=False)
    assert seen == [("lend", 1), Waiting(1, waiting=True)]
    for _ in range(3):
        waits.end(1, idle=False)
    assert seen[2:] == [("back", 1), Waiting(1, waiting=False)]


def test_both_kinds_are_told_and_the_slot_is_lent_once() -> None:
    """It is taken back when neither is left."""
    waits, seen = make()
    waits.begin(1, idle=True)
    waits.begin(1, idle=False)
    assert seen == [("lend", 1), Waiting(1, waiting=True, idle=True), Waiting(1, waiting=True)]
    waits.end(1, idle=True)
    assert seen[3:] == [Waiting(1, waiting=False, idle=True)]
    waits.end(1, idle=False)
    assert seen[4:] == [("back", 1), Waiting(1, waiting=False)]


def test_tasks_are_counted_apart() -> None:
    """One that waits changes nothing for another."""
    waits, seen = make()
    waits.begin(1, idle=False)
    waits.begin(2, idle=False)
    waits.end(1, idle=False)
    assert seen[4:] == [("back", 1), Waiting(1, waiting=False)]


def test_wait_outlives_its_task() -> None:
    """Its slot is back with the task's end, of which the daemon hears anyway; the end of the wait means nothing."""
    waits, seen = make()
    waits.begin(1, idle=False)
    waits.forget(1)
    waits.end(1, idle=False)
    assert seen == [("lend", 1), Waiting(1, waiting=True), ("back", 1)]
