"""How many descriptors workers may take: some are left to connections, so that clients can still come in."""

from __future__ import annotations

import errno
import os
import resource
from typing import Final

RESERVE: Final = 16  # descriptors that workers leave to connections, so that clients can still come


def check_reserve(newest: int) -> None:
    """Raise `OSError` if a descriptor that was just opened is one of the last: the lowest that is free comes first."""
    if newest >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
