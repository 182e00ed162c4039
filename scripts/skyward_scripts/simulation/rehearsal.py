"""A script on a real pool of this machine: what the simulation is compared with."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import skyward as sky
from skyward.model import NodeState
from skyward_scripts.simulation.script import Moment, Script, Story

if TYPE_CHECKING:
    from skyward.model import PoolSnapshot

LOOK: Final = 0.05  # seconds between two looks at the pool


@sky.function
def nap(seconds: float) -> None:
    """Take time, and no processor."""
    time.sleep(seconds)


@sky.function
def doze(seconds: float) -> None:
    """Do the same as another function."""
    time.sleep(seconds)


class Observer(threading.Thread):
    """Notes how a pool stands, whenever that has changed."""

    def __init__(self, pool: sky.Compute, begin: float) -> None:
        super().__init__(name="observer")
        self.moments: list[Moment] = []
        self.pids: set[int] = set()
        self._pool = pool
        self._begin = begin
        self._over = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._over.wait(LOOK):
            self.look()

    def look(self) -> None:
        """Look once."""
        stands = self._pool.snapshot()
        at, state = time.monotonic() - self._begin, _state(stands)
        self.pids.update(node.pid for node in stands.nodes if node.pid)
        last = self.moments[-1] if self.moments else None
        if last is None or state != (last.ready, last.starting, last.waiting, last.running):
            self.moments.append(Moment(at, *state))

    def stop(self) -> None:
        """Note the end."""
        self._over.set()
        self.join()
        self.moments.append(Moment(time.monotonic() - self._begin, *_state(self._pool.snapshot())))


def _state(stands: PoolSnapshot) -> tuple[int, int, int, int]:
    starting = sum(node.state is NodeState.STARTING for node in stands.nodes)
    return len(stands.nodes) - starting, starting, stands.queued, stands.in_flight


def rehearse(script: Script, nodes: sky.Nodes, *, idle_timeout: float, slots: int = 1) -> Story:
    """Play a script on local nodes until the pool is at its least number of nodes again."""
    functions = dict(zip(sorted({burst.seconds for burst in script.bursts}), (nap, doze), strict=False))
    with sky.Compute(nodes=nodes, idle_timeout=idle_timeout, concurrency=slots, console=False) as pool:
        begin = time.monotonic()
        observer = Observer(pool, begin)
        observer.start()
        try:
            futures: list[sky.Future[None]] = []
            for burst in script.bursts:
                time.sleep(max(0.0, begin + burst.at - time.monotonic()))
                function = functions.get(burst.seconds, nap)
                futures += [function(burst.seconds) > pool for _ in range(burst.calls)]
            for future in futures:
                future.result()
            finished = time.monotonic() - begin
            while len(pool.snapshot().nodes) > nodes.least:
                time.sleep(LOOK)
        finally:
            observer.stop()
    return Story(script, observer.moments, len(observer.pids), finished)
