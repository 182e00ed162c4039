"""The pools that are open: what nobody has closed is closed when the interpreter exits."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from skyward.compute import Compute

_open: Final[set[Compute]] = set()


def note(pool: Compute) -> None:
    """Have a pool closed at exit."""
    _open.add(pool)


def forget(pool: Compute) -> None:
    """A pool is closed, or has never opened."""
    _open.discard(pool)


def _close_all() -> None:
    failures: list[BaseException] = []
    for pool in list(_open):
        try:
            pool.close_at_exit()
        except BaseException as error:  # the others are closed all the same
            failures.append(error)
    if failures:
        raise failures[0]


atexit.register(_close_all)
