"""Interrupts hit the code of one task, once, or nothing."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from skyward_node.worker.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    """Interrupts that are installed for the test."""
    before = signal.getsignal(signal.SIGINT)
    interrupts = Interrupts()
    interrupts.install()
    yield interrupts
    signal.signal(signal.SIGINT, before)


def request(interrupts: Interrupts, task: int) -> None:
    """Ask from another thread, and let the signal arrive."""
    thread = threading.Thread(target=interrupts.request, args=(task,))
    thread.start()
    thread.join()


def test_interrupt_hits_the_armed_task_once(interrupts: Interrupts) -> None:
    """The task's code is interrupted, and what it does about it is not."""
    with pytest.raises(KeyboardInterrupt):
        interrupts.arm(1)
        request(interrupts, 1)
    assert interrupts.hit == 1
    assert interrupts.armed is None
    request(interrupts, 1)


def test_interrupt_spares_other_tasks_and_no_task(interrupts: Interrupts) -> None:
    """An interrupt for a task that is not armed does nothing now, nor to the next one."""
    request(interrupts, 1)
    interrupts.arm(2)
    request(interrupts, 1)
    interrupts.disarm()
    request(interrupts, 2)
    assert interrupts.hit is None


def test_interrupt_that_came_early_is_not_lost(interrupts: Interrupts) -> None:
    """A request before its task is armed strikes when it is."""
    request(interrupts, 1)
    with pytest.raises(KeyboardInterrupt):
        interrupts.arm(1)
    interrupts.arm(1)


def test_shield_holds_an_interrupt_back(interrupts: Interrupts) -> None:
    """Inside the shield nothing is interrupted; at its end the interrupt strikes."""
    interrupts.arm(1)
    done = False
    with pytest.raises(KeyboardInterrupt), interrupts.shield():
        request(interrupts, 1)
        done = True
    assert done


def test_signal_of_the_users_own_interrupts_user_code_only(interrupts: Interrupts) -> None:
    """SIGINT that nobody requested is a KeyboardInterrupt in a task, and nothing outside."""
    signal.raise_signal(signal.SIGINT)
    interrupts.arm(1)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert interrupts.hit is None
    interrupts.disarm()
