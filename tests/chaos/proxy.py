"""A way to a port that is long, slow, uneven, or worse.

What comes is passed on in order, after a delay, in pieces, at a rate; whoever sends faster is held up, as by a real
network. A connection can be reset, closed in one direction, or forgotten: then bytes vanish, and nobody is told.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

PIECE: Final = 16_384  # bytes
UNDER_WAY: Final = 256  # pieces of a direction that may be on their way
LINGER: Final = struct.pack("ii", 1, 0)  # close without a goodbye: both ends see a reset


@dataclass(frozen=True, slots=True)
class Way:
    """What a way is like: seconds, give or take a few, bytes a second (0: any), and bytes of a piece."""

    delay: float = 0.0
    jitter: float = 0.0
    rate: float = 0.0
    piece: int = PIECE


class Direction:
    """What is on its way from one end of a connection to the other."""

    def __init__(self, way: Way, chance: random.Random, source: Stream, target: Stream) -> None:
        self._way, self._chance = way, chance
        self._source, self._target = source, target
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(UNDER_WAY)
        self.swallows = False
        self.passed = 0  # bytes

    async def run(self) -> None:
        """Pass on what comes, until there is no more."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take())
            group.create_task(self._give())

    async def _take(self) -> None:
        clock = asyncio.get_running_loop().time
        free = due = clock()
        while True:
            data = await self._source.read(self._way.piece)
            if data and self._way.rate:
                free = max(free, clock()) + len(data) / self._way.rate
                await asyncio.sleep(free - clock())
            # Never before what came earlier: TCP keeps the order.
            due = max(due, clock() + self._way.delay + self._chance.uniform(-1, 1) * self._way.jitter)
            await self._queue.put((due, data))
            if not data:
                return

    async def _give(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await self._queue.get()
            await asyncio.sleep(due - clock())
            if not data:
                self._target.half_close()
                return
            if not self.swallows:
                self.passed += len(data)
                await self._target.write(data)


class Stream:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._said_all = False

    async def read(self, size: int) -> bytes:
        """Return what has come, or nothing at its end."""
        return await self._reader.read(size)

    async def write(self, data: bytes) -> None:
        """Send, or lose, if it was said that nothing more will come."""
        if not self._said_all:
            self._writer.write(data)
            await self._writer.drain()

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self._said_all = True
        with suppress(OSError):
            self._writer.write_eof()

    def reset(self) -> None:
        """End it without a goodbye."""
        end: socket.socket = self._writer.get_extra_info("socket")
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        self._writer.transport.abort()


class Connection:
    """One connection through the proxy."""

    def __init__(self, way: Way, chance: random.Random, near: Stream, far: Stream) -> None:
        self.near, self.far = near, far
        self.there, self.back = Direction(way, chance, near, far), Direction(way, chance, far, near)

    async def run(self) -> None:
        """Pass on what comes in both directions, until both are over or one is broken."""
        with suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(self.there.run())
                group.create_task(self.back.run())
        self.reset()

    def reset(self) -> None:
        """End it at both ends."""
        self.near.reset()
        self.far.reset()


class Proxy:
    """Stands before a port, with a thread of its own; connections are in the order in which they came."""

    def __init__(self, host: str, port: int, way: Way | None = None, seed: int = 0) -> None:
        self._target = (host, port)
        self._way = way or Way()
        self._chance = random.Random(seed)
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy")
        self._thread.start()
        self._started.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    # --- what may be done to connections, from any thread --------------------------------------

    def reset(self) -> int:
        """Reset all connections; return how many there were."""
        return self._each(Connection.reset)

    def half_close(self, *, to_client: bool) -> int:
        """Say to one side of all connections that the other will send nothing more; return how many there were."""
        return self._each(lambda connection: (connection.near if to_client else connection.far).half_close())

    def forget(self) -> int:
        """Let all connections stand, and pass on nothing more; new ones are not concerned."""

        def swallow(connection: Connection) -> None:
            connection.there.swallows = connection.back.swallows = True

        return self._each(swallow)

    def passed(self) -> int:
        """Return how many bytes of the connections that stand have gone through."""
        return sum(c.there.passed + c.back.passed for c in list(self._connections.values()))

    def _each(self, action: Callable[[Connection], None]) -> int:
        async def act() -> int:
            connections = list(self._connections.values())
            for connection in connections:
                action(connection)
            return len(connections)

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result()

    # --- its thread --------------------------------------------------------------------------------

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._over.wait()
        server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        near = Stream(reader, writer)
        try:
            far = Stream(*await asyncio.open_connection(*self._target))
        except OSError:
            near.reset()
            return
        connection = self._connections[task] = Connection(self._way, self._chance, near, far)
        try:
            await connection.run()
        except asyncio.CancelledError:
            connection.reset()
        finally:
            del self._connections[task]
