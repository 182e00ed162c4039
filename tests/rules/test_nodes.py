"""How many nodes a pool has, and what happens when one is lost."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.work import add, hold, let_go, note, place, runs, until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.rule("R33")
@pytest.mark.parametrize(
    ("nodes", "kind"),
    [
        (0, ValueError),
        ((3, 2), ValueError),
        ("4", TypeError),
        (2.5, TypeError),
        (True, TypeError),
        ((1, 2, 3), TypeError),
    ],
)
def test_bad_numbers_of_nodes_are_told(nodes: Any, kind: type[Exception]) -> None:
    """Bounds are checked before anything starts."""
    with pytest.raises(kind, match=r"nodes|node"):
        sky.Compute(nodes=nodes)


@pytest.mark.rule("R33")
def test_nodes_form_says_min_desired_and_max() -> None:
    """A number, a pair, or `Nodes`."""
    assert sky.Nodes(2) == sky.Nodes(2, 2, 2)
    with pytest.raises(ValueError, match="min"):
        sky.Nodes(desired=1, min=2, max=3)
    with sky.Compute(nodes=sky.Nodes(desired=2, min=1, max=3)) as pool:
        until(lambda: pool.current_nodes() == 2)
        assert pool.snapshot().active


@pytest.mark.rule("R33")
def test_pool_is_resized(pool: sky.Compute, tmp_path: Path) -> None:
    """Up beyond the old max and down again; at once, and without losing what runs."""
    running = hold(str(tmp_path), "a").on(1) > pool
    runs(tmp_path, "a")
    pool.resize(4)
    until(lambda: pool.current_nodes() == 4)
    assert [node for _, _, node in sky.gather(*[place(i).on(i) for i in (0, 2, 3)]) >> pool] == [0, 2, 3]
    pool.resize(1)
    until(lambda: pool.current_nodes() == 1)
    let_go(tmp_path, "a")
    assert running.result() == "a"
    until(lambda: len(pool.snapshot().nodes) == 1)
    assert [node.rank for node in pool.snapshot().nodes] == [0]
    assert (place(7) >> pool)[0::2] == (7, 0)
    with pytest.raises(TypeError):
        pool.resize("2")  # type: ignore[arg-type]  # that is the mistake


@pytest.mark.rule("R51")
@pytest.mark.rule("F7")
def test_lost_node_is_replaced_and_its_tasks_move(pool: sky.Compute, tmp_path: Path) -> None:
    """The unfinished task runs again elsewhere, once; the replacement has the free rank."""

    @sky.function
    def work(directory: str, name: str) -> tuple[str, int]:
        note.local(directory, f"{name}-times")
        return hold.local(directory, name), os.getpid()

    first = work(str(tmp_path), "a") > pool
    runs(tmp_path, "a")
    busy = next(node for node in pool.snapshot().nodes if node.in_flight)
    (tmp_path / "a-runs").unlink()
    os.kill(busy.pid, signal.SIGKILL)
    runs(tmp_path, "a")
    let_go(tmp_path, "a")
    assert first.result()[0] == "a"
    assert (tmp_path / "a-times").read_text() == "xx"
    until(lambda: pool.current_nodes() == 2)
    ranks = {node.rank: node.pid for node in pool.snapshot().nodes}
    assert set(ranks) == {0, 1}
    assert ranks[busy.rank] != busy.pid
    assert [node for _, _, node in place() @ pool] == [0, 1]
    assert pool.snapshot().rerun == 1


@pytest.mark.rule("R36")
def test_lost_task_that_may_not_move_is_told(pool: sky.Compute, tmp_path: Path) -> None:
    """With ``retries=0``, with ``.on``, and in a broadcast, whose other results are kept."""
    pinned = hold(str(tmp_path), "a").on(1) > pool
    runs(tmp_path, "a")
    single = hold(str(tmp_path), "b").with_retries(0) > pool
    runs(tmp_path, "b")
    for node in pool.snapshot().nodes:
        os.kill(node.pid, signal.SIGKILL)
    for future in (pinned, single):
        with pytest.raises(sky.NodeLostError, match=r"node \d was lost"):
            future.result()
    until(lambda: pool.current_nodes() == 2)

    @sky.function
    def die_on(rank: int) -> int:
        info = sky.instance_info()
        assert info is not None
        if info.node == rank:
            os.kill(os.getppid(), signal.SIGKILL)  # the template: the node is lost with it
            signal.pause()
        return info.node

    with pytest.raises(sky.BroadcastError) as caught:
        die_on(1) @ pool
    assert caught.value.results[0] == 0
    assert isinstance(caught.value.results[1], sky.NodeLostError)


@pytest.mark.rule("R36")
@pytest.mark.rule("F8")
def test_silent_node_is_lost(pool: sky.Compute, tmp_path: Path) -> None:
    """A daemon that is stopped says nothing: its task runs again elsewhere."""
    future = place(1) > pool
    assert future.result()[0] == 1
    held = hold(str(tmp_path), "a") > pool
    runs(tmp_path, "a")
    busy = next(node for node in pool.snapshot().nodes if node.in_flight)
    (tmp_path / "a-runs").unlink()
    os.kill(busy.pid, signal.SIGSTOP)
    runs(tmp_path, "a")
    let_go(tmp_path, "a")
    assert held.result() == "a"
    until(lambda: pool.current_nodes() == 2)


@pytest.mark.rule("R51")
def test_shrinking_takes_the_highest_ranks() -> None:
    """Rank 0 stays."""
    with sky.Compute(nodes=3) as pool:
        pool.resize(2)
        until(lambda: len(pool.snapshot().nodes) == 2)
        assert [node for _, _, node in place() @ pool] == [0, 1]


@pytest.mark.rule("R51")
def test_no_node_left_is_told_with_the_causes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls wait for a node no longer than `node_wait`."""
    from skyward.errors import ProvisionError
    from skyward.providers.local import Local

    broken = threading.Event()

    class Broken(Local):
        def launch(self, *args: Any, **options: Any) -> Any:
            if broken.is_set():
                raise ProvisionError("the machine is on fire")
            return super().launch(*args, **options)

    with sky.Compute(Broken(), nodes=1, node_wait=1.0) as pool:
        assert add(1, 2) >> pool == 3
        broken.set()
        os.kill(pool.snapshot().nodes[0].pid, signal.SIGKILL)
        until(lambda: pool.current_nodes() == 0)
        with pytest.raises(sky.NoNodesError, match="the machine is on fire"):
            add(1, 2) >> pool
        broken.clear()
        until(lambda: pool.current_nodes() == 1)
        assert add(1, 2) >> pool == 3
