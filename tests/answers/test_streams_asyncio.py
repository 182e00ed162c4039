"""Results one by one under asyncio; other threads deliver them, as the owner of the loop would."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from skyward.answers.consuming import AsyncWaiter
from tests.flow import LONG, Flow
from tests.outcomes import raised

if TYPE_CHECKING:
    from skyward.answers.streams import ResultStream


@pytest.mark.rule("R12")
def test_async_for_takes_results() -> None:
    """Without holding up the event loop; results come from another thread."""
    flow = Flow(3)
    flow.deliver(0)

    async def main() -> list[Any]:
        taken: list[Any] = []
        async with flow.stream as stream:
            async for result in stream:
                taken.append(result)
                if result < 2:
                    threading.Thread(target=flow.deliver, args=[result + 1]).start()
        return taken

    assert asyncio.run(main()) == [0, 1, 2]
    assert flow.cancelled == []


def test_async_with_closes() -> None:
    """What is left is cancelled."""
    flow = Flow(2)
    flow.deliver(0)

    async def main() -> Any:
        async with flow.stream as stream:
            return await anext(stream)

    assert asyncio.run(main()) == 0
    assert flow.cancelled == [1]


def test_cancelled_consumer_closes() -> None:
    """An asyncio task that is cancelled while it waits gives the stream up."""
    flow = Flow(1)

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(flow.stream), 0.01)
        with pytest.raises(StopAsyncIteration):
            await anext(flow.stream)

    asyncio.run(main())
    assert flow.cancelled == [0]
    assert flow.buffer.waiter is None


def test_close_ends_an_async_wait() -> None:
    """From another thread, or from another asyncio task."""
    flow = Flow(1)

    async def main() -> list[Any]:
        consumer = asyncio.ensure_future(_all(flow.stream))
        while flow.buffer.waiter is None:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
        flow.stream.close()
        return await asyncio.wait_for(consumer, LONG)

    assert asyncio.run(main()) == []


async def _all(stream: ResultStream[Any]) -> list[Any]:
    return [result async for result in stream]


def test_async_failure_closes() -> None:
    """As it does without asyncio."""
    flow = Flow(2, ordered=False)
    flow.deliver(0, raised(KeyError("k")))

    async def main() -> None:
        with pytest.raises(KeyError):
            await anext(flow.stream)

    asyncio.run(main())
    assert flow.cancelled == [1, 1]


def test_waiter_of_a_closed_event_loop_wakes_nobody() -> None:
    """The pool may still deliver."""

    async def main() -> AsyncWaiter:
        waiter = AsyncWaiter()
        waiter.finish()
        waiter.finish()
        await waiter.wait()
        await asyncio.sleep(0)
        return waiter

    waiter = asyncio.run(main())
    waiter.finish()
    assert waiter.done
