"""The active pool, pool operands, and where a task runs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import pickle
import threading
import weakref
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

import pytest

import skyward
from skyward import runtime
from skyward.calls import function
from skyward.errors import NoPoolError
from skyward.runtime import (
    InstanceInfo,
    Peer,
    Pool,
    activate,
    active_pool,
    deactivate,
    instance_info,
    resolve_pool,
    sky,
)
from tests.here import HerePool

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

T = TypeVar("T")


@function
def one() -> int:
    return 1


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Check that no test leaves a pool active or an instance set."""
    yield
    runtime.set_instance(None)
    with pytest.raises(NoPoolError):
        active_pool()


@contextlib.contextmanager
def opened(name: str) -> Generator[HerePool]:
    """Return a pool that is active inside the block."""
    pool = HerePool(name)
    activation = activate(pool)
    try:
        yield pool
    finally:
        deactivate(activation, pool)


def in_thread(work: Callable[[], T]) -> T:
    """Return what the work gives in a new thread, whose context is empty."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


# --- the active pool ---------------------------------------------------------------------------


@pytest.mark.rule("R14")
def test_pools_nest() -> None:
    """The innermost open pool is the active one; closing it gives way to the one around it."""
    with opened("outer") as outer:
        assert active_pool() is outer
        with opened("inner") as inner:
            assert active_pool() is inner
        assert active_pool() is outer


@pytest.mark.rule("R14")
def test_no_pool_is_a_runtime_error_that_says_how_to_open_one() -> None:
    """Without a pool the advice is the line to write, in a script and in a notebook."""
    with pytest.raises(NoPoolError) as raised:
        active_pool()
    assert isinstance(raised.value, RuntimeError)
    assert "with sky.Compute(nodes=2) as pool:" in str(raised.value)
    assert "pool = sky.Compute(nodes=2).open()" in str(raised.value)


@pytest.mark.rule("R14")
def test_thread_without_a_pool_uses_the_newest_of_the_process() -> None:
    """A thread that opened none sees the most recently opened pool, of whatever thread."""
    with opened("first"), opened("second") as second:
        assert in_thread(active_pool) is second
        opened_there: list[HerePool] = []

        def open_there() -> tuple[Pool, runtime.Activation]:
            pool = HerePool("third")
            opened_there.append(pool)
            activation = activate(pool)
            return active_pool(), activation

        seen, activation = in_thread(open_there)
        assert seen is opened_there[0]
        assert active_pool() is second  # this context opened one of its own
        assert in_thread(active_pool) is seen
        deactivate(activation, seen)
        assert in_thread(active_pool) is second


@pytest.mark.rule("R14")
def test_asyncio_tasks_have_pools_of_their_own() -> None:
    """A pool opened in one task is not the active pool of another that opened its own."""

    async def use(name: str, arrive: asyncio.Barrier) -> bool:
        with opened(name) as pool:
            await arrive.wait()
            right = active_pool() is pool
            await arrive.wait()
        return right

    async def both() -> list[bool]:
        arrive = asyncio.Barrier(2)
        return list(await asyncio.gather(use("a", arrive), use("b", arrive)))

    assert asyncio.run(both()) == [True, True]


@pytest.mark.rule("R14")
@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_pools_may_close_in_any_order(order: tuple[int, ...]) -> None:
    """After each close the innermost of those still open is active, here and in a thread."""
    pools = [HerePool(str(number)) for number in range(3)]
    activations = [activate(pool) for pool in pools]
    left = dict(enumerate(pools))
    for number in order:
        deactivate(activations[number], pools[number])
        del left[number]
        if left:
            assert active_pool() is left[max(left)]
            assert in_thread(active_pool) is left[max(left)]


@pytest.mark.rule("R14")
def test_pool_may_close_in_another_context() -> None:
    """A context does not see a pool that was closed elsewhere, even by a copy of that context."""
    with opened("outer") as outer:
        inner = HerePool("inner")
        activation = activate(inner)
        remembered = copy_context()
        in_thread(lambda: deactivate(activation, inner))
        assert active_pool() is outer
        assert remembered.run(active_pool) is outer


@pytest.mark.rule("R14")
def test_context_skips_every_pool_that_was_closed_elsewhere() -> None:
    """A context whose two inner pools were closed by a thread goes back to its own outer one, not to the newest."""
    with opened("outer") as outer:
        inner = [HerePool("middle"), HerePool("inner")]
        activations = [activate(pool) for pool in inner]
        newest = HerePool("newest")
        activation = in_thread(lambda: activate(newest))

        def close_inner() -> None:
            for pair in zip(activations, inner, strict=True):
                deactivate(*pair)

        in_thread(close_inner)
        assert active_pool() is outer
        deactivate(activation, newest)


def test_closing_twice_is_harmless() -> None:
    """Only the first deactivation counts."""
    with opened("outer") as outer:
        inner = HerePool()
        activation = activate(inner)
        deactivate(activation, inner)
        deactivate(activation, inner)
        assert active_pool() is outer


def test_same_pool_may_be_active_twice() -> None:
    """Opening again after closing, or twice, counts each time."""
    pool = HerePool()
    first, second = activate(pool), activate(pool)
    deactivate(second, pool)
    assert active_pool() is pool
    deactivate(first, pool)


def test_activation_of_another_pool_is_refused() -> None:
    """A token ends only what it began."""
    with opened("mine"):
        pool = HerePool("yours")
        activation = activate(pool)
        with pytest.raises(ValueError, match="<activation of <pool yours>> does not belong to <pool other>"):
            deactivate(activation, HerePool("other"))
        deactivate(activation, pool)
        assert repr(activation) == "<activation, over>"


def test_closed_pool_is_let_go() -> None:
    """Contexts that remember an activation do not keep its pool alive."""
    pool = HerePool()
    gone = weakref.ref(pool)
    activation = activate(pool)
    remembered = copy_context()
    deactivate(activation, pool)
    del pool
    gc.collect()
    assert gone() is None
    assert remembered is not None


def test_forked_child_knows_the_pools_of_its_parent() -> None:
    """In a fork the pool is still the active one, so that it can say why it cannot be used there."""
    with opened("parent") as pool:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if active_pool() is pool else 1)
        assert os.waitpid(pid, 0)[1] == 0


# --- operands ----------------------------------------------------------------------------------


@pytest.mark.rule("R14")
def test_operand_may_be_a_pool_the_module_or_sky() -> None:
    """A pool means itself, also when another is active; the module and its `sky` mean the active one."""
    other = HerePool("other")
    assert resolve_pool(other) is other
    with opened("active") as pool:
        assert resolve_pool(skyward) is resolve_pool(sky) is resolve_pool(skyward.sky) is pool
        assert resolve_pool(other) is other


def test_operand_that_is_no_pool_is_refused() -> None:
    """Another module is no pool, and neither is anything else."""
    for operand in (os, 5, None, "skyward", object()):
        with pytest.raises(TypeError, match="a call runs on a pool"):
            resolve_pool(operand)


@pytest.mark.rule("R14")
def test_sky_has_the_methods_of_the_active_pool() -> None:
    """What can be asked of a pool can be asked of `sky`."""
    with opened("active") as pool:
        call = one()
        group = one() & one()
        asked: object = sky.run_async(call)
        assert asked is call
        assert sky.run(call) == 1
        assert sky.run_group(group) == (1, 1)
        assert sky.run_parallel(one(), one()) == (1, 1)
        assert sky.broadcast(call) == [1, 1]
        assert [name for name, _ in pool.asked] == ["run_async", "run", "run_group", "run_group", "broadcast"]
        with pytest.raises(NotImplementedError, match="HerePool cannot map"):
            sky.map(len, ["a"])
    with pytest.raises(NoPoolError):
        sky.run(one())
    assert repr(sky) == "<sky: the active pool>"


@pytest.mark.rule("R15")
def test_run_parallel_gives_the_tuple_of_a_group() -> None:
    """`pool.run_parallel(a, b)` is `gather(a, b) >> pool`."""
    pool = HerePool()
    assert pool.run_parallel(one(), one()) == (1, 1)
    assert pool.run_parallel() == ()
    assert {name for name, _ in pool.asked} == {"run_group"}


def test_pool_is_abstract() -> None:
    """A pool that cannot run, start, gather or broadcast is none."""
    with pytest.raises(TypeError, match="broadcast"):
        Pool()  # type: ignore[abstract]  # that is the question


# --- the place of a task -----------------------------------------------------------------------


@pytest.mark.rule("R26")
def test_outside_a_pool_there_is_no_instance() -> None:
    """`instance_info` is None where no task runs."""
    assert instance_info() is None
    assert in_thread(instance_info) is None


@pytest.mark.rule("R26")
def test_instance_info_has_every_field() -> None:
    """All that a task may ask is there, and all of it survives pickling."""
    peers = (Peer(0, "10.0.0.1", "1.2.3.4"), Peer(1, "10.0.0.2", "1.2.3.5"))
    info = InstanceInfo(
        node=1,
        worker=2,
        total_nodes=2,
        workers_per_node=4,
        job_id="job",
        head_addr="10.0.0.1",
        head_port=29500,
        peers=peers,
        hostname="host",
        global_worker_index=6,
        total_workers=8,
        accelerators=("GPU-1",),
    )
    assert not info.is_head
    assert dataclasses.replace(info, node=0).is_head
    assert (info.peers[1].rank, info.peers[1].private_address, info.peers[1].public_address) == (
        1,
        "10.0.0.2",
        "1.2.3.5",
    )
    assert pickle.loads(pickle.dumps(info)) == info
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.node = 5  # type: ignore[misc]  # that is the question


@pytest.mark.rule("R26")
def test_worker_threads_have_instances_of_their_own() -> None:
    """Each thread that is told its slot keeps it, whatever the others are told."""
    arrive = threading.Barrier(2)
    seen: dict[int, InstanceInfo | None] = {}

    def serve(slot: int) -> None:
        runtime.set_instance(InstanceInfo(0, slot))
        arrive.wait()
        seen[slot] = instance_info()

    threads = [threading.Thread(target=serve, args=(slot,)) for slot in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {0: InstanceInfo(0, 0), 1: InstanceInfo(0, 1)}


@pytest.mark.rule("R26")
def test_threads_of_a_task_know_where_it_runs() -> None:
    """A thread that a task starts is told nothing, and still knows the node."""
    info = InstanceInfo(3, 1)
    runtime.set_instance(info)
    assert instance_info() is info
    assert in_thread(instance_info) is info
    runtime.set_instance(None)
    assert instance_info() is None


def test_pool_that_is_offered_is_made_when_it_is_used() -> None:
    """By whatever makes it, each time the same; in threads of no context, too."""
    made: list[HerePool] = []

    def make() -> HerePool:
        if not made:
            made.append(HerePool("offered"))
        return made[0]

    activation = activate(make)
    try:
        assert made == []
        assert active_pool() is in_thread(active_pool) is made[0]
        with opened("inner") as inner:
            assert active_pool() is inner
    finally:
        deactivate(activation, make)
    with pytest.raises(NoPoolError):
        active_pool()
