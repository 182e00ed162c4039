"""What `sky.instance_info()` says, wherever it is asked (R26)."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.processes import pid_of, replaced
from tests.rules.work import LONG, meet_where, place, until, where

if TYPE_CHECKING:
    from pathlib import Path

    from skyward.model import Executor

FIELDS = {
    "node", "worker", "total_nodes", "workers_per_node", "is_head", "job_id", "head_addr", "head_port", "peers",
    "hostname", "global_worker_index", "total_workers", "accelerators",
}  # fmt: skip


@pytest.mark.rule("R26")
def test_info_has_every_field_of_the_rule() -> None:
    """And no other."""
    names = {field.name for field in dataclasses.fields(sky.InstanceInfo)} | {"is_head"}
    assert names == FIELDS
    assert {field.name for field in dataclasses.fields(sky.Peer)} == {"rank", "private_address", "public_address"}


@pytest.mark.rule("R26")
@pytest.mark.parametrize(("executor", "processes"), [("process", 4), ("thread", 2)])
def test_workers_of_a_node_are_told_apart(tmp_path: Path, executor: Executor, processes: int) -> None:
    """Each process, or each thread in the one process of its node, has an index of its own."""
    with sky.Compute(nodes=2, executor=executor, concurrency=2) as pool:
        met = sky.gather(*[meet_where(str(tmp_path), str(i), 4) for i in range(4)]) >> pool
    infos = [info for info, _ in met if info is not None]
    assert len({pid for _, pid in met}) == processes
    assert sorted((info.node, info.worker, info.global_worker_index) for info in infos) == [
        (0, 0, 0),
        (0, 1, 1),
        (1, 0, 2),
        (1, 1, 3),
    ]
    assert {(info.total_nodes, info.workers_per_node, info.total_workers) for info in infos} == {(2, 2, 4)}


@pytest.mark.rule("R26")
def test_info_follows_the_size_of_the_pool(pool: sky.Compute) -> None:
    """A task that starts after a resize sees the new number of nodes, and them as its peers."""

    def seen() -> list[tuple[int, int, list[int]]]:
        infos = [info for _, info in where(1) @ pool if info is not None]
        return [(info.total_nodes, info.total_workers, [peer.rank for peer in info.peers]) for info in infos]

    assert seen() == [(2, 2, [0, 1])] * 2
    pool.resize(3)
    until(lambda: pool.current_nodes() == 3)
    until(lambda: seen() == [(3, 3, [0, 1, 2])] * 3)
    pool.resize(1)
    until(lambda: len(pool.snapshot().nodes) == 1)
    until(lambda: seen() == [(1, 1, [0])])


@pytest.mark.rule("R26")
def test_job_is_the_pool(pool: sky.Compute) -> None:
    """Its id is the same on a replacement of a node, and different in another pool."""

    def jobs(of: sky.Compute) -> set[str]:
        return {info.job_id for _, info in where(2) @ of if info is not None}

    (job,) = jobs(pool)
    lost = pid_of(pool.snapshot().nodes[1])
    os.kill(lost, signal.SIGKILL)
    replaced(pool, {lost})
    assert len(where(3) @ pool) == 2
    assert jobs(pool) == {job}
    with sky.Compute(nodes=1) as other:
        (another,) = jobs(other)
        assert another != job


@pytest.mark.rule("R26")
def test_tasks_can_meet_at_the_head(pool: sky.Compute) -> None:
    """Its address and port are free for a rendezvous of the tasks' own."""

    @sky.function
    def rendezvous(word: str) -> tuple[str, bool]:
        info = sky.instance_info()
        assert info is not None
        address = info.head_addr, info.head_port
        if info.is_head:
            with socket.create_server(address) as server:
                server.settimeout(LONG)
                with server.accept()[0] as peer:
                    peer.sendall(word.encode())
                    return peer.recv(100).decode(), info.is_head
        until(lambda: not _refused(address))
        with socket.create_connection(address, timeout=LONG) as peer:
            got = peer.recv(100).decode()
            peer.sendall(f"{got} and {info.node}".encode())
            return got, info.is_head

    def _refused(address: tuple[str, int]) -> bool:
        """Return whether nobody listens, without being the connection that the head waits for."""
        with open("/proc/net/tcp", encoding="ascii") as table:
            port = f":{address[1]:04X}"
            return not any(row.split()[1].endswith(port) and row.split()[3] == "0A" for row in list(table)[1:])

    assert rendezvous("hello") @ pool == [("hello and 1", True), ("hello", False)]


@pytest.mark.rule("R26")
def test_info_is_there_in_threads_and_coroutines_of_a_task(pool: sky.Compute) -> None:
    """Whatever a task starts in its process knows as much as the task."""

    @sky.function
    def in_thread(value: int) -> tuple[int, bool]:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(sky.instance_info()))
        thread.start()
        thread.join()
        return value, found == [sky.instance_info()]

    @sky.function
    async def in_coroutine(value: int) -> tuple[int, bool]:
        return value, await asyncio.to_thread(sky.instance_info) == sky.instance_info() is not None

    assert in_thread(1) @ pool == [(1, True)] * 2
    assert in_coroutine(2) @ pool == [(2, True)] * 2


@pytest.mark.rule("R26")
def test_info_is_none_outside_a_task(pool: sky.Compute) -> None:
    """In the client, also while a pool is open, in its threads and in its callbacks."""
    future = place(1) > pool
    in_callback: list[Any] = []
    called = threading.Event()

    def note(_: Any) -> None:
        in_callback.append(sky.instance_info())
        called.set()

    future.add_done_callback(note)
    assert called.wait(LONG)
    assert future.result()[0] == 1
    assert sky.instance_info() is None
    assert in_callback == [None]


@pytest.mark.rule("R26")
def test_task_knows_where_it_runs() -> None:
    """Every field of `instance_info`; None outside a pool."""
    assert sky.instance_info() is None
    with sky.Compute(nodes=2, concurrency=2) as pool:
        infos = [info for _ in range(20) for info in sky.function(sky.instance_info)() @ pool if info is not None]
        assert len(infos) == 40
        first = infos[0]
        assert {info.node for info in infos} == {0, 1}
        assert all(info.worker in (0, 1) for info in infos)
        assert {(info.total_nodes, info.workers_per_node, info.total_workers) for info in infos} == {(2, 2, 4)}
        assert [info.is_head for info in infos[:2]] == [True, False]
        assert {info.job_id for info in infos} == {first.job_id} != {""}
        assert {(info.head_addr, info.head_port) for info in infos} == {("127.0.0.1", first.head_port)}
        assert 0 < first.head_port < 65536
        assert [peer.rank for peer in first.peers] == [0, 1]
        assert all(peer.private_address and peer.public_address for peer in first.peers)
        assert first.hostname == os.uname().nodename
        assert all(info.global_worker_index == 2 * info.node + info.worker for info in infos)
        assert first.accelerators == ()
