"""What tasks are told about where they run."""

from __future__ import annotations

import socket

import pytest

from skyward.wire.messages import Member
from skyward_node.pipe_messages import Context
from skyward_node.worker.instance import instance_of


@pytest.mark.rule("R26")
def test_instance_counts_nodes_and_workers_of_the_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks, indexes and addresses follow from the roster, whatever its order."""
    members = [Member(2, "c", "10.0.0.3"), Member(0, "a", "10.0.0.1"), Member(1, "b", "10.0.0.2")]
    context = Context(bytes(16), 2, "job", members, [4, 2, 3], 7000, 1, 1.0, 0, ["0"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    info = instance_of(context, 2)
    assert (info.node, info.worker, info.total_nodes, info.workers_per_node) == (2, 3, 3, 4)
    assert (info.is_head, info.head_addr, info.head_port, info.job_id) == (False, "10.0.0.1", 7000, "job")
    assert (info.global_worker_index, info.total_workers) == (2 + 3 + 3, 9)
    assert [peer.rank for peer in info.peers] == [0, 1, 2]
    assert info.hostname == socket.gethostname()
    assert info.accelerators == ("0",)


@pytest.mark.rule("R26")
def test_every_rank_is_less_than_the_number_of_nodes() -> None:
    """Also while a node between is being replaced: it is counted, and is no peer. Workers are numbered without gaps."""
    members = [Member(0, "a", "10.0.0.1"), Member(2, "c", "10.0.0.3")]
    info = instance_of(Context(bytes(16), 2, "job", members, [1, 1], 0, 0, 1.0, 0, []), 0)
    assert (info.node, info.total_nodes) == (2, 3)
    assert [peer.rank for peer in info.peers] == [0, 2]
    assert (info.global_worker_index, info.total_workers) == (1, 2)


@pytest.mark.rule("R26")
def test_instance_names_the_accelerators_of_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that sees a share of the node's devices says so."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    context = Context(bytes(16), 0, "job", [Member(0, "a", "a")], [2], 0, 1, 1.0, 0, ["0", "1", "2", "3"])
    assert instance_of(context, 0).accelerators == ("2", "3")
