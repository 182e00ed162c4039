"""What people are told about a pool, as text."""

from __future__ import annotations

import pytest

from skyward.mesh.view import Rate, Sight, Tally, count_of, duration, report, status, summary, timing, waits_for

IDLE = Sight(ready=2, target=2, starting=(), queued=0, running=0, done=0, failed=0)


@pytest.mark.parametrize(
    ("sight", "rate", "text"),
    [
        (IDLE, 0.0, "2 of 2 nodes · 0 done"),
        (
            IDLE._replace(ready=1, starting=(1,), queued=1200, running=1, done=35, failed=2),
            3.14159,
            "1 of 2 nodes · 1,200 queued · 1 running · 35 done · 2 failed · 3.1/s",
        ),
        (IDLE._replace(target=1, done=1_000_000), 12_345.6, "2 of 2 nodes · 1,000,000 done · 12,346/s"),
    ],
)
def test_status_has_what_there_is(sight: Sight, rate: float, text: str) -> None:
    """Nodes and what is done always, the rest if there is any."""
    assert status(sight, rate) == text


@pytest.mark.parametrize(
    ("sight", "text"),
    [
        (IDLE, ""),
        (IDLE._replace(ready=0, starting=(0,)), "waiting for node 0 to start"),
        (IDLE._replace(starting=(2, 3, 4, 5)), "waiting for nodes 2, 3, 4, … to start"),
        (IDLE._replace(ready=0, queued=3), "waiting for a node"),
        (IDLE._replace(ready=0, queued=3, cause="no room"), "waiting for a node (last trouble: no room)"),
        (IDLE._replace(running=2, names=("f", "g", "f"), cause="old"), "waiting for 2 × f, g"),
        (IDLE._replace(running=4, names=("a", "b", "c", "d")), "waiting for a, b, c, …"),
    ],
)
def test_wait_is_said(sight: Sight, text: str) -> None:
    """Nodes that start, a node at all, or tasks by their names."""
    assert waits_for(sight) == text
    assert sight.is_busy == bool(text)


def test_rate_is_that_of_the_last_seconds() -> None:
    """What was long ago does not count."""
    rate = Rate()
    assert rate.note(0.0, 100) == 0.0
    assert rate.note(1.0, 110) == 10.0
    found = [rate.note(float(second), 110 + 4 * (second - 1)) for second in range(2, 20)]
    assert found[-1] == 4.0


def test_group_is_counted_and_timed() -> None:
    """With its total, if that is known, and the time it will take."""
    tally = Tally("train", None, begun=10.0)
    tally.ended = 1000
    assert (count_of(tally), timing(tally, 20.0)) == ("1,000", "10.0 s")
    tally.total, tally.failed = 4000, 1
    assert (count_of(tally), timing(tally, 20.0)) == ("1,000 of 4,000, 1 failed", "10.0 s, 30.0 s left")
    assert report(IDLE, 0.0, [tally], 20.0) == [
        "2 of 2 nodes · 0 done",
        "train: 1,000 of 4,000, 1 failed in 10.0 s, 30.0 s left",
    ]
    tally.over = True
    assert summary(tally, 85.0) == "train: 1,000 of 4,000, 1 failed in 1:15"


def test_times_are_for_people() -> None:
    """Tenths of a second, minutes, hours."""
    assert [duration(seconds) for seconds in (0.04, 59.94, 61, 3600, 36_061)] == [
        "0.0 s", "59.9 s", "1:01", "1:00:00", "10:01:01",
    ]  # fmt: skip
