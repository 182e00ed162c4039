"""Futures in an event loop; the test is the owner of the pool's loop, and settles them in another thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.outcomes import raised, value
from tests.owner import LONG, make

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward.answers.futures import Future


def settle(*made: tuple[Any, Future[Any], Any]) -> None:
    """Deliver a value to each future, in a thread of its own, as a pool would."""

    def deliver() -> None:
        for number, (_, future, task) in enumerate(made):
            future.deliver(task, value(number))

    threading.Thread(target=deliver).start()


def asyncios(callback: Callable[[Any], object]) -> Callable[[Any], object]:
    """Return the callback as one of asyncio's own."""
    callback.__module__ = "asyncio.tasks"
    return callback


@pytest.mark.rule("R7")
@pytest.mark.parametrize("condition", [asyncio.ALL_COMPLETED, asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION])
def test_asyncio_waits_for_futures(condition: str) -> None:
    """All, the first, or the first that fails; what has not ended keeps no callback of it."""
    first, second = make(), make()
    fails = condition == asyncio.FIRST_EXCEPTION

    async def main() -> tuple[Any, Any]:
        futures: Any = [first[1], second[1]]
        task: Any = asyncio.ensure_future(asyncio.wait(futures, return_when=condition))
        await asyncio.sleep(0)  # it begins to wait
        if fails:
            threading.Thread(target=lambda: first[1].deliver(first[2], raised(KeyError("k")))).start()
        else:
            settle(first, *([second] if condition == asyncio.ALL_COMPLETED else []))
        done, rest = await asyncio.wait_for(task, LONG)
        return done, rest

    done, rest = asyncio.run(main(), debug=True)  # what touches the loop from outside raises
    everything = {first[1], second[1]}
    assert done == (everything if condition == asyncio.ALL_COMPLETED else {first[1]})
    assert rest == everything - done
    assert second[1]._callbacks is None


@pytest.mark.rule("R7")
def test_asyncio_waits_for_futures_that_have_ended() -> None:
    """Beside others that have not."""
    first, second = make(), make()
    first[1].deliver(first[2], value(1))

    async def main() -> int:
        futures: Any = [first[1], second[1]]
        task: Any = asyncio.ensure_future(asyncio.wait(futures))
        await asyncio.sleep(0)
        settle(second)
        done, _ = await asyncio.wait_for(task, LONG)
        return len(done)

    assert asyncio.run(main()) == 2


@pytest.mark.rule("R7")
def test_callback_of_a_user_runs_in_a_thread_all_the_same() -> None:
    """It may block, which would stop the event loop that ran when it was added."""
    _, future, task = made = make()
    seen: list[str] = []
    done = threading.Event()

    def callback(_: object) -> None:
        seen.append(threading.current_thread().name)
        done.set()

    async def main() -> None:
        future.add_done_callback(callback)
        settle(made)
        assert done.wait(LONG)  # which blocks the loop

    asyncio.run(main())
    assert (seen, future.result(), task.index) == (["callbacks"], 0, 0)


@pytest.mark.rule("R7")
def test_callback_of_a_closed_loop_runs_all_the_same() -> None:
    """In the callback thread, as if there had been no loop."""
    _, future, task = make()
    seen: list[str] = []
    done = threading.Event()

    def callback(_: object) -> None:
        seen.append(threading.current_thread().name)
        done.set()

    async def main() -> None:
        future.add_done_callback(asyncios(callback))

    asyncio.run(main())
    future.deliver(task, value(1))
    assert done.wait(LONG)
    assert seen == ["callbacks"]


@pytest.mark.rule("R7")
def test_callback_in_a_loop_can_be_removed() -> None:
    """By the function that was added."""
    _, future, task = make()
    seen: list[int] = []
    callback = asyncios(lambda _: seen.append(1))

    async def main() -> int:
        future.add_done_callback(callback)
        removed = future.remove_done_callback(callback)
        future.deliver(task, value(1))
        await asyncio.sleep(0)
        return removed

    assert asyncio.run(main()) == 1
    assert seen == []


def test_bad_callback_in_a_loop_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The loop goes on."""
    made = make()
    with caplog.at_level(logging.ERROR, "concurrent.futures"):

        async def main() -> None:
            seen = asyncio.Event()
            made[1].add_done_callback(asyncios(lambda _: 1 / 0))
            made[1].add_done_callback(asyncios(lambda _: seen.set()))
            settle(made)
            await asyncio.wait_for(seen.wait(), LONG)

        asyncio.run(main())
    assert "exception calling callback for <Future finished>" in caplog.text


def test_wrapped_and_awaited_futures_wake_their_loop() -> None:
    """By `asyncio.wrap_future`, by `await`, and by `asyncio.gather`."""
    first, second, third = made = make(), make(), make()

    async def main() -> list[Any]:
        wrapped = asyncio.wrap_future(first[1])
        both = asyncio.gather(second[1], third[1])
        await asyncio.sleep(0)
        settle(*made)
        return [await asyncio.wait_for(wrapped, LONG), *await asyncio.wait_for(both, LONG)]

    assert asyncio.run(main()) == [0, 1, 2]
