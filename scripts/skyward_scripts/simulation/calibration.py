"""The costs of this machine, as a real pool shows them.

Processor time is counted, not time that passes: it depends little on what else the machine does. A lone call takes
two messages of each thread on its way; in a large group of calls that do nothing, tasks cost more than messages.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import skyward as sky
from skyward_scripts.simulation.costs import Costs

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS: Final = 1_000  # one by one
MEMBERS: Final = 20_000  # of the group
ROUNDS: Final = 5  # of the group
TICKS: Final = 100.0  # per second, in which Linux counts the time of other processes


@sky.function
def nothing(number: int) -> int:
    """Do nothing."""
    return number


@sky.function
def wait() -> None:
    """Run until cancelled."""
    time.sleep(3_600.0)


def calibrate() -> Costs:
    """Run real calls on one local node, and return the defaults with what these cost.

    Meanwhile another node has a task, too: the client would stay awake while it waits for the only one, and what it
    does then is no cost of a message.
    """
    with sky.Compute(nodes=2) as pool:
        daemon = pool.snapshot().nodes[0].pid
        assert daemon is not None  # it is ready, and a process of this machine
        waiting = pool.run_async(wait().on(1))
        pool.run(nothing(0))
        client, node = _usage(lambda: [pool.run(nothing(number)) for number in range(CALLS)], daemon, CALLS)
        client_task, node_task = _usage(lambda: _run_groups(pool), daemon, ROUNDS * MEMBERS)
        waiting.cancel()
    return replace(
        Costs(),
        client_message=max(client - client_task, 0.0) / 2,  # the call, and its result
        client_task=client_task,
        node_message=max(node - node_task, 0.0) / 4,  # the same, and both again on the worker's pipe
        node_task=node_task,
    )


def _run_groups(pool: sky.Compute) -> None:
    for _ in range(ROUNDS):
        pool.run(sky.gather(*[nothing(number) for number in range(MEMBERS)]))


def _usage(work: Callable[[], object], daemon: int, calls: int) -> tuple[float, float]:
    """Return the processor time, in seconds a call, that work takes of this process and of the daemon."""
    here, there = time.process_time(), _cpu(daemon)
    work()
    return (time.process_time() - here) / calls, (_cpu(daemon) - there) / calls


def _cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
