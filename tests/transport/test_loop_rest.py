"""When the background thread does not look for what comes, and what ends that."""

from __future__ import annotations

import threading
import time

import pytest

from skyward.answers.waiting import Waiter
from tests.transport.rigs import LONG, Rig


class Alarm:
    """Stands for what ends a rest: tells that one has begun, and ends it when the test says so."""

    def __init__(self) -> None:
        self.rests = threading.Event()
        self.over = threading.Event()

    def poll(self, _milliseconds: int) -> None:
        """Rest."""
        self.rests.set()
        assert self.over.wait(LONG)


def test_deaf_background_rests_between_two_turns(running: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands gather meanwhile, and run when it is over."""
    alarm = Alarm()
    monkeypatch.setattr(running.loop, "_alarm", alarm)
    ran = threading.Event()
    running.loop.post(lambda: running.loop.doze(deaf=True))
    assert alarm.rests.wait(LONG)
    running.loop.post(ran.set)
    assert not ran.is_set()
    assert not running.inside.locked()
    alarm.over.set()
    assert ran.wait(LONG)


def test_loop_is_left_to_who_comes_and_goes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The background thread lets a caller come back, unless somebody else has something to do; then it is there."""
    monkeypatch.setattr("skyward.transport.loop.GRACE", LONG)
    monkeypatch.setattr("skyward.transport.loop.LINGER", LONG)
    rig.loop.start()
    rig.busy = True
    for _ in range(100):
        waiter = Waiter()
        rig.on_turn.append(waiter.finish)
        rig.due = 0.0
        assert rig.loop.wait(waiter)
    assert rig.drivers == {threading.get_ident()}
    rig.due = LONG
    ran: list[int] = []
    posted = threading.Event()
    rig.loop.post(lambda: ran.append(threading.get_ident()))
    rig.loop.post(posted.set)
    assert posted.wait(LONG / 2)
    assert ran[0] != threading.get_ident()
    rig.loop.close(LONG)


@pytest.mark.rule("R7")
def test_who_comes_and_goes_without_a_look_keeps_nobody_waiting(running: Rig) -> None:
    """Whoever asks again and again how it goes does not poll: the background thread does."""
    running.busy = True
    running.due = 0.0
    handled = threading.Event()
    running.on_turn.append(handled.set)
    deadline = time.monotonic() + LONG
    while not handled.is_set():
        assert time.monotonic() < deadline
        running.loop.run(lambda: None)


def test_whoever_begins_to_wait_ends_the_rest(running: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """He takes over, and rests for nobody."""
    monkeypatch.setattr("skyward.transport.loop.REST", 1000 * LONG)
    begin = time.monotonic()
    for _ in range(20):
        running.loop.post(lambda: running.loop.doze(deaf=True))
        waiter = Waiter()
        running.on_turn.append(lambda: running.loop.doze(deaf=True))
        running.on_turn.append(waiter.finish)
        running.due = 0.0
        assert running.loop.wait(waiter)
    assert time.monotonic() - begin < LONG


def test_loop_closes_while_its_background_rests(running: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the rest to be over."""
    monkeypatch.setattr("skyward.transport.loop.REST", 1000 * LONG)
    running.loop.post(lambda: running.loop.doze(deaf=True))
    running.loop.close(LONG)
    assert not running.loop._thread.is_alive()
