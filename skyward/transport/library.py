"""What the ZeroMQ library of this installation can do."""

from __future__ import annotations

from typing import NamedTuple

import zmq


class Library(NamedTuple):
    """Versions, and whether links can be encrypted."""

    libzmq: tuple[int, int, int]
    pyzmq: str
    has_curve: bool


def describe() -> Library:
    """Return what was loaded; raises `ImportError` on import if nothing could be."""
    return Library(zmq.zmq_version_info(), zmq.pyzmq_version(), zmq.has("curve"))
