"""Interrupts hit the code of one task, once, or nothing."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from skyward_node.worker.driving import drive_async
from skyward_node.worker.yields import Closed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from skyward_node.worker.interrupts import Interrupts

LONG = 30.0  # seconds that nothing here takes


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


def test_coroutine_is_cancelled_once(interrupts: Interrupts) -> None:
    """What it does to end may await, whatever comes meanwhile."""
    steps: list[str] = []

    async def work() -> None:
        try:
            request(interrupts, 1)
            await asyncio.sleep(LONG)
        finally:
            steps.append("ending")
            request(interrupts, 1)
            await asyncio.sleep(0)
            steps.append("ended")

    with pytest.raises(asyncio.CancelledError):
        run(interrupts, work())
    assert steps == ["ending", "ended"]


@pytest.mark.rule("R25")
def test_end_of_an_asynchronous_generator_is_not_interrupted(interrupts: Interrupts) -> None:
    """Nobody wants it any more: it is closed, and a cancel that was on its way strikes nobody."""
    steps: list[str] = []

    async def count() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            steps.append("ending")
            await asyncio.sleep(0)
            steps.append("ended")

    class Unwanted:
        def pack(self, value: object) -> tuple[object]:
            return (value,)

        def add(self, _value: object) -> bool:
            request(interrupts, 1)
            raise Closed

    with pytest.raises(Closed):
        run(interrupts, drive_async(cast("Any", Unwanted()), count(), interrupts))
    assert steps == ["ending", "ended"]
    assert interrupts.hit == 1


def run(interrupts: Interrupts, coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine as the armed task, as a slot does."""
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(coroutine)
        interrupts.await_with(loop, task)
        interrupts.arm(1)
        loop.run_until_complete(task)
    finally:
        loop.close()
