"""What a measure has to work with, and what all measures check."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from skyward_scripts.bench.contestant import has_operation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from skyward_scripts.bench.contestant import Contestant

BUDGET: Final = 10.0  # seconds that the tasks of one turn may take: who is slow is timed with fewer of them
LEAST: Final = 1_000  # tasks in any case, or all if there are fewer
PATIENCE: Final = 2.0  # seconds of warming up after which it is enough, even if a worker has not run anything
WARM_CALLS: Final = 200


class RanInCallerError(Exception):
    """A contestant has run tasks in the client's own process: its figures would mean nothing."""


@dataclass(slots=True)
class Setting:
    """An open contestant and the work it is to do."""

    contestant: Contestant
    tasks: ModuleType
    workload: str
    sizes: dict[str, int]
    workers: int
    scratch: str  # a directory of its own
    pace: float = 0.0  # tasks a second in a gather, as warming up has shown; 0 of those that have none

    def affordable(self, count: int, budget: float = BUDGET, least: int = LEAST) -> int:
        """Return how many of so many tasks fit into the budget, in seconds."""
        return min(count, max(least, round(self.pace * budget)))

    def spend(self, started: float) -> bool:
        """Return whether a turn that started then may go on."""
        return time.perf_counter() - started < BUDGET

    def warm_up(self, least: float) -> None:
        """Run no-op calls for so many seconds, and until every worker has run one; note the pace of a gather."""
        started = time.perf_counter()
        pids: set[int] = set()
        while True:
            pids.update(self._warm_up_once())
            spent = time.perf_counter() - started
            if spent >= least and (len(pids) >= self.workers or spent >= PATIENCE):
                break
        if self.pace and self.affordable(self._wanted) < self._wanted:
            self._gather(LEAST)  # libraries that adapt take more than a few calls to show their pace

    @property
    def _wanted(self) -> int:
        return max(self.sizes.get("calls", 0), self.sizes.get("items", 0))

    def _warm_up_once(self) -> set[int]:
        noop, kind = self.tasks.noop, type(self.contestant)
        if has_operation(kind, "gather"):
            return self._gather(WARM_CALLS)
        if has_operation(kind, "call"):
            return {self.contestant.call(noop, number) for number in range(self.workers)}
        return set(range(self.workers))  # nothing to warm up

    def _gather(self, count: int) -> set[int]:
        begun = time.perf_counter()
        pids = set(self.contestant.gather([(self.tasks.noop, number) for number in range(count)]))
        self.pace = max(self.pace, count / (time.perf_counter() - begun))
        return pids


def ran_on(pids: Iterable[Any]) -> int:
    """Return how many processes these are; raises `RanInCallerError` if one is this one, or none is told."""
    found = set(pids)
    if os.getpid() in found or not all(isinstance(pid, int) for pid in found):
        raise RanInCallerError("tasks ran in the client's process, not in workers")
    return len(found)
