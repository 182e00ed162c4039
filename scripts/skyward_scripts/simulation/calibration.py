"""The costs of this machine, as a real pool shows them.

Processor time is counted, not time that passes: it depends little on what else the machine does. A lone call takes
two messages of each thread on its way; in a large group of calls that do nothing, tasks cost more than messages.
"""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median
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


def calibrate() -> Costs:
    """Run real calls on one local node, and return what they cost."""
    with sky.Compute(nodes=1) as pool:
        node = pool.snapshot().nodes[0]
        daemon = node.pid
        nothing(0) >> pool
        took: list[float] = []

        def one_by_one() -> None:
            for number in range(CALLS):
                start = time.perf_counter()
                nothing(number) >> pool
                took.append(time.perf_counter() - start)

        def together() -> None:
            for _ in range(ROUNDS):
                sky.gather(*[nothing(number) for number in range(MEMBERS)]) >> pool

        here, there = _usage(one_by_one, daemon)
        client, server = here / CALLS, there / CALLS
        here, there = _usage(together, daemon)
        client_task, node_task = here / (ROUNDS * MEMBERS), there / (ROUNDS * MEMBERS)
    client_message = max(client - client_task, 0.0) / 2  # the call, and its result
    node_message = max(server - node_task, 0.0) / 4  # the same, and both again on the worker's pipe
    costs = replace(
        Costs(),
        client_message=client_message,
        client_task=client_task,
        node_message=node_message,
        node_task=node_task,
    )
    on_the_way = median(took) - client - server - costs.worker_task - 2 * costs.pipe
    return replace(costs, link=max(on_the_way / 2, 0.0))


def _usage(work: Callable[[], None], daemon: int) -> tuple[float, float]:
    """Return the processor time, in seconds, that work takes of this process and of the daemon."""
    here, there = time.process_time(), _cpu(daemon)
    work()
    return time.process_time() - here, _cpu(daemon) - there


def _cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
