"""Which buffers of a group's calls are placed once, and which each time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from skyward.dispatch.tasks import Task
from skyward.pool.placing import WORTH, Placing
from skyward.wire import payload
from skyward.wire.frames import Payload, Repeated

pytestmark = pytest.mark.rule("R20")

SIZE = WORTH  # bytes, so many that it is worth while


class Placer:
    """Places buffers, and notes which."""

    def __init__(self) -> None:
        self.placed: list[bytes] = []
        self._numbers = itertools.count()

    def __call__(self, packed: Payload, *, snapshot: bool) -> Payload:
        """Give each buffer a place of its own."""
        self.placed += map(bytes, packed.buffers)
        kind = "copy" if snapshot else "view"
        return Payload(packed.data, tuple([f"{kind} {next(self._numbers)}".encode() for _ in packed.buffers]))


class Own:
    """Something of the user's, which may do anything while it is pickled."""


def read_only(array: Any) -> Any:
    """Return an array that must not be written to."""
    array.setflags(write=False)
    return array


@pytest.fixture
def placer() -> Placer:
    """Return what the pool does with buffers."""
    return Placer()


@pytest.fixture
def placing(placer: Placer) -> Placing:
    """Return what is known during one dispatch."""
    return Placing(placer, snapshot=False)


def place(placing: Placing, *args: Any, snapshot: bool = True, **kwargs: Any) -> tuple[Any, ...]:
    """Return what stands for the buffers of a call with these arguments."""
    packed, _ = payload.dumps_call(args, kwargs)
    placed = placing.place(packed, args, kwargs, snapshot=snapshot)
    assert placed.data == packed.data
    return placed.buffers


@pytest.mark.parametrize(
    "value",
    [b"x" * SIZE, bytearray(SIZE), np.zeros(SIZE), np.asfortranarray(np.ones((9, SIZE))), read_only(np.ones(SIZE))],
    ids=("bytes", "bytearray", "array", "fortran", "read-only"),
)
def test_argument_is_placed_once(placing: Placing, placer: Placer, value: Any) -> None:
    """Wherever it stands among the arguments, in the order of each call."""
    other = np.ones(SIZE)
    assert place(placing, value, 1, np.int64(1)) == (b"copy 0",)
    assert place(placing, 2, key=value) == (b"copy 0",)
    assert place(placing, other, value) == (b"copy 1", b"copy 0")
    assert place(placing, value, "text", other) == (b"copy 0", b"copy 1")
    assert place(placing, 1, "text") == ()
    assert placer.placed == [value.tobytes("A") if isinstance(value, np.ndarray) else value, other.tobytes()]


def test_small_buffers_are_placed_each_time(placing: Placing, placer: Placer) -> None:
    """To look for them would take longer."""
    value = np.zeros(SIZE // 8 - 1)
    assert (place(placing, value), place(placing, value)) == ((b"copy 0",), (b"copy 1",))
    assert not placing._known


def test_memory_that_stays_the_users_is_no_copy(placing: Placing, placer: Placer) -> None:
    """A call whose arguments have to last is not given what another is content with; a batch may have none of these."""
    value = np.zeros(SIZE)
    assert place(placing, value, snapshot=False) == (b"view 0",)
    assert place(placing, value, snapshot=True) == (b"copy 1",)
    assert place(placing, value, snapshot=False) == (b"view 0",)
    assert place(Placing(placer, snapshot=True), value, snapshot=False) == (b"copy 2",)


def test_what_is_made_for_a_pickle_alone_is_not_kept(placing: Placing, placer: Placer) -> None:
    """The memory of the copy of an array that is not contiguous is soon somebody else's."""
    value = np.arange(2.0 * SIZE)[::2]
    for _ in range(3):
        place(placing, value)
    assert len(placer.placed) == 3
    assert not placing._known


@pytest.mark.parametrize(
    "value", [Own(), [1], {"a": 1}, np.array([Own()]), np.ma.zeros(3), {1, 2}], ids=lambda value: type(value).__name__
)
def test_argument_that_may_run_code_forgets_what_was_known(placing: Placing, placer: Placer, value: Any) -> None:
    """With or without buffers of its own: it could have changed any array."""
    array = np.zeros(SIZE)
    place(placing, array)
    place(placing, value)
    array[:] = 1
    place(placing, array)
    place(placing, array, value)
    place(placing, array)
    assert placer.placed == [bytes(8 * SIZE)] + [array.tobytes()] * 3


def marked(placing: Placing, *buffers: tuple[Any, ...]) -> list[bool]:
    """Return which of the tasks of a batch, which have these buffers, are marked."""
    nobody: Any = None
    tasks = [Task(0, nobody, b"", each, nobody, 0, 0, 0.0, -1, "f", 0, True) for each in buffers]
    placing.end_batch(tasks)
    assert [task.buffers for task in tasks] == list(buffers)
    return [type(task.buffers) is Repeated for task in tasks]


def test_tasks_that_have_the_same_are_marked(placing: Placing) -> None:
    """The first of them, too, and those of the next batch."""
    value, other = np.zeros(SIZE), np.zeros(SIZE)
    first, second = place(placing, value), place(placing, other)
    assert marked(placing, first, second, place(placing, value), place(placing)) == [True, False, True, False]
    assert marked(placing, place(placing, other), place(placing, value)) == [False, True]


@pytest.mark.rule("R21")
def test_what_one_call_has_is_forgotten_with_its_batch(placing: Placing, placer: Placer) -> None:
    """Its place is free when its task has ended, however long the group goes on; what two have stays."""
    value, other = np.zeros(SIZE), np.ones(SIZE)
    assert marked(placing, place(placing, other), place(placing, value), place(placing, value)) == [False, True, True]
    place(placing, value)
    place(placing, other)
    assert placer.placed == [other.tobytes(), value.tobytes(), other.tobytes()]


def test_what_was_found_elsewhere_is_marked() -> None:
    """A call before this dispatch has the same."""
    placing = Placing(lambda packed, **_: Payload(packed.data, Repeated(packed.buffers)), snapshot=True)
    assert type(place(placing, np.zeros(SIZE))) is Repeated


def test_buffer_can_be_referred_to_weakly(placing: Placing) -> None:
    """As a connection does that remembers what it has sent; and all calls have the same object."""
    value = np.zeros(SIZE)
    (one,), (two,) = place(placing, value), place(placing, value)
    assert one is two
    assert type(one) is memoryview
