"""Something a thread can wait for."""

from __future__ import annotations

import threading
import time

from skyward.answers.waiting import Waiter

LONG = 30.0  # seconds that nothing here takes


def started(target: object) -> threading.Thread:
    """Return a thread that runs the target."""
    thread = threading.Thread(target=target)  # type: ignore[arg-type]  # a function
    thread.start()
    return thread


def test_finished_waiter_is_done() -> None:
    """Finishing needs no thread that waits, and may be repeated."""
    waiter = Waiter()
    assert not waiter.done
    waiter.finish()
    waiter.finish()
    assert waiter.done


def test_finish_wakes_the_parked_thread() -> None:
    """Whoever sleeps is woken by another thread's finish."""
    waiter = Waiter()
    waiter.prepare_to_park()
    thread = started(waiter.finish)
    waiter.park(LONG)
    assert waiter.done
    thread.join()


def test_wake_up_before_the_park_is_remembered() -> None:
    """Between preparing and parking nothing is lost."""
    waiter = Waiter()
    waiter.prepare_to_park()
    waiter.unpark()
    waiter.unpark()
    begin = time.monotonic()
    waiter.park(LONG)
    assert time.monotonic() - begin < LONG / 2
    assert not waiter.done


def test_wake_up_counts_once() -> None:
    """A park takes the wake-up with it; the next one sleeps."""
    waiter = Waiter()
    waiter.prepare_to_park()
    waiter.unpark()
    waiter.park(LONG)
    waiter.prepare_to_park()
    begin = time.monotonic()
    waiter.park(0.02)
    assert time.monotonic() - begin >= 0.02


def test_unpark_without_a_thread_is_forgotten() -> None:
    """Before anybody prepares there is nothing to wake."""
    waiter = Waiter()
    waiter.unpark()
    waiter.prepare_to_park()
    begin = time.monotonic()
    waiter.park(0.02)
    assert time.monotonic() - begin >= 0.02


def test_park_takes_any_timeout() -> None:
    """A moment that has passed returns at once, one that no clock reaches is no error."""
    waiter = Waiter()
    waiter.prepare_to_park()
    waiter.park(-1.0)
    waiter.unpark()
    waiter.park(1e300)


def test_wakers_may_race() -> None:
    """Any number of threads may wake the same waiter at the same moment."""
    waiter = Waiter()
    for _ in range(200):
        waiter.prepare_to_park()
        gate = threading.Barrier(3)

        def wake(gate: threading.Barrier = gate) -> None:
            gate.wait()
            waiter.unpark()

        threads = [started(wake), started(wake)]
        gate.wait()
        waiter.park(LONG)
        for thread in threads:
            thread.join()
        waiter.park(0.0)  # what the slower one may have left
