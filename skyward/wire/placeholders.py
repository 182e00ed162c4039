"""What travels in place of an argument that is fed element by element. PURE."""

from __future__ import annotations

from typing import NamedTuple


class Placeholder(NamedTuple):
    """The argument is the stream of this number of its task."""

    stream: int
