"""Copies of buffers that the user's program may change while calls with them wait to be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyward.machine.copies import Copies
from skyward.pool.placing import WORTH
from skyward.wire.frames import Payload, Ref, Repeated
from skyward.wire.parcels import LARGEST

if TYPE_CHECKING:
    from skyward.wire.frames import Buffer


class Snapshots:
    """Takes them; a large one that a call under way has is used again."""

    def __init__(self) -> None:
        self._copies: Copies[memoryview] = Copies(memoryview)

    def take(self, packed: Payload) -> Payload:
        """Return the payload with copies of all buffers that can change (any thread)."""
        repeated = False
        buffers: list[Buffer] = []
        for buffer in packed.buffers:
            known = self._copies.find(buffer) if len(buffer) >= WORTH and type(buffer) is not Ref else None
            repeated |= known is not None and len(known) > LARGEST
            buffers.append(self._new(buffer) if known is None else known)
        return Payload(packed.data, Repeated(buffers) if repeated else tuple(buffers))

    def _new(self, buffer: Buffer) -> Buffer:
        if type(buffer) is Ref:
            return buffer
        made = buffer if type(buffer) is bytes else bytes(buffer)
        if len(made) < WORTH:
            return made
        # Not the bytes themselves: nobody is told when these are gone, as a connection is of what it has sent.
        copied = memoryview(made)
        self._copies.add(buffer, copied)
        return copied
