"""How calls become bundles, and what becomes of a bundle's calls; the test is their owner."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import pytest

import skyward as sky
from skyward.errors import NodeLostError, ProtocolError, RemoteError
from skyward.pool.bundling import (
    FIRST,
    LEAST,
    SHARES,
    SMALL,
    TOO_LONG,
    WORTHWHILE,
    Bundler,
    is_worthwhile,
    size_of_bundles,
)
from skyward.results import CancelledError, Collection
from skyward.wire import bundles, failures, payload
from skyward.wire.bundles import LARGEST, Mixed
from skyward.wire.functions import FunctionBlob
from skyward.wire.statuses import CRASHED, MIXED, OK, RAISED, Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.dispatch.tasks import Task
    from skyward.results import Outcome

BLOB: Final = FunctionBlob(b"f" * 16, "f", b"", ())


@sky.function
def f(*args: Any, **kwargs: Any) -> Any:
    """Do nothing: it never runs here."""
    return args, kwargs


@sky.function
def g(*args: Any) -> Any:
    """Do nothing."""
    return args


class Owner:
    """Keeps what is to run again."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self.tasks: list[Task] = []
        self.counts = (0, 0)  # done, failed of the last ones
        self.failed = 0

    def new_id(self) -> int:
        """Return an id."""
        return next(self._ids)

    def note_failure(self) -> None:
        """Count."""
        self.failed += 1

    def again(self, tasks: Sequence[Task], *, done: int, failed: int) -> None:
        """Keep."""
        self.tasks += tasks
        self.counts = done, failed


class Group:
    """A group of calls, in bundles of up to four."""

    def __init__(self, *calls: Any, most: int = 4, cost: float | None = 1.0, return_exceptions: bool = True) -> None:
        self.owner = Owner()
        self.cancelled: list[Sequence[Task]] = []
        options: dict[str, Any] = {"return_exceptions": return_exceptions, "cancel": self.cancelled.append}
        self.all = Collection(len(calls), **options)
        bundler = Bundler(self.owner, self.all, lambda _: cost, most * SHARES, 1)
        self.tasks: list[Task] = []
        self.alone = [
            i for i, call in enumerate(calls) if not bundler.take(call, i, self.tasks, lambda _: (BLOB, 3, 0.0))
        ]
        bundler.close(self.tasks)
        self.all.tasks = list(self.tasks)

    def deliver(self, outcome: Outcome, number: int = 0) -> None:
        """End a bundle."""
        self.tasks[number].sink.deliver(self.tasks[number], outcome)

    def args(self) -> list[tuple[int, Any]]:
        """Return index and arguments of the tasks that are to run again."""
        return [(task.index, payload.loads_call(task.data)[0]) for task in self.owner.tasks]


def outcome(status: int, data: bytes) -> Outcome:
    """Return what a node says of a bundle."""
    return status, data, (), 1, 17, "f"


def mixed(values: dict[int, Any], failed: Sequence[int] = (), left: Sequence[int] = ()) -> Outcome:
    """Return the outcome of a bundle whose calls ended differently."""
    failure = failures.encode(failures.from_exception(ValueError("bad")))
    return outcome(MIXED, bundles.pack_mixed(Mixed(values, dict.fromkeys(failed, (RAISED, failure)), list(left))))


# --- calls ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cost", "calls", "slots", "size"),
    [
        (None, 10_000, 2, LARGEST),
        (None, SHARES * 2 * LEAST - 1, 2, 1),
        (WORTHWHILE / LEAST, 10_000, 2, LEAST),
        (WORTHWHILE / LEAST + 1, 10_000, 2, 1),
        (1.0, 10_000, 2, LARGEST),
        (0.0, 10_000, 2, LARGEST),
        (1.0, SHARES * 2 * 10, 2, 10),
        (1.0, SHARES * 2 * LEAST - 1, 2, 1),
        (1.0, 100, 0, 12),
    ],
)
def test_bundles_are_as_large_as_is_wise(cost: float | None, calls: int, slots: int, size: int) -> None:
    """Short calls go together, as many as leave all slots busy to the end; of others nothing is known, or enough."""
    assert size_of_bundles(cost, calls, slots) == size


def test_function_that_has_not_run_is_tried_first() -> None:
    """Some of its calls go alone, before its bundles."""
    group = Group(*[f(i) for i in range(FIRST + 10)], most=5, cost=None)
    assert group.alone == list(range(FIRST))
    assert [task.count for task in group.tasks] == [5, 5]


@pytest.mark.parametrize(("cost", "worth"), [(None, True), (TOO_LONG, True), (TOO_LONG + 1, False)])
def test_long_calls_have_no_advantage(cost: float | None, worth: bool) -> None:
    """Once it is known that they are."""
    assert is_worthwhile(cost) is worth


def test_calls_of_each_function_go_together() -> None:
    """In the order of the group; what is left over is a smaller bundle, or a task."""
    group = Group(*[function(i) for i in range(5) for function in (f, g)])
    assert [task.count for task in group.tasks] == [4, 4, 1, 1]
    assert [bundles.unpack(task.data) for task in group.tasks[:2]] == [[(0,), (1,), (2,), (3,)]] * 2
    assert [(task.index, payload.loads_call(task.data)) for task in group.tasks[2:]] == [
        (8, ((4,), {})),
        (9, ((4,), {})),
    ]


@pytest.mark.parametrize(
    "call",
    [
        f([1]), f(a=1), f(object()), f(b"x" * (SMALL + 1)), f("ä" * (SMALL // 4 + 1)), f(2**63), f(-(2**63)),
        f(1).with_timeout(5), f(1).with_retries(0), f(1).on(0), f(1).named("one"),
    ],
)  # fmt: skip
def test_call_with_anything_of_its_own_stays_alone(call: Any) -> None:
    """A bundle has what all its calls have in common."""
    assert Group(f(1), call, f(2)).alone == [1]


def test_bundle_has_so_many_bytes_and_no_more() -> None:
    """Large arguments go in smaller bundles."""
    assert [task.count for task in Group(*[f("x" * SMALL)] * 30, most=64).tasks] == [9, 9, 9, 3]
    assert [task.count for task in Group(*[f("ä" * (SMALL // 4))] * 30, most=64).tasks] == [9, 9, 9, 3]


# --- outcomes ------------------------------------------------------------------------------


def test_values_reach_their_members() -> None:
    """Plain ones, and others."""
    group = Group(*[function(i) for i in range(3) for function in (f, g)])
    own = bundles.as_value(payload.dumps_value([7]))
    group.deliver(outcome(OK, bundles.pack_values([1, own, None])))
    assert not group.all.done
    group.deliver(outcome(OK, bundles.pack_values([2, 3, 4])), 1)
    assert group.all.values() == (1, 2, [7], 3, None, 4)


def test_values_that_make_no_sense_are_an_error_of_each() -> None:
    """Whoever takes them is told; nobody waits for ever."""
    for end in (outcome(OK, b"rubbish"), outcome(MIXED, b"rubbish"), mixed({0: 0})):
        group = Group(f(0), f(1), f(2))
        group.deliver(end)
        assert [type(value) for value in group.all.values()] == [RemoteError] * 3
    group = Group(f(0), f(1), f(2), return_exceptions=False)
    group.deliver(outcome(OK, b"rubbish"))
    with pytest.raises(RemoteError, match="cannot be unpickled here"):
        group.all.values()


def test_value_that_cannot_be_unpickled_stands_in_its_place() -> None:
    """Or is raised, where no exception may stand there."""
    for together in (True, False):
        group = Group(f(0), f(1), f(2), return_exceptions=together)
        group.deliver(outcome(OK, bundles.pack_values([1, (b"rubbish", ()), 3])))
        if together:
            assert isinstance(group.all.values()[1], RemoteError)
        else:
            with pytest.raises(RemoteError):
                group.all.values()


@pytest.mark.rule("R13")
def test_failures_reach_their_members_and_what_is_left_runs_again() -> None:
    """As tasks of single calls, of the same group."""
    group = Group(f(0), f(1), f(2))
    group.deliver(mixed({0: 7}, failed=[1], left=[2]))
    assert group.owner.failed == 1
    assert group.owner.counts == (1, 0)
    assert group.args() == [(2, (2,))]
    (task,) = group.owner.tasks
    assert (task.count, task.retries, task.crashes, task.losses) == (1, 3, 0, 0)
    assert task in group.all.tasks
    task.sink.deliver(task, outcome(OK, bytes(payload.dumps_value("two").data)))
    values = group.all.values()
    assert (values[0], str(values[1]), values[2]) == (7, "bad", "two")


@pytest.mark.rule("R38")
def test_crash_is_charged_to_the_call_that_ran() -> None:
    """The others run again as if nothing had been."""
    group = Group(f(0), f(1), f(2))
    group.deliver(outcome(CRASHED, failures.encode(Failure(CRASHED, place=1))))
    assert [(task.index, task.retries, task.crashes) for task in group.owner.tasks] == [(0, 3, 0), (1, 2, 1), (2, 3, 0)]
    assert group.owner.counts == (3, 3)


@pytest.mark.rule("R38")
def test_crash_of_nobody_knows_whom_is_charged_to_nobody() -> None:
    """Whoever is to blame will do it again."""
    group = Group(f(0), f(1), f(2))
    group.deliver(outcome(CRASHED, failures.encode(Failure(CRASHED))))
    assert [task.crashes for task in group.owner.tasks] == [0, 0, 0]


def test_what_was_said_before_the_end_counts_once() -> None:
    """The outcome of the bundle says it again."""
    group = Group(f(0), f(1), f(2))
    (bundle,) = group.tasks
    said = bundles.pack_mixed(Mixed({0: 0}, {}, [2]))
    assert bundle.sink.interim(bundle, said, 1)[:2] == (1, 1)
    assert bundle.sink.interim(bundle, said, 1) == (0, 0, [])
    with pytest.raises(ProtocolError, match="none of its calls does"):
        bundle.sink.interim(bundle, bundles.pack_mixed(Mixed({0: 0, 1: 1}, {}, [2])), 1)
    group.deliver(mixed({0: 7, 1: 1}, left=[2]))
    assert group.owner.tasks == []
    assert group.all.outcomes[2] is None
    assert group.all.left == 1


@pytest.mark.rule("R36")
@pytest.mark.parametrize(("losses", "again"), [(0, [1]), (1, [1]), (3, [1]), (4, [])])
def test_call_whose_node_is_lost_after_the_others_went_runs_again(losses: int, again: list[int]) -> None:
    """As often as it may; its bundle as a whole does not."""
    group = Group(f(0), f(1), f(2))
    (bundle,) = group.tasks
    bundle.sink.interim(bundle, bundles.pack_mixed(Mixed({0: 0}, {}, [2])), 1)
    bundle.losses = losses
    group.deliver(NodeLostError(1, "gone"))
    assert [(task.index, task.losses) for task in group.owner.tasks] == [(index, losses) for index in again]
    assert isinstance(group.all.outcomes[1], NodeLostError) is not bool(again)


def test_lost_bundle_that_may_not_run_again_fails_each_call() -> None:
    """The scheduler has tried as often as it may."""
    group = Group(f(0), f(1), f(2))
    group.deliver(NodeLostError(1, "gone"))
    assert {type(value) for value in group.all.values()} == {NodeLostError}


@pytest.mark.rule("R38")
def test_crash_of_a_bundle_that_may_not_run_again_spares_what_had_not_begun() -> None:
    """What came before the call that ran has run, and its value is lost."""
    group = Group(f(0), f(1), f(2))
    group.tasks[0].losses = 3
    group.deliver(outcome(CRASHED, failures.encode(Failure(CRASHED, "WorkerCrashedError", place=1))))
    assert [(task.index, task.retries - task.losses) for task in group.owner.tasks] == [(2, 0)]
    assert group.owner.counts == (1, 1)
    assert [outcome is None for outcome in group.all.outcomes] == [False, False, True]


def test_calls_of_a_cancelled_bundle_do_not_run_again() -> None:
    """What it has left, or lost, is cancelled, but for the call that has brought its worker down."""
    for end in (mixed({0: 0}, left=[1, 2]), outcome(CRASHED, failures.encode(Failure(CRASHED, place=0)))):
        group = Group(f(0), f(1), f(2))
        group.tasks[0].cancelled = True
        group.deliver(end)
        assert group.owner.tasks == []
        assert group.all.done
        assert [type(value) for value in group.all.outcomes[1:]] == [CancelledError] * 2


def test_nothing_runs_again_for_a_group_that_is_over() -> None:
    """It has failed, and nobody wants the rest."""
    group = Group(f(0), f(1), f(2), return_exceptions=False)
    group.deliver(mixed({}, failed=[0], left=[1, 2]))
    assert group.all.done
    assert group.owner.tasks == []


@pytest.mark.rule("R17")
def test_bundle_can_be_taken_apart_before_it_goes() -> None:
    """For a node that takes none; its calls keep their places in the queue."""
    group = Group(f(0), f(1), f(2))
    (bundle,) = group.tasks
    bundle.place = 40
    found = [(task.index, task.count, task.place) for task in bundle.sink.dissolve(bundle)]
    assert found == [(0, 1, 40), (1, 1, 41), (2, 1, 42)]
