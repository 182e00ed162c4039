"""What is to be done later: its order, and whom it is for."""

from __future__ import annotations

from math import inf

import pytest

from skyward.mesh.timers import SWEEP, Timers


class Owner:
    """Somebody whom commands are for."""

    def __init__(self) -> None:
        self.done: list[str] = []


def test_commands_run_when_they_are_due_and_in_order() -> None:
    """Soonest first, and those of one moment as they came."""
    timers, done = Timers(), []
    for moment, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (3.0, "d")):
        timers.add(moment, lambda name=name: done.append(name))
    assert timers.next() == 1.0
    timers.run(2.0)
    assert (done, timers.next(), len(timers.heap)) == (["a", "b", "c"], 3.0, 1)
    timers.clear()
    assert timers.next() == inf


@pytest.mark.rule("R21")
def test_command_goes_with_its_owner() -> None:
    """Nothing is kept alive for the sake of a time limit, and many that are void take no memory either."""
    timers, owner, gone = Timers(), Owner(), Owner()
    timers.add(1.0, lambda who: who.done.append("here"), owner)
    for _ in range(2 * SWEEP):
        timers.add(1.0, lambda who: who.done.append("gone"), gone)
    done = gone.done
    del gone
    for _ in range(2 * SWEEP):
        timers.add(2.0, lambda who: who.done.append("late"), Owner())
    assert len(timers.heap) <= SWEEP
    timers.run(1.0)
    assert (owner.done, done) == (["here"], [])
