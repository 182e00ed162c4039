"""Who polls: one thread at a time, the one that waits if there is one."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from skyward.answers.waiting import Waiter
from tests.transport.rigs import LONG, Rig, thread

if TYPE_CHECKING:
    from collections.abc import Callable

# --- waiting ------------------------------------------------------------------------------------------


def test_waiting_thread_drives_by_itself(rig: Rig) -> None:
    """A lone call needs no other thread: there is none here."""
    waiter = Waiter()
    rig.on_turn.append(waiter.finish)
    rig.due = 0.0
    assert rig.loop.wait(waiter)
    assert rig.drivers == {threading.get_ident()}


def test_handler_knows_whether_the_thread_that_polls_waits(running: Rig) -> None:
    """One that waits for something may do nothing else; the background thread must not take its processor."""
    waiter = Waiter()
    running.on_turn.append(waiter.finish)
    running.due = 0.0
    assert running.loop.wait(waiter)
    running.due = LONG
    running.wait_until_asleep()
    assert running.awaited.pop(threading.get_ident())
    assert set(running.awaited.values()) == {False}


def test_start_runs_in_the_thread_that_waits(rig: Rig) -> None:
    """What begins a call runs under ownership, before the wait, without a wake-up."""
    waiter = Waiter()
    ran: list[int] = []

    def start() -> None:
        ran.append(threading.get_ident())
        waiter.finish()

    assert rig.loop.wait(waiter, start=start)
    assert ran == [threading.get_ident()]
    assert not rig.polling.is_set()


def test_start_comes_after_what_was_posted_before(rig: Rig) -> None:
    """Commands of one thread run in the order in which it gave them."""
    steps: list[str] = []
    rig.loop.post(lambda: steps.append("posted"))
    rig.loop.run(lambda: steps.append("run"))
    assert steps == ["posted", "run"]


def test_finished_waiter_is_not_waited_for(rig: Rig) -> None:
    """What is done already costs no turn."""
    waiter = Waiter()
    waiter.finish()
    assert rig.loop.wait(waiter)
    assert rig.drivers == set()


def test_wait_ends_at_its_deadline(rig: Rig) -> None:
    """It says False, not before, and the waiter may be waited for again."""
    waiter = Waiter()
    deadline = time.monotonic() + 0.03
    assert not rig.loop.wait(waiter, deadline)
    assert time.monotonic() >= deadline
    waiter.finish()
    assert rig.loop.wait(waiter, deadline)


def test_parked_wait_ends_at_its_deadline(running: Rig) -> None:
    """The same while another thread drives, which goes on."""
    long, short = Waiter(), Waiter()
    driver = thread(lambda: running.loop.wait(long))
    running.wait_until_asleep()
    assert not running.loop.wait(short, time.monotonic() + 0.03)
    running.loop.post(long.finish)
    driver.join(LONG)
    assert not driver.is_alive()


def test_waiting_thread_takes_over_from_the_background(running: Rig) -> None:
    """Who waits polls by itself, also if the background thread was asleep in its poll."""
    running.loop.post(lambda: None)
    running.wait_until_asleep()
    waiter = Waiter()
    done = thread(lambda: running.loop.wait(waiter))
    while done.ident not in running.drivers:
        running.wait_until_asleep()
    running.loop.post(waiter.finish)
    done.join(LONG)
    assert not done.is_alive()


def test_driver_that_leaves_hands_over_to_one_that_waits(rig: Rig) -> None:
    """Of several waiting threads one drives; when it has its result the next does. There is no background here."""
    waiters = [Waiter() for _ in range(4)]
    threads = [thread(lambda waiter=waiter: rig.loop.wait(waiter)) for waiter in waiters]  # type: ignore[misc]  # bound early
    for waiter, waiting in zip(waiters, threads, strict=True):
        rig.wait_until_asleep()
        rig.loop.post(waiter.finish)
        rig.loop.wake()
        waiting.join(LONG)
        assert not waiting.is_alive()


# --- commands -----------------------------------------------------------------------------------------


def test_posted_commands_run_in_order_under_ownership(running: Rig) -> None:
    """Nobody waits: the background thread runs them, soon."""
    order: list[int] = []
    done = threading.Event()
    for number in range(100):
        running.loop.post(lambda number=number: order.append(number))  # type: ignore[misc]  # bound early
    running.loop.post(done.set)
    assert done.wait(LONG)
    assert order == list(range(100))


def test_post_wakes_a_sleeping_owner(running: Rig) -> None:
    """A command does not wait for the owner's next deadline."""
    waiter = Waiter()
    driver = thread(lambda: running.loop.wait(waiter))
    running.wait_until_asleep()
    begin = time.monotonic()
    running.loop.post(waiter.finish)
    driver.join(LONG)
    assert time.monotonic() - begin < LONG / 2


def test_run_returns_when_the_command_has_run(running: Rig) -> None:
    """Also if another thread owns the loop and has to do it."""
    waiter = Waiter()
    driver = thread(lambda: running.loop.wait(waiter))
    running.wait_until_asleep()
    ran: list[int] = []
    running.loop.run(lambda: ran.append(1))
    assert ran == [1]
    running.loop.post(waiter.finish)
    driver.join(LONG)


def test_command_that_raises_is_told_and_harms_nobody(running: Rig) -> None:
    """The handler hears of it; the commands behind it run, and who waits for it goes on."""
    error = ValueError("no")

    def fail() -> None:
        raise error

    ran: list[int] = []
    running.loop.post(fail)
    running.loop.run(fail)
    running.loop.run(lambda: ran.append(1))
    assert running.bugs == [error, error]
    assert ran == [1]


def test_turn_that_raises_is_told(rig: Rig) -> None:
    """A bug in the handler does not end the loop."""
    waiter = Waiter()
    error = ValueError("no")

    def fail() -> None:
        waiter.finish()
        raise error

    rig.on_turn.append(fail)
    rig.due = 0.0
    assert rig.loop.wait(waiter)
    assert rig.bugs == [error]


def test_background_takes_over_while_work_is_pending(running: Rig) -> None:
    """A caller that leaves something in flight and does not come back leaves somebody to look after it."""
    running.busy = True
    running.due = 0.01
    handled = threading.Event()
    running.loop.run(lambda: None)
    running.on_turn.append(handled.set)
    assert handled.wait(LONG)
    assert running.drivers - {threading.get_ident()}


def test_handler_is_asked_by_the_owner_only(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is busy is asked before ownership is given up: afterwards its state is another thread's."""
    owned: list[bool] = []
    monkeypatch.setattr(rig, "is_busy", lambda: owned.append(rig.loop._owned))
    rig.loop.run(lambda: None)
    assert owned == [True]


def test_closed_loop_can_still_be_woken(rig: Rig) -> None:
    """Finalizers come late."""
    rig.loop.close(LONG)
    rig.loop.release_fd()
    rig.loop.release_fd()
    rig.loop.wake()
    rig.loop.post(lambda: None)


# --- interrupts ---------------------------------------------------------------------------------------


def interrupt_when(ready: Callable[[], object]) -> threading.Thread:
    """Send this, the main thread, an interrupt when something has happened."""
    main = threading.main_thread().ident
    assert main is not None

    def strike() -> None:
        ready()
        signal.pthread_kill(main, signal.SIGINT)

    return thread(strike)


@pytest.mark.rule("R29")
def test_interrupt_ends_the_wait_of_a_driver(rig: Rig) -> None:
    """Ctrl-C wakes the poll, and raises with the loop's state whole and free."""
    waiter = Waiter()
    striker = interrupt_when(rig.polling.wait)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        rig.loop.wait(waiter)
    assert time.monotonic() - begin < LONG / 2
    striker.join()
    assert not rig.inside.locked()
    rig.loop.run(waiter.finish)
    assert rig.loop.wait(waiter)


@pytest.mark.rule("R29")
def test_interrupt_ends_the_wait_of_a_parked_thread(rig: Rig) -> None:
    """Also while another thread drives, which notices nothing and does not lose its heirs."""
    long, parked = Waiter(), Waiter()
    driver = thread(lambda: rig.loop.wait(long))
    assert rig.polling.wait(LONG)

    def is_parked() -> None:
        while parked not in rig.loop._parked:
            pass

    striker = interrupt_when(is_parked)
    with pytest.raises(KeyboardInterrupt):
        rig.loop.wait(parked)
    striker.join()
    assert parked not in rig.loop._parked
    rig.loop.post(long.finish)
    driver.join(LONG)
    assert not driver.is_alive()


@pytest.mark.rule("R29")
def test_command_is_never_torn_by_an_interrupt(rig: Rig) -> None:
    """A signal that comes while a command runs raises after it."""
    steps: list[str] = []

    def command() -> None:
        steps.append("begun")
        signal.raise_signal(signal.SIGINT)
        steps.append("ended")

    with pytest.raises(KeyboardInterrupt):
        rig.loop.run(command)
    assert steps == ["begun", "ended"]


# --- all at once --------------------------------------------------------------------------------------


def test_no_wake_up_is_lost_and_there_is_one_owner(running: Rig) -> None:
    """Many threads wait, post and time out at the same time; every one goes on."""

    def call() -> None:
        for number in range(150):
            waiter = Waiter()
            running.loop.post(waiter.finish)
            if number % 5 == 0:
                running.loop.wait(waiter, time.monotonic() + 0.0001 * (number % 7))
            else:
                assert running.loop.wait(waiter, time.monotonic() + LONG)
                assert waiter.done

    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            call()
        except BaseException as error:  # to the main thread
            failures.append(error)

    threads = [thread(guarded) for _ in range(6)]
    for some in threads:
        some.join(LONG * 2)
    assert not any(some.is_alive() for some in threads)
    assert failures == []
    assert running.bugs == []
