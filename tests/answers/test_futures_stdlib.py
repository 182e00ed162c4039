"""Futures among those of the standard library: `concurrent.futures` and asyncio."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any

import pytest

from skyward.results import CancelledError
from tests.outcomes import raised, value
from tests.owner import LONG, make

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.rule("R7")
def test_wait_and_as_completed_take_futures() -> None:
    """Values, failures and cancels; those that have ended, and those that end meanwhile."""
    futures = [make() for _ in range(4)]
    (_, first, one), (_, second, two), (_, third, three), (_, fourth, four) = futures
    first.deliver(one, value(1))
    done, rest = concurrent.futures.wait([first, second, third, fourth], timeout=0)
    assert (done, rest) == ({first}, {second, third, fourth})

    def end() -> None:
        second.deliver(two, value(2))
        third.deliver(three, CancelledError())
        fourth.deliver(four, raised(KeyError("k")))

    thread = threading.Thread(target=end)
    completed = concurrent.futures.as_completed([first, second, third, fourth], timeout=LONG)
    assert next(completed) is first
    thread.start()
    assert set(completed) == {second, third, fourth}
    thread.join()
    done, rest = concurrent.futures.wait([first, second, third, fourth], timeout=LONG)
    assert (len(done), rest) == (4, set())
    assert fourth._waiters == []


@pytest.mark.rule("R7")
def test_future_is_set_by_its_pool_alone() -> None:
    """What a stdlib future offers whoever runs its call is refused, and changes nothing."""
    _, future, task = make()
    attempts: list[Callable[[], object]] = [
        lambda: future.set_result(5),
        lambda: future.set_exception(KeyError("k")),
        future.set_running_or_notify_cancel,
    ]
    for ended in (False, True):
        for refused in attempts:
            with pytest.raises(concurrent.futures.InvalidStateError, match="a pool's future is set by the pool"):
                refused()
        assert (future.done(), future.running(), future.cancelled()) == (ended, False, False)
        if not ended:
            future.deliver(task, value(1))
    assert future.result() == 1


@pytest.mark.rule("R15")
def test_future_can_be_awaited() -> None:
    """For its value and for its failure."""
    _, good, one = make()
    _, bad, two = make()

    async def main() -> Any:
        def deliver() -> None:
            good.deliver(one, value(1))
            bad.deliver(two, raised(KeyError("k")))

        threading.Thread(target=deliver).start()
        with pytest.raises(KeyError):
            await bad
        return await good

    assert asyncio.run(main()) == 1


def test_cancelled_await_cancels_the_call() -> None:
    """Asyncio's cancel goes through to the pool."""
    owner, future, task = make()
    owner.stops = True

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(future, 0.01)

    asyncio.run(main())
    assert owner.cancelled == [task]
    assert future.cancelled()
