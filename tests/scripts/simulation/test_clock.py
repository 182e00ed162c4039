"""Simulated time, and threads that take it."""

from __future__ import annotations

from skyward_scripts.simulation.clock import Clock, Desk


def test_things_happen_in_order() -> None:
    """By moment, and within a moment as they were planned."""
    clock = Clock()
    seen: list[tuple[str, float]] = []
    for name, moment in [("c", 2.0), ("a", 1.0), ("b", 1.0)]:
        clock.at(moment, lambda name: seen.append((name, clock.now)), name)
    while clock.step():
        pass
    assert seen == [("a", 1.0), ("b", 1.0), ("c", 2.0)]


def test_desk_works_in_turns() -> None:
    """What comes during a turn waits for the next one, and is handled together."""
    clock = Clock()
    turns: list[tuple[float, list[str]]] = []

    def work(items: list[str]) -> None:
        turns.append((clock.now, items))
        desk.spent += 1.0

    desk = Desk(clock, work)
    desk.put("a")
    clock.at(0.3, desk.put, "b")
    clock.at(0.6, desk.put, "c")
    clock.at(5.0, desk.put, "d")
    while clock.step():
        pass
    assert turns == [(0.0, ["a"]), (1.0, ["b", "c"]), (5.0, ["d"])]
    assert desk.busy == 3.0


def test_nothing_leaves_a_desk_before_it_is_paid_for() -> None:
    """What is planned in a turn happens after what the turn has spent until then."""
    clock = Clock()
    left: list[float] = []

    def work(items: list[str]) -> None:
        for _ in items:
            desk.spent += 1.0
            desk.later(0.25, lambda: left.append(clock.now))

    desk = Desk(clock, work)
    desk.put("a")
    while clock.step():
        pass
    assert left == [1.25]
