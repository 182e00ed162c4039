"""Too much of something: results that nobody reads, connections that say nothing (F26, F41)."""

from __future__ import annotations

import errno
import resource
import select
import socket
import threading
from typing import TYPE_CHECKING, Final

import pytest

from skyward_node.core.sessions import UNACKED
from tests.rules.work import BUSY, until
from tests.security.nodes import PATIENCE, Watch
from tests.security.timing import percentile, shown, timed
from tests.security.work import chatter, mark_and_make, plus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from skyward.transport.keys import KeyPair
    from tests.security.conftest import Connect, Start
    from tests.security.peers import Peer

MB: Final = 2**20
SLACK: Final = 64 * MB  # bytes that a node with a stalled reader may take beside the results it keeps (T18)
SOON: Final = 1.0 * BUSY  # seconds within which a client is served, whatever others do


# --- F26 --------------------------------------------------------------------------------------

SIZE: Final = 256 * 1024  # bytes of a result
RESULTS: Final = 800  # 200 MB: three times what a node keeps
LINES: Final = 3_000  # of 60 kB: as much
QUIET: Final = 50  # calls of another client in which nothing further starts


def until_stalled(honest: Peer, count: Callable[[], int]) -> list[float]:
    """Call until nothing is counted any more; return how long each call took."""
    times: list[float] = []
    seen = -1
    while seen != (now := count()) or not now:
        seen = now
        times += [timed(lambda: honest.call(plus, 1, 2)) for _ in range(QUIET)]
    return times


@pytest.mark.rule("F26")
@pytest.mark.rule("R21")
def test_results_that_nobody_reads_are_bounded(
    start_node: Start, connect: Connect, keys: KeyPair, short_path: Path
) -> None:
    """A client that lives and does not read stops its own tasks at 64 MiB, and nobody else's."""
    node = start_node(keys, concurrency=2)
    slow, honest = connect(node, keys), connect(node, keys)
    for peer in (slow, honest):
        peer.hello()
        peer.call(plus, 1, 2)
    marks = short_path / "marks"
    watch = Watch(node)
    ids = slow.submit(mark_and_make, *[(str(marks), SIZE)] * RESULTS)
    times = until_stalled(honest, lambda: marks.stat().st_size if marks.exists() else 0)
    growth = watch.stop()
    assert marks.stat().st_size < RESULTS
    assert growth < UNACKED + SLACK
    assert percentile(times, 99) < SOON
    slow.until(lambda: len(slow.outcomes) == RESULTS + 1)
    assert all(len(slow.value(id)) == SIZE for id in ids)
    print(f"growth {growth / MB:.0f} MiB; {len(times)} calls of another client: {shown(times)}")


@pytest.mark.rule("F26")
def test_output_that_nobody_reads_is_bounded(
    start_node: Start, connect: Connect, keys: KeyPair, short_path: Path
) -> None:
    """Lines are dropped and counted; the task that prints them is not held up, nor is anybody else."""
    node = start_node(keys, concurrency=2)
    slow, honest = connect(node, keys), connect(node, keys)
    for peer in (slow, honest):
        peer.hello()
        peer.call(plus, 1, 2)
    done = short_path / "done"
    watch = Watch(node)
    slow.submit(chatter, (LINES, str(done)))
    times: list[float] = []
    while not done.exists():
        times.append(timed(lambda: honest.call(plus, 1, 2)))
        slow.beat()
    growth = watch.stop()
    assert growth < UNACKED + SLACK
    assert percentile(times, 99) < SOON


# --- F41, T8 ----------------------------------------------------------------------------------

HALF_OPEN: Final = 5_000
ROOM: Final = 500  # descriptors of ours beside them
WORKERS: Final = 12  # descriptors of two workers, which may come and go


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Let this process open as many files as it takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < HALF_OPEN + ROOM:
        pytest.skip(f"this process may open {hard} files; {HALF_OPEN + ROOM} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, HALF_OPEN + ROOM), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class HalfOpen(threading.Thread):
    """Keeps connections to a port that say nothing: as soon as one is closed there is another."""

    def __init__(self, port: int, count: int) -> None:
        super().__init__()
        self._port = port
        self._count = count
        self._sockets: dict[int, socket.socket] = {}
        self._over = threading.Event()
        self.reached = threading.Event()
        self.opened = 0

    def run(self) -> None:
        """Open, and open again."""
        with select.epoll() as epoll:
            while not self._over.is_set():
                for _ in range(min(200, self._count - len(self._sockets))):
                    self._open(epoll)
                if len(self._sockets) == self._count:
                    self.reached.set()
                for fd, _ in epoll.poll(0.001):
                    epoll.unregister(fd)
                    self._sockets.pop(fd).close()
        for link in self._sockets.values():
            link.close()

    def _open(self, epoll: select.epoll) -> None:
        link = socket.socket()
        link.setblocking(False)
        code = link.connect_ex(("127.0.0.1", self._port))
        assert code == errno.EINPROGRESS, code
        self._sockets[link.fileno()] = link
        epoll.register(link.fileno(), select.EPOLLRDHUP)
        self.opened += 1

    def stop(self) -> None:
        """Close them all."""
        self._over.set()
        self.join()


@pytest.mark.rule("F41")
@pytest.mark.rule("T8")
@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("visits", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_silent_connections_hold_nobody_up(start_node: Start, connect: Connect, keys: KeyPair, visits: int) -> None:
    """With 5,000 half-open connections a client that dials in has its first result within a second."""
    node = start_node(keys, ulimit="-S -n 256")
    regular = connect(node, keys)
    regular.hello()
    before = node.descriptors()

    def visit() -> None:
        visitor = connect(node, keys)
        visitor.hello()
        assert visitor.call(plus, 1, 2) == 3
        visitor.leave()

    visit()
    flood = HalfOpen(node.port, HALF_OPEN)
    flood.start()
    try:
        assert flood.reached.wait(PATIENCE)
        until(lambda: node.descriptors() > HALF_OPEN // 2)  # connections of which it has heard by now
        times: list[float] = []
        for _ in range(visits):
            times.append(timed(visit))
            regular.beat()  # they may take longer than its lease
        assert regular.call(plus, 1, 2) == 3
    finally:
        flood.stop()
    assert max(times) < SOON
    until(lambda: node.descriptors() <= before + WORKERS)
    print(f"{flood.opened} connections opened, {HALF_OPEN} at a time; {visits} visits: {shown(times)}")
