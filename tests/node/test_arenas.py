"""The memory of workers as their daemon has it: read where it lies, for as long as somebody may want it."""

from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING

import pytest

from skyward.errors import ProtocolError
from skyward.machine.memory import HEAD, Arena
from skyward.wire.frames import Ref
from skyward_node.executors.arenas import Arenas

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER = 3


@pytest.fixture
def arenas() -> Iterator[Arenas]:
    """Return the arenas of a node with a worker."""
    arenas = Arenas()
    arenas.add(WORKER, arenas.create())
    yield arenas
    arenas.close()


def worker_writes(arenas: Arenas, data: bytes) -> Ref:
    """Return what a worker says of a result that it has put into its arena."""
    fd = arenas._fds[WORKER]
    ref = Arena(arenas.size, fd=os.dup(fd), seen_as=(os.getpid(), fd), worker=WORKER).put(data)
    assert ref is not None
    return Ref(ref)


@pytest.mark.rule("R20")
def test_result_is_read_where_it_lies(arenas: Arenas) -> None:
    """Without a copy, also when its worker is gone and buried meanwhile."""
    ref = worker_writes(arenas, b"x" * 200_000)
    arenas.check(WORKER, ref)
    view = arenas.bytes_of(ref)
    assert isinstance(view, memoryview)
    arenas.bury(WORKER)
    assert view == b"x" * 200_000
    assert view.readonly


@pytest.mark.rule("F61")
def test_result_is_copied_where_it_cannot_be_mapped(arenas: Arenas, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon without descriptors sends it all the same."""

    def refuse(*_: object) -> mmap.mmap:
        raise OSError(errno.EMFILE, "too many open files")

    ref = worker_writes(arenas, b"x" * 200_000)
    monkeypatch.setattr(mmap, "mmap", refuse)
    assert arenas.bytes_of(ref) == b"x" * 200_000


@pytest.mark.rule("F18")
@pytest.mark.parametrize(
    ("worker", "offset", "length"),
    [(WORKER + 1, HEAD, 1), (0, HEAD, 1), (WORKER, HEAD, 0), (WORKER, 2**62, 1), (WORKER, HEAD, 2**62)],
)
def test_reference_to_what_a_worker_does_not_have_is_rubbish(
    arenas: Arenas, worker: int, offset: int, length: int
) -> None:
    """Another's memory, or what lies beyond its own."""
    with pytest.raises(ProtocolError, match="memory that it does not have"):
        arenas.check(WORKER, Ref.make(1, 2, 3, (worker << 32) + 1, offset, length))
