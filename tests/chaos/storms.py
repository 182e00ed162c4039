"""Many tasks on nodes that many things befall: what the long tests of chaos are made of.

The main thread makes the weather, because what it starts lives no longer than it does; the client's work has a thread
of its own. What has happened is found out afterwards, from the log.
"""

from __future__ import annotations

import heapq
import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import psutil

import skyward as sky
from tests.chaos.deeds import deed
from tests.chaos.operations import Log

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.chaos.hosts import Host
    from tests.chaos.schedule import Fault

TASKS: Final = int(os.environ.get("SKYWARD_TASKS") or 100_000)
LONGEST: Final = 0.005  # seconds of a task
CRASHES: Final = 1  # times that a task with retries runs again because its worker died (R38)


def seeds(usual: int) -> list[int]:
    """Return the seeds of a run: ``SKYWARD_SEEDS`` has them, as in ``3,5-8``, or so many from 1 on."""
    found: list[int] = []
    for word in (os.environ.get("SKYWARD_SEEDS") or f"1-{usual}").split(","):
        first, _, last = word.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


@dataclass(slots=True)
class Work:
    """A stream of deeds: every second of them, or each, may run again ``retries`` times, the others never."""

    pool: sky.Compute
    directory: str
    seed: int
    retries: int
    mixed: bool = False
    count: int = TASKS
    took: float = 0.0
    failed: Counter[str] = field(default_factory=Counter[str])
    failed_in_spite: list[int] = field(default_factory=list[int])  # tasks that may run again
    error: BaseException | None = None

    def run(self) -> None:
        """Do all of them, noting what becomes of each."""
        log = Log(self.directory, "client")
        began = time.monotonic()
        try:
            stream = sky.gather(self._calls(log), stream=True, return_exceptions=True) >> self.pool
            for number, outcome in stream.indexed():
                if isinstance(outcome, BaseException):
                    self.failed[type(outcome).__name__] += 1
                    self.failed_in_spite += [number] * (self._retries(number) > 0)
                    log.note("failed", number, type(outcome).__name__)
                else:
                    log.note("delivered", number, outcome)
        except BaseException as error:  # shown by the test
            self.error = error
        self.took = time.monotonic() - began
        log.close()

    def _retries(self, number: int) -> int:
        return 0 if self.mixed and number % 2 else self.retries

    def _calls(self, log: Log) -> Iterator[sky.PendingFunction[str]]:
        chance = random.Random(self.seed)
        for number in range(self.count):
            token = f"{number}-{chance.getrandbits(32):x}"
            retries = self._retries(number)
            log.note("submitted", number, f"{token} {retries + 1 + CRASHES * (retries > 0)}")
            yield deed(self.directory, number, token, chance.uniform(0.0, LONGEST)).with_retries(retries)


class Weather(Protocol):
    """What can befall the nodes of a pool."""

    def begin(self, fault: Fault) -> bool:
        """Let it happen; return whether it could."""
        ...

    def end(self, fault: Fault) -> None:
        """Let it be over, if it lasts."""
        ...


def endure(work: Work, weather: Weather, faults: Iterable[Fault]) -> Counter[str]:
    """Let things happen while the work goes on; return how many of each kind did."""
    happened: Counter[str] = Counter()
    thread = threading.Thread(target=work.run, name="work")
    thread.start()
    began = time.monotonic()
    endings: list[tuple[float, int, Fault]] = []
    for number, fault in enumerate(faults):
        while endings and endings[0][0] <= fault.at:
            at, _, ending = heapq.heappop(endings)
            thread.join(max(0.0, began + at - time.monotonic()))
            weather.end(ending)
        thread.join(max(0.0, began + fault.at - time.monotonic()))
        if not thread.is_alive():
            break
        if weather.begin(fault):
            happened[fault.kind] += 1
            heapq.heappush(endings, (fault.at + fault.lasts, number, fault))
    for _, _, ending in endings:
        weather.end(ending)
    thread.join()
    return happened


def kill(pid: int) -> bool:
    """Kill a process; return whether it lived."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


class LocalDeaths:
    """Kills daemons and workers of a pool of this machine."""

    def __init__(self, pool: sky.Compute, seed: int) -> None:
        self._pool = pool
        self._chance = random.Random(seed)

    def begin(self, fault: Fault) -> bool:
        """Kill a daemon or a worker, of the node that was meant or the next that lives."""
        nodes = [node.pid for node in self._pool.snapshot().nodes if node.pid]
        for pid in nodes[fault.host :] + nodes[: fault.host]:
            with suppress(psutil.NoSuchProcess):
                templates = psutil.Process(pid).children()
                workers = [worker.pid for template in templates for worker in template.children()]
                victims = [pid] if fault.kind == "daemon" else workers
                if victims and kill(self._chance.choice(victims)):
                    return True
        return False

    def end(self, fault: Fault) -> None:
        """Do nothing: the pool replaces what has died."""


class Storm:
    """All that can befall hosts. What began on a host is over together."""

    KINDS: Final = ("worker", "daemon", "cut off", "cut off", "deaf", "mute", "stop", "stop", "reset", "reset")

    def __init__(self, hosts: list[Host], seed: int) -> None:
        self._hosts = hosts
        self._chance = random.Random(seed)

    def begin(self, fault: Fault) -> bool:
        """Let it happen."""
        host = self._hosts[fault.host]
        match fault.kind:
            case "worker":
                workers = host.workers()
                return bool(workers) and kill(self._chance.choice(workers).pid)
            case "daemon":
                return kill(host.node.pid)
            case "cut off":
                host.cut_off()
            case "deaf":
                host.deafen()
            case "mute":
                host.mute()
            case "stop":
                host.send(signal.SIGSTOP)
            case _:
                host.reset()
        return True

    def end(self, fault: Fault) -> None:
        """Let it be over; a daemon that was killed is started again."""
        host = self._hosts[fault.host]
        if fault.kind == "daemon":
            host.restart()
        host.send(signal.SIGCONT)
        host.heal()
