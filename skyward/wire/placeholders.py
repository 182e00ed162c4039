"""What travels in place of an argument that is fed element by element. PURE."""

from __future__ import annotations

from msgspec import Struct


class Placeholder(Struct, frozen=True):
    """The argument is the stream of this number of its task."""

    stream: int
