"""From the start of a process to its first result: the whole program, but for the functions it calls.

It is started by a script that imports as little as a user's own program would.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from skyward_scripts.bench.contestant import find

if TYPE_CHECKING:
    from types import ModuleType


def main(tasks: ModuleType) -> None:
    """Open a contestant with two workers, make one call, and tell where it ran."""
    contestant = find(sys.argv[1])()
    contestant.open(2)
    sys.stdout.write(f"{contestant.call(tasks.noop, 0)}\n")
    sys.stdout.flush()
    contestant.close()
