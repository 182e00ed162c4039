"""When memory that a pool shares with its nodes may be used again."""

from __future__ import annotations

import errno
import gc
import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest

from skyward.dispatch.tasks import Task
from skyward.errors import PoolClosedError, ProtocolError
from skyward.machine.memory import LEAST, Arena, Files
from skyward.mesh.sharing import Sharing
from skyward.results import DISCARD, CancelledError, Outcome
from skyward.wire.frames import Payload, Ref
from skyward.wire.messages import MAX_BATCH
from skyward.wire.statuses import CANCELLED, CRASHED, OK, RAISED, TIMED_OUT, TOO_LARGE

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2**20
ids = itertools.count(1)


@pytest.fixture
def sharing() -> Iterator[Sharing]:
    """Return what a pool has, with room for 16 MiB."""
    sharing = Sharing(16 * MIB)
    yield sharing
    sharing.close()


def placed(sharing: Sharing, *, node: int = 0, losses: int = 0) -> Task:
    """Return a task whose argument lies in shared memory."""
    packed = sharing.place(Payload(b"args", (b"x" * LEAST,)))
    task = Task(next(ids), None, packed.data, packed.buffers, DISCARD, 0, 3, 0.0, -1, "f")
    task.node, task.losses = node, losses
    return task


def arena_of(task: Task) -> int:
    """Return the memory in which its argument lies."""
    (ref,) = task.buffers
    assert type(ref) is Ref
    return ref.fields[2]


def outcome(status: int) -> Outcome:
    """Return what a node says of a task."""
    return status, b"", (), 0, 1, "f"


@pytest.mark.rule("R20")
def test_large_buffers_are_placed_and_small_ones_are_not(sharing: Sharing) -> None:
    """Opening a mapping costs what copying a small buffer does."""
    packed = sharing.place(Payload(b"args", (b"x" * LEAST, b"y" * (LEAST - 1))))
    assert [type(buffer) for buffer in packed.buffers] == [Ref, bytes]


def test_what_finds_no_room_travels_as_bytes(sharing: Sharing) -> None:
    """A full arena is no error."""
    first = sharing.place(Payload(b"", (b"x" * (12 * MIB),)))
    second = sharing.place(Payload(b"", (b"y" * (12 * MIB),)))
    assert [type(packed.buffers[0]) for packed in (first, second)] == [Ref, bytes]


@pytest.mark.parametrize("status", [OK, RAISED, TOO_LARGE])
def test_memory_is_used_again_after_a_task_that_its_worker_ended(sharing: Sharing, status: int) -> None:
    """The worker has let go of it."""
    task = placed(sharing)
    sharing.ended(task, outcome(status))
    assert arena_of(placed(sharing)) == arena_of(task)


@pytest.mark.parametrize(
    "end",
    [
        outcome(CRASHED),
        outcome(TIMED_OUT),
        outcome(CANCELLED),
        CancelledError(),
        PoolClosedError("closed"),
        outcome(99),
    ],
)
def test_memory_is_given_up_after_any_other_end(sharing: Sharing, end: Outcome) -> None:
    """Somebody unknown may still read it: a thread that cannot be stopped, a process that is not dead yet."""
    task = placed(sharing)
    sharing.ended(task, end)
    assert arena_of(placed(sharing)) != arena_of(task)


def test_memory_is_given_up_after_a_loss(sharing: Sharing) -> None:
    """The node that was lost may only have been unreachable."""
    task = placed(sharing, losses=1)
    sharing.ended(task, outcome(OK))
    assert arena_of(placed(sharing)) != arena_of(task)


def test_memory_of_a_task_that_was_never_sent_is_used_again(sharing: Sharing) -> None:
    """Nobody has heard of it."""
    task = placed(sharing, node=-1)
    sharing.ended(task, CancelledError())
    assert arena_of(placed(sharing)) == arena_of(task)


def test_unknown_reader_keeps_its_bytes(sharing: Sharing) -> None:
    """What the task had lies where it lay, however much comes afterwards."""
    task = placed(sharing)
    (ref,) = task.buffers
    assert type(ref) is Ref
    copied, files = Ref(bytes(ref)), Files()
    files.of(copied)
    sharing.ended(task, outcome(TIMED_OUT))
    task.buffers = ()
    del ref
    later = [placed(sharing) for _ in range(8)]
    assert len(later) == 8
    assert os.pread(files.of(copied).fd, 4, copied.fields[4]) == b"xxxx"


def ref_of(packed: Payload) -> Ref:
    """Return the reference to the only buffer."""
    (ref,) = packed.buffers
    assert type(ref) is Ref
    return ref


@pytest.mark.rule("R20")
def test_bytes_that_a_task_has_are_not_copied_again(sharing: Sharing) -> None:
    """They are free when the last one that has them lets go."""
    value = bytearray(LEAST)
    first, second = (ref_of(sharing.place(Payload(b"", (memoryview(value),)))) for _ in range(2))
    assert bytes(first) == bytes(second)
    del first
    assert ref_of(sharing.place(Payload(b"", (bytes(LEAST),)))).fields[4] != second.fields[4]
    place = second.fields[4]
    del second
    assert ref_of(sharing.place(Payload(b"", (bytes(LEAST),)))).fields[4] == place


@pytest.mark.rule("R20")
def test_bytes_that_have_changed_are_copied(sharing: Sharing) -> None:
    """And found again as they are now; the reference from before has what they were."""
    value = bytearray(LEAST)
    before = ref_of(sharing.place(Payload(b"", (value,))))
    value[-1] = 1
    now, again = (ref_of(sharing.place(Payload(b"", (value,)))) for _ in range(2))
    assert bytes(before) != bytes(now) == bytes(again)
    files = Files()
    assert [os.pread(files.of(ref).fd, 1, ref.fields[4] + LEAST - 1) for ref in (before, now)] == [b"\0", b"\1"]


@pytest.mark.rule("R20")
def test_part_of_what_was_copied_is_no_copy_of_the_whole(sharing: Sharing) -> None:
    """Each has its length."""
    value = bytearray(2 * LEAST)
    whole = ref_of(sharing.place(Payload(b"", (value,))))
    part = ref_of(sharing.place(Payload(b"", (memoryview(value)[:LEAST],))))
    assert (whole.length, part.length) == (2 * LEAST, LEAST)


@pytest.mark.rule("R20")
@pytest.mark.parametrize("end", [outcome(TIMED_OUT), outcome(CRASHED)])
def test_memory_that_was_given_up_is_not_used_for_the_same_bytes(sharing: Sharing, end: Outcome) -> None:
    """However often these come, it goes with the tasks that have it."""
    value = bytearray(LEAST)
    packed = sharing.place(Payload(b"", (value,)))
    task = Task(next(ids), None, packed.data, packed.buffers, DISCARD, 0, 3, 0.0, -1, "f")
    task.node = 0
    sharing.ended(task, end)
    assert ref_of(sharing.place(Payload(b"", (value,)))).fields[2] != ref_of(packed).fields[2]


# --- results ---------------------------------------------------------------------------------


def result(arena: Arena) -> Ref:
    """Return a reference as it comes over a link, with its memory kept."""
    ref = arena.put(b"r" * LEAST)
    assert ref is not None
    kept.append(ref)
    return Ref(bytes(ref))


kept: list[Any] = []


@pytest.fixture
def arena() -> Iterator[Arena]:
    """Return the arena of a worker."""
    arena = Arena(16 * MIB)
    yield arena
    arena.retire()
    kept.clear()


def test_result_is_released_once_nobody_reads_it(sharing: Sharing, arena: Arena) -> None:
    """Each region is named once, to the node that it came from."""
    first, second = result(arena), result(arena)
    sharing.receive(3, [b"blob", first, second])
    opened = first.owner.open(first)
    numbers = [first.number, second.number]
    del first, second
    assert sharing.released(0) == []
    assert sharing.released(3) == numbers[1:]
    assert sharing.released(3) == []
    assert bytes(opened) == b"r" * LEAST
    del opened
    assert sharing.released(3) == numbers[:1]


@pytest.mark.rule("R33")
def test_node_lends_while_somebody_may_read_its_memory(sharing: Sharing, arena: Arena) -> None:
    """From the coming of a result to the end of the last array on it, whether or not the node has been told."""
    assert not sharing.lends(3)
    first, second = result(arena), result(arena)
    sharing.receive(3, [b"blob", first, second])
    opened = first.owner.open(first)
    del first, second
    assert sharing.lends(3)
    assert not sharing.lends(0)
    sharing.released(3)
    assert sharing.lends(3)
    del opened
    assert not sharing.lends(3)
    sharing.released(3)
    assert not sharing.lends(3)
    kept = result(arena)
    sharing.receive(3, [kept])
    sharing.forget(3)
    assert not sharing.lends(3)


def test_many_releases_fit_a_message_each(sharing: Sharing) -> None:
    """The rest waits for the next one."""
    sharing.receive(0, [])
    sharing.waiting[0].extend(range(MAX_BATCH + 5))
    assert [len(sharing.released(0)) for _ in range(3)] == [MAX_BATCH, 5, 0]


def test_lost_node_is_told_nothing(sharing: Sharing, arena: Arena) -> None:
    """Its successor under the same rank has regions of its own."""
    ref = result(arena)
    sharing.receive(0, [ref])
    sharing.forget(0)
    sharing.receive(0, [])
    del ref
    assert sharing.released(0) == []


@pytest.mark.rule("R43")
def test_reference_to_nothing_is_nonsense(sharing: Sharing) -> None:
    """A node that names memory that is not there talks nonsense."""
    with pytest.raises(ProtocolError, match="cannot be opened"):
        sharing.receive(0, [Ref.make(2**31 - 1, 5, 1, 1, 0, LEAST)])


def test_lack_of_descriptors_is_not_the_nodes_fault(
    sharing: Sharing, arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for that value is told; the node is not lost, and its memory is released (F61)."""
    ref = result(arena)
    number = ref.number

    def scarce(*_: object) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("skyward.machine.memory.File", scarce)
    sharing.receive(0, [ref])
    with pytest.raises(OSError, match="Too many open files"):
        ref.owner.open(ref)
    del ref
    gc.collect()  # of the traceback
    assert sharing.released(0) == [number]
