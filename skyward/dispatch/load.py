"""How much work a pool has at one moment, as far as its number of nodes depends on it.

PURE: `survey` reads the scheduler's books and changes nothing.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from skyward.frozen import Frozen, field

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from skyward.dispatch.scheduler import Scheduler

SAMPLE: Final = 256  # waiting calls that are asked how long they will take: a queue may hold a million


class Load(Frozen):
    """What waits, what comes and goes, and what each ready node has to do."""

    waiting: int = 0  # calls that wait for a slot on whichever node; not those that are bound to one
    cost: float = 0.0  # seconds each of them will take, on average, as far as their functions have run before
    known: float = 0.0  # share of the waiting calls whose functions have
    submitted: int = 0  # calls, ever
    done: int = 0  # calls, ever
    slots: int = 0  # of all ready nodes
    served: Mapping[int, int] = field(default_factory=dict[int, int])  # calls done so far, by rank of each ready node
    busy: Collection[int] = ()  # ranks of those that have something to do, or are needed for what they have done


def survey(scheduler: Scheduler, needed: Collection[int] = ()) -> Load:
    """Return the load of a pool; ``needed`` are nodes that may not go though they have nothing to do."""
    cost, tasks = scheduler.assignment.durations.cost, list(islice(scheduler.queue, SAMPLE))
    costs = [(cost(task.function.key, task.count), task.count) for task in tasks]
    count = sum([count for _, count in costs])
    known = [(cost, count) for cost, count in costs if cost is not None]
    ready = [node for node in scheduler.nodes.values() if not node.draining]
    return Load(
        waiting=round(len(scheduler.queue) * count / len(costs)) if costs else 0,
        cost=sum([cost for cost, _ in known]) / sum([count for _, count in known]) / 1e6 if known else 0.0,
        known=sum([count for _, count in known]) / count if count else 0.0,
        submitted=scheduler.submitted,
        done=scheduler.done,
        slots=sum([node.own for node in ready]),
        served={node.rank: node.served for node in ready},
        busy={node.rank for node in ready if node.in_flight or node.pinned or node.rank in needed},
    )
