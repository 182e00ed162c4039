"""The values that travel in the body of a message: opaque bytes, never looked into here.

A buffer that is a memoryview is contiguous, one-dimensional and of format ``B``, so that its length is
its size in bytes. PURE.
"""

from __future__ import annotations

from typing import NamedTuple

Buffer = bytes | bytearray | memoryview


class Payload(NamedTuple):
    """One pickle, and the large buffers it refers to, in its order (pickle protocol 5)."""

    data: Buffer
    buffers: tuple[Buffer, ...] = ()
