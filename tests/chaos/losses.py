"""What tests of lost nodes look at."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final

import skyward as sky
from tests.rules.work import LONG, hold, runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from skyward.answers.futures import Future
    from skyward.transport.links import Link
    from tests.chaos.hosts import Host

BEAT: Final = 0.25  # seconds: the default
DEAD: Final = 3 * BEAT
PROMISED: Final = DEAD + 0.25  # seconds after which a silent node is lost
FEW: Final = 3  # rounds, of which a busy machine may spoil all but one
BUSY: Final = 1.0  # seconds more, on a machine that does other things


def provider(hosts: Iterable[Host]) -> sky.Static:
    """Return the nodes of these hosts."""
    return sky.Static([host.address for host in hosts])


def causes(pool: sky.Compute) -> list[str]:
    """Return why nodes were lost."""
    assert pool._engine is not None
    return list(pool._engine.crew.membership.causes)


def second_link(pool: sky.Compute) -> Link | None:
    """Return the link of the first node's heartbeats."""
    assert pool._engine is not None
    mate = pool._engine.crew.mates.get(0)
    return None if mate is None else mate.control


def beats(pool: sky.Compute) -> bool:
    """Return whether the first node has its second link, and heard a beat since it takes part."""
    link = second_link(pool)
    assert pool._engine is not None
    mate = pool._engine.crew.mates.get(0)
    return mate is not None and link is not None and link.ready and mate.echo > mate.since > 0


def typical(times: Sequence[float]) -> float:
    """Return what is held against a promise: of a few rounds the best, of many the median."""
    return min(times) if len(times) <= FEW else statistics.median(times)


def summary(times: Sequence[float], most: float) -> str:
    """Return what is shown of rounds."""
    middle = statistics.median(times)
    return f"{min(times):.3f} to {max(times):.3f} s, median {middle:.3f} s, of at most {most:g} s, {len(times)} rounds"


def held(pool: sky.Compute, directory: Path, name: str) -> Future[str]:
    """Return the future of a task that runs, and does until it is let go."""
    future = hold(str(directory), name) > pool
    runs(directory, name)
    return future


def seconds_to_loss(future: Future[str], strike: Callable[[], object]) -> float:
    """Return how many seconds after a blow the task's node counts as lost; the blow itself takes some of them."""
    began = time.monotonic()
    strike()
    error = future.exception(timeout=LONG)
    took = time.monotonic() - began
    assert isinstance(error, sky.NodeLostError), error
    return took
