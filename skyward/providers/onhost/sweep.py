"""What is left of nodes that are gone, and what nobody has used for long: removed by each bootstrap, in passing.

Whoever uses something holds its lock; what is locked is left alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import suppress
from typing import Final

UNUSED: Final = 30 * 86_400.0  # seconds after which a bundle or an environment goes: a month's pause is common
DEAD: Final = 3_600.0  # seconds that the log of a node stays that has failed: its client asks within moments


def sweep(cache: str, run: str) -> None:
    """Remove old bundles and environments below ``cache``, and remains of nodes in ``run``."""
    for path in _entries(os.path.join(cache, "bundles")):
        _remove(path, path, UNUSED)
    for path in _entries(os.path.join(cache, "envs")):
        if not path.endswith(".lock"):
            _remove(path, f"{path}.lock", UNUSED)
    for path in _entries(run):
        if os.path.basename(path).startswith("node-"):
            _remove(path, path, DEAD)


def _entries(place: str) -> list[str]:
    try:
        return [os.path.join(place, name) for name in os.listdir(place)]
    except OSError:
        return []


def _remove(path: str, lock: str, age: float) -> None:
    """Remove what is old and not in use: what is in use is locked, a directory or a file beside it."""
    with suppress(OSError):
        if time.time() - os.stat(path).st_mtime < age:
            return
        fd = os.open(lock, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(fd)
