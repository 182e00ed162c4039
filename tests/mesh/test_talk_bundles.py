"""Bundles between a client and nodes that do what the test says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.pool.bundling import TOO_LONG, Bundler
from skyward.results import Collection
from skyward.wire import bundles
from skyward.wire.bundles import Interim, Mixed
from skyward.wire.messages import Tasks
from skyward.wire.statuses import MIXED
from tests.mesh.scripted import blob

if TYPE_CHECKING:
    from skyward.dispatch.tasks import Task
    from tests.mesh.meshes import Mesh


@sky.function
def f(number: int) -> int:
    """Do nothing: it never runs here."""
    return number


def send(mesh: Mesh, count: int = 3) -> tuple[Task, Collection]:
    """Hand in a bundle of calls; return it, and where their outcomes will be."""
    engine = mesh.engine
    collection = Collection(count, return_exceptions=True, cancel=engine.cancel)
    bundler = Bundler(engine.bundling, collection, lambda _: 1.0, 1_000, 1)
    for index in range(count):
        bundler.take(f(index), index, collection.tasks, lambda _: (blob(), 3, 0.0))
    bundler.close(collection.tasks)
    (task,) = collection.tasks
    mesh.submit(task)
    return task, collection


def values(mesh: Mesh, collection: Collection) -> tuple[Any, ...]:
    """Return the values of the calls, when all are there."""
    assert mesh.engine.loop.wait(collection)
    return collection.values()


def counts(mesh: Mesh) -> tuple[int, int, int, int]:
    """Return what the pool counts."""
    found = mesh.engine.snapshot()
    return found.queued, found.in_flight, found.done, found.failed


def test_bundle_goes_as_one_task(mesh: Mesh) -> None:
    """Its calls are counted, and its values reach them."""
    (node,) = mesh.open(bundles=True)
    task, collection = send(mesh)
    batch = node.expect(Tasks)
    assert (batch.ids, batch.counts, batch.crashes) == ([task.id], [3], [])
    assert bundles.unpack(node.payloads(batch)[0]) == [(0,), (1,), (2,)]
    assert counts(mesh) == (0, 3, 0, 0)
    node.finish([task.id], data=bundles.pack_values([1, 2, 3]))
    assert values(mesh, collection) == (1, 2, 3)
    assert counts(mesh) == (0, 0, 3, 0)


def test_calls_that_are_left_are_counted_once(mesh: Mesh) -> None:
    """They run by themselves."""
    (node,) = mesh.open(slots=3, bundles=True)
    task, collection = send(mesh)
    node.expect(Tasks)
    node.finish([task.id], status=MIXED, data=bundles.pack_mixed(Mixed({0: 1}, {}, [1, 2])))
    batch = node.expect(Tasks)
    assert (len(batch.ids), batch.counts) == (2, [])
    assert counts(mesh) == (0, 2, 1, 0)
    node.finish(batch.ids, 7)
    assert values(mesh, collection) == (1, 7, 7)
    assert counts(mesh) == (0, 0, 3, 0)


def test_what_was_said_meanwhile_counts_at_once(mesh: Mesh) -> None:
    """The call that takes long is all that is left of the bundle."""
    node, other = mesh.open(2, bundles=True)
    task, collection = send(mesh)
    node.expect(Tasks)
    node.send(Interim(node.epoch, task.id, bundles.pack_mixed(Mixed({0: 1}, {}, [2]))))
    batch = other.expect(Tasks)
    assert counts(mesh) == (0, 2, 1, 0)
    other.finish(batch.ids, 3)
    node.finish([task.id], status=MIXED, data=bundles.pack_mixed(Mixed({0: 1, 1: 2}, {}, [2])))
    assert values(mesh, collection) == (1, 2, 3)
    assert counts(mesh) == (0, 0, 3, 0)


def test_what_makes_no_sense_meanwhile_is_ignored(mesh: Mesh) -> None:
    """A task can write on the pipe of its worker; the outcome of the bundle is still to come."""
    (node,) = mesh.open(bundles=True)
    task, collection = send(mesh)
    node.expect(Tasks)
    node.send(Interim(node.epoch, task.id + 1, b"rubbish"))
    node.send(Interim(node.epoch, task.id, b"rubbish"))
    node.send(Interim(node.epoch, task.id, bundles.pack_mixed(Mixed({0: 1, 1: 2}, {}, [2]))))
    node.finish([task.id], data=bundles.pack_values([1, 2, 3]))
    assert values(mesh, collection) == (1, 2, 3)
    assert counts(mesh) == (0, 0, 3, 0)


def test_node_that_takes_none_gets_the_calls_alone(mesh: Mesh) -> None:
    """Also if the bundle was made before it came; no more are made then."""
    (node,) = mesh.open(slots=3)
    assert not mesh.engine.bundling.possible
    many = Collection(9_999, return_exceptions=True, cancel=mesh.engine.cancel)
    assert mesh.engine.bundling.bundler(many, 9_999, 3) is None
    _, collection = send(mesh)
    batch = node.expect(Tasks)
    assert (len(batch.ids), batch.counts) == (3, [])
    assert counts(mesh) == (0, 3, 0, 0)
    node.finish(batch.ids, 7)
    assert values(mesh, collection) == (7, 7, 7)
    assert counts(mesh) == (0, 0, 3, 0)
    assert mesh.engine.window.outstanding == 0


def test_calls_that_are_known_to_take_long_by_now_go_alone(mesh: Mesh) -> None:
    """Nothing was known when the bundle was made."""
    (node,) = mesh.open(slots=4, bundles=True)
    mesh.engine.scheduler.assignment.durations.observe(blob().key, TOO_LONG + 1)
    _, collection = send(mesh)
    batch = node.expect(Tasks)
    assert (len(batch.ids), batch.counts) == (3, [])
    node.finish(batch.ids, 7)
    assert values(mesh, collection) == (7, 7, 7)
    assert counts(mesh) == (0, 0, 3, 0)


def test_node_that_takes_fewer_bytes_gets_the_calls_alone(mesh: Mesh) -> None:
    """The limit is one of each call."""
    (node,) = mesh.open(slots=3, bundles=True)
    mesh.engine.crew.mates[0].max_payload = 25
    _, collection = send(mesh)
    batch = node.expect(Tasks)
    assert (len(batch.ids), batch.counts) == (3, [])
    node.finish(batch.ids, 7)
    assert values(mesh, collection) == (7, 7, 7)


@pytest.mark.rule("R17")
def test_calls_that_are_left_keep_their_place(mesh: Mesh) -> None:
    """They run before what was handed in after their group."""
    (node,) = mesh.open(bundles=True)
    task, _ = send(mesh)
    later = mesh.task()
    mesh.submit(later)
    node.expect(Tasks)
    node.finish([task.id], status=MIXED, data=bundles.pack_mixed(Mixed({0: 1}, {}, [1, 2])))
    assert node.expect(Tasks).ids[2:] == [later.id]


def test_only_large_groups_have_bundles(mesh: Mesh) -> None:
    """And none of a pool whose calls may have few bytes."""
    mesh.open(bundles=True)
    bundling = mesh.engine.bundling
    collection = Collection(1_000, return_exceptions=True, cancel=mesh.engine.cancel)
    assert bundling.bundler(collection, 1_000, 1) is not None
    assert bundling.bundler(collection, 20, 1) is None
