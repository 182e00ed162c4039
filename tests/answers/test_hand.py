"""Small threads that serve the user's code."""

from __future__ import annotations

import threading
import time
import weakref
from functools import partial
from types import SimpleNamespace

import pytest

from skyward.answers import hand as module
from skyward.answers.hand import Alarm, Hand
from tests.rules.work import until

LONG = 20.0  # seconds that nothing here takes


def test_commands_run_in_order_in_one_thread() -> None:
    """The thread has the name it was given, and is not there before it is needed."""
    before = threading.active_count()
    hand = Hand("helper")
    assert threading.active_count() == before
    seen: list[tuple[int, str, bool]] = []

    def note(number: int) -> None:
        seen.append((number, threading.current_thread().name, hand.is_current()))

    for number in range(100):
        hand.do(partial(note, number))
    assert not hand.is_current()
    hand.close(LONG)
    assert seen == [(number, "helper", True) for number in range(100)]


@pytest.mark.rule("R21")
def test_hand_keeps_nothing_of_what_has_run() -> None:
    """A callback knows its future, and that its result."""

    class Result:
        def come(self) -> None:
            pass

    hand, result = Hand("helper"), Result()
    seen = weakref.ref(result)
    hand.do(result.come)
    del result
    until(lambda: seen() is None)
    hand.close(LONG)


def test_many_threads_start_one_hand() -> None:
    """First need may come from several sides at once."""
    hand = Hand("helper")
    barrier = threading.Barrier(8)
    idents: set[int] = set()
    lock = threading.Lock()

    def note() -> None:
        with lock:
            idents.add(threading.get_ident())

    def ask() -> None:
        barrier.wait(LONG)
        hand.do(note)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hand.close(LONG)
    assert len(idents) == 1


@pytest.mark.parametrize("error", [ZeroDivisionError("bad"), SystemExit(3), KeyboardInterrupt()])
def test_command_that_fails_ends_itself_only(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """It is told as a thread's end would be, and the next one runs."""
    told: list[tuple[object, str | None]] = []
    monkeypatch.setattr(
        threading, "excepthook", lambda args: told.append((args.exc_value, args.thread and args.thread.name))
    )
    hand = Hand("helper")

    def fail() -> None:
        raise error

    ran = threading.Event()
    hand.do(fail)
    hand.do(ran.set)
    hand.close(LONG)
    assert ran.is_set()
    assert told == [(error, "helper")]


def test_close_gives_up_on_a_blocked_command() -> None:
    """After its timeout; what was handed in still runs when it can."""
    hand = Hand("helper")
    let, ran = threading.Event(), threading.Event()
    hand.do(lambda: (let.wait(LONG), None)[1])
    hand.do(ran.set)
    begin = time.monotonic()
    hand.close(0.02)
    assert time.monotonic() - begin < LONG / 2
    assert not ran.is_set()
    let.set()
    assert ran.wait(LONG)
    hand.close(LONG)


def test_hand_may_close_itself() -> None:
    """A callback that closes the pool does not wait for itself."""
    hand = Hand("helper")
    closed = threading.Event()

    def close() -> None:
        hand.close(LONG)
        closed.set()

    hand.do(close)
    assert closed.wait(LONG / 4)


def test_closed_hand_starts_no_thread() -> None:
    """What comes after the end is not run."""
    hand = Hand("helper")
    hand.close(LONG)
    before = threading.active_count()
    hand.do(lambda: None)
    assert threading.active_count() == before


# --- alarms --------------------------------------------------------------------------------


def test_alarm_rings_at_its_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soonest first, whatever the order in which they were set; one thread for all, which then ends."""
    begin = time.monotonic()
    all_set = threading.Event()
    # Until all are set no time passes, however long that takes.
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() if all_set.is_set() else begin)
    monkeypatch.setattr(module, "time", clock)
    alarm = Alarm("clock")
    order: list[str] = []
    done = threading.Event()
    threads: set[threading.Thread] = set()

    def ring(name: str) -> None:
        order.append(name)
        threads.add(threading.current_thread())
        if len(order) == 3:
            done.set()

    alarm.after(0.1, lambda: ring("last"))
    alarm.after(0.05, lambda: ring("second"))
    alarm.after(0.0, lambda: ring("first"))
    all_set.set()
    assert done.wait(LONG)
    assert time.monotonic() - begin >= 0.1
    assert order == ["first", "second", "last"]
    (thread,) = threads
    thread.join(LONG)
    assert not thread.is_alive()


def test_alarm_can_be_used_again() -> None:
    """A new thread comes when the old one has gone, and a command may set the next alarm."""
    alarm = Alarm("clock")
    for _ in range(3):
        done = threading.Event()
        alarm.after(0.0, partial(alarm.after, 0.0, done.set))
        assert done.wait(LONG)


def test_command_that_fails_ends_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as a thread's end would be, and the next one runs."""
    told: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))
    alarm = Alarm("clock")
    error = ZeroDivisionError("bad")

    def fail() -> None:
        raise error

    ran = threading.Event()
    alarm.after(0.0, fail)
    alarm.after(0.001, ran.set)
    assert ran.wait(LONG)
    assert told == [error]
