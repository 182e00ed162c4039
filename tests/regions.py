"""What tests of shared memory do with regions of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skyward.machine.memory import Files, Mappings

if TYPE_CHECKING:
    from skyward.machine.memory import Arena
    from skyward.wire.frames import Ref

MIB: Final = 2**20


def put(arena: Arena, data: bytes) -> Ref:
    """Put bytes where there is room."""
    ref = arena.put(data)
    assert ref is not None
    return ref


def offset_of(ref: Ref) -> int:
    """Return where its region begins."""
    return ref.fields[4]


def read(ref: Ref, files: Files | None = None) -> bytes:
    """Return a copy of what a reference stands for."""
    return bytes(Mappings(files or Files()).open(ref))
