"""What each call that waits costs the client, beyond the call objects that its user made.

Workers are kept busy, so that every call waits. The figure is what the client's anonymous memory has grown by:
also what libraries written in C take counts, and what was there already counts for nobody.
"""

from __future__ import annotations

import gc
import os
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward_scripts.bench.measures.setting import Setting

PAUSE: Final = 0.05  # seconds between looks
STILL: Final = 64 * 1024  # bytes that count as no growth
PATIENCE: Final = 60.0  # seconds after which memory that still grows is taken as it is
BUDGET: Final = 30.0  # seconds that the calls would take to run: who is slow to run is slow to submit
LEAST: Final = 10_000  # calls, whose memory can be told from noise


def gather(setting: Setting, seed: int) -> dict[str, float]:
    """Measure calls of one gather."""
    return _pending(setting, setting.contestant.hold_gather)


def alone(setting: Setting, seed: int) -> dict[str, float]:
    """Measure calls of one gather whose arguments can change: nobody may put such calls together."""
    return _pending(setting, setting.contestant.hold_gather, item=lambda number: [number])


def futures(setting: Setting, seed: int) -> dict[str, float]:
    """Measure calls with a future each."""
    return _pending(setting, setting.contestant.hold_futures)


def _pending(setting: Setting, dispatch: Callable[[Any], Any], item: Callable[[int], Any] = int) -> dict[str, float]:
    contestant, count = setting.contestant, setting.affordable(setting.sizes["calls"], BUDGET, LEAST)
    quiet = setting.sizes["quiet"] / 1e3
    gate = os.path.join(setting.scratch, "gate")
    blockers = contestant.hold_futures(contestant.describe([(setting.tasks.hold, gate)] * setting.workers))
    described = contestant.describe([(setting.tasks.noop, item(number)) for number in range(count)])
    gc.collect()
    before = _settled(quiet)
    held = dispatch(described)
    gc.collect()
    after = _settled(quiet)
    with open(gate, "w", encoding="ascii"):
        pass
    contestant.release((blockers, held))
    return {"": (after - before) / count, "tasks": count}


def _settled(quiet: float) -> int:
    """Return the anonymous memory of this process, in bytes, once it has not grown for so many seconds."""
    deadline = time.monotonic() + PATIENCE
    highest, since = _anonymous(), time.monotonic()
    while time.monotonic() - since < quiet and time.monotonic() < deadline:
        time.sleep(PAUSE)
        now = _anonymous()
        if now > highest + STILL:
            highest, since = now, time.monotonic()
    return _anonymous()


def _anonymous() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell the memory of a process")
