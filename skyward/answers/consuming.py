"""An iterator whose items another thread brings: what streams of results and of values have in common.

A buffer stands between the thread that delivers and the consumer, with no lock: the consumer publishes its waiter
*before* it looks a last time, so no delivery goes unnoticed. Several threads may take items from one stream, each item
once: a delivery wakes the last of those that wait, and who has got something, or nothing any more, wakes the others.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from skyward.answers.waiting import Waiter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

T = TypeVar("T")
U = TypeVar("U")


class AsyncWaiter(Waiter):
    """A waiter whose thread runs an event loop, and so must not be parked."""

    __slots__ = ("_future", "_loop")

    def __init__(self) -> None:
        import asyncio  # late: it is there when somebody awaits

        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def finish(self) -> None:
        """Wake the coroutine."""
        self.done = True
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        """Return when finished."""
        await self._future


class Source(Protocol):
    """What a consumer needs of its buffer."""

    waiter: Waiter | None  # finished at every delivery

    def take(self) -> Any:
        """Return the next item, or None if it is not here."""
        ...


class Consumer(ABC, Generic[T]):
    """The consumer's end, for a ``for`` loop, a ``with`` block, and their asynchronous forms.

    Closing it, leaving its block, or dropping the last reference ends whatever brings the items.
    """

    def __init__(
        self, source: Source, wait: Callable[[Waiter], Any], lent: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """``wait`` and ``lent`` are the pool's: the second is for coroutines, which await."""
        self._source = source
        self._wait = wait
        self._lent = lent
        self._turn = threading.Lock()  # of who takes an item; held for a few bytecodes
        self._waiting: list[Waiter] = []  # one, unless several threads or coroutines take items
        self._taken: int = 0
        self._closed: bool = False

    @abstractmethod
    def _is_over(self) -> bool:
        """Return whether nothing more will come; raise what ended it, if that is not as it should be."""

    @abstractmethod
    def _hand_out(self, item: Any) -> T:
        """Return what the user gets for an item."""

    @abstractmethod
    def _abandon(self) -> None:
        """Nobody will take anything any more."""

    def _take(self) -> Any:
        with self._turn:
            return self._source.take()

    def _next_item(self) -> Any:
        if self._closed:
            raise StopIteration
        item = self._take()
        while item is None:
            waiter = Waiter()
            with _Published(self._source, self._waiting, waiter):
                if self._is_over():
                    raise StopIteration
                item = self._take()
                if item is None:
                    self._wait_for(waiter)
                    item = self._take()
        return item

    def _wait_for(self, waiter: Waiter) -> None:
        try:
            self._wait(waiter)
        except BaseException:  # an interrupt ends what this thread waits on
            self.close()
            raise

    def _wake_others(self) -> None:
        """Have all that still wait look again; called by who waits no more, when what it has got is counted."""
        for waiter in self._waiting[:]:
            waiter.finish()

    def _next_shown(self, show: Callable[[Any], U]) -> U:
        """Return what ``show`` makes of the next item."""
        try:
            return show(self._next_item())
        finally:
            if self._waiting:
                self._wake_others()

    async def _next_shown_async(self, show: Callable[[Any], U]) -> U:
        try:
            return show(await self._next_item_async())
        finally:
            if self._waiting:
                self._wake_others()

    async def _next_item_async(self) -> Any:
        if self._closed:
            raise StopAsyncIteration
        item = self._take()
        while item is None:
            waiter = AsyncWaiter()
            with _Published(self._source, self._waiting, waiter):
                if self._is_over():
                    raise StopAsyncIteration
                item = self._take()
                if item is None:
                    await self._await(waiter)
                    item = self._take()
        return item

    async def _await(self, waiter: AsyncWaiter) -> None:
        try:
            with self._lent():
                await waiter.wait()
        except BaseException:  # the consuming asyncio task was cancelled
            self.close()
            raise

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return self._next_shown(self._hand_out)

    async def __anext__(self) -> T:
        return await self._next_shown_async(self._hand_out)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    def close(self) -> None:
        """End what brings the items; the iterator is at its end."""
        if not self._closed:
            self._closed = True
            self._abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Interpreter exit can have taken our globals; the pool cancels what is left anyway.
        with contextlib.suppress(Exception):
            self.close()


class _Published:
    """A block in which deliveries finish a waiter, or whoever else waits for the same."""

    __slots__ = ("_source", "_waiter", "_waiting")

    def __init__(self, source: Source, waiting: list[Waiter], waiter: Waiter) -> None:
        self._source = source
        self._waiting = waiting
        self._waiter = waiter

    def __enter__(self) -> None:
        self._waiting.append(self._waiter)  # before: whoever takes back what is published looks here then
        self._source.waiter = self._waiter

    def __exit__(self, *_: object) -> None:
        self._waiting.remove(self._waiter)
        self._source.waiter = None
