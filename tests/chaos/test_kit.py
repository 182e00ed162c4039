"""What tests of chaos rely on: hosts are hosts, and what befalls them or the way to them is what was asked for."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

import psutil
import pytest

import skyward as sky
from tests.chaos.cgroups import Group
from tests.chaos.hosts import PORT
from tests.chaos.losses import provider
from tests.chaos.proxy import Proxy, Way
from tests.rules.work import LONG, place, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.hosts import Host, Net

SIZE: Final = 200_000  # bytes


def test_hosts_reach_each_other_and_nothing_else(net: Net) -> None:
    """What one loses leads to it and from it."""
    hosts = net.add(2)
    with sky.Compute(provider(hosts)) as pool:
        assert [rank for _, _, rank in place() @ pool] == [0, 1]
    first, second = hosts
    reach(first, second)
    second.cut_off()
    with pytest.raises(AssertionError):
        reach(first, second)
    second.heal()
    reach(first, second)
    with pytest.raises(AssertionError, match="Network is unreachable"):
        first.inside("bash", "-c", "exec 3<>/dev/tcp/192.0.2.1/80")


def reach(one: Host, other: Host) -> None:
    """Connect, within a second."""
    one.inside("timeout", "1", "bash", "-c", f"exec 3<>/dev/tcp/{other.ip}/{PORT}")


def test_frozen_host_stands_still(net: Net) -> None:
    """Daemon, template and workers alike, and all go on later."""
    (host,) = net.add(1)
    pids = [process.pid for process in host.node.family()]
    with Group("freezer", host.node.pid) as group:
        group.freeze()
        before = [psutil.Process(pid).cpu_times()[:2] for pid in pids]
        time.sleep(0.3)  # that nothing happens is the experiment
        assert [psutil.Process(pid).cpu_times()[:2] for pid in pids] == before
        group.thaw()
        with sky.Compute(provider([host])) as pool:
            assert (place(1) >> pool)[0] == 1


def test_host_has_only_so_much_memory(net: Net) -> None:
    """A task that wants more is killed by the kernel, and its error says so."""
    (host,) = net.add(1)

    @sky.function(retries=0)
    def take(size: int) -> int:
        return len(bytearray(b"x") * size)

    with Group("memory", host.node.pid) as group:
        group.limit(400_000_000)
        with sky.Compute(provider([host])) as pool:
            with pytest.raises(sky.WorkerCrashedError) as caught:
                take(2**30) >> pool
            assert caught.value.oom
            assert take(1) >> pool == 1


# --- the proxy -------------------------------------------------------------------------------


@pytest.fixture
def echo_port() -> Iterator[int]:
    """Return a port that says again what it hears, until its peer says no more; and then says goodbye."""
    threads: list[threading.Thread] = []
    server = socket.create_server(("127.0.0.1", 0))

    def answer(end: socket.socket) -> None:
        with end, suppress(OSError):
            while data := end.recv(65_536):
                end.sendall(data)
            end.sendall(b"bye")

    def serve() -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=answer, args=(server.accept()[0],)))
                threads[-1].start()

    acceptor = threading.Thread(target=serve)
    acceptor.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    acceptor.join()
    server.close()
    for thread in threads:
        thread.join()


def dial(proxy: Proxy) -> socket.socket:
    """Return a connection through a proxy, which stands at both its ends."""
    end = socket.create_connection(("127.0.0.1", proxy.port), timeout=LONG)
    end.sendall(b"?")
    assert end.recv(1) == b"?"
    return end


def receive(end: socket.socket, size: int) -> bytes:
    """Return so many bytes."""
    data = b""
    while len(data) < size:
        more = end.recv(size - len(data))
        assert more, "it ends too early"
        data += more
    return data


def there_and_back(end: socket.socket, data: bytes) -> float:
    """Return how many seconds bytes take, which come back whole and in order."""
    sender = threading.Thread(target=end.sendall, args=(data,))
    began = time.monotonic()
    sender.start()
    assert receive(end, len(data)) == data
    sender.join()
    return time.monotonic() - began


def test_way_takes_its_time(echo_port: int) -> None:
    """Twice the delay there and back, twice nothing less than what the rate allows, and all in order."""
    data = os.urandom(SIZE)
    with Proxy("127.0.0.1", echo_port, Way(delay=0.1, jitter=0.05, piece=1_000)) as proxy, closing(dial(proxy)) as end:
        assert there_and_back(end, data) >= 0.1
        assert proxy.passed() == 2 * (SIZE + 1)
    with Proxy("127.0.0.1", echo_port, Way(rate=SIZE / 0.3)) as proxy, closing(dial(proxy)) as end:
        assert there_and_back(end, data) >= 0.3


def test_pieces_are_small(echo_port: int) -> None:
    """What was sent at once comes byte by byte."""
    with Proxy("127.0.0.1", echo_port, Way(rate=100.0, piece=1)) as proxy, closing(dial(proxy)) as end:
        end.sendall(b"abcdef")
        assert end.recv(100) == b"a"
        assert receive(end, 5) == b"bcdef"


def test_connections_are_reset(echo_port: int) -> None:
    """Both ends learn it, and new ones pass."""
    with Proxy("127.0.0.1", echo_port) as proxy, closing(dial(proxy)) as end:
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            end.recv(1)
        with closing(dial(proxy)) as other:
            there_and_back(other, b"x")


def test_connections_are_half_closed(echo_port: int) -> None:
    """One side hears that no more will come, and may go on to speak."""
    with Proxy("127.0.0.1", echo_port) as proxy, closing(dial(proxy)) as end:
        assert proxy.half_close(to_client=False) == 1
        assert receive(end, 3) == b"bye"
    with Proxy("127.0.0.1", echo_port) as proxy, closing(dial(proxy)) as end:
        assert proxy.half_close(to_client=True) == 1
        assert end.recv(1) == b""
        end.sendall(b"abc")
        until(lambda: proxy.passed() >= 5)


def test_connections_are_forgotten(echo_port: int) -> None:
    """They stand, and nothing passes; new ones are not concerned."""
    with Proxy("127.0.0.1", echo_port) as proxy, closing(dial(proxy)) as end:
        assert proxy.forget() == 1
        end.sendall(b"x")
        with closing(dial(proxy)) as other:
            there_and_back(other, b"x")
        end.settimeout(0.1)
        with pytest.raises(TimeoutError):
            end.recv(1)
