"""A task: one call that has been dispatched, as the client's scheduler knows it.

Tasks are the only per-call objects on the client's hot path, so they are made by C code and carry no
behaviour. ``sink`` and ``index`` say whom the outcome belongs to; the scheduler never looks inside.

PURE: no sockets, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from skyward.moves import mover

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer

ANY: Final = -1  # Task.rank of a task that may run on any node
NOWHERE: Final = 0  # Task.place of a task that the scheduler has not seen

QUEUED: Final = 0  # with the client
SENT: Final = 1  # with a node; counts as started until handed back
SETTLED: Final = 2  # its outcome is known; nothing more happens to it
STATES: Final = ("queued", "sent", "settled")

# event -> state before -> state after. What is not here cannot happen. Where tasks are sent and outcomes come in there
# are too many of them to ask the table: that those keep to it is seen to by `tests/dispatch/test_simulation`.
SEND: Final = "send"
HAND_BACK: Final = "handed back, or its node is lost and it may run again"
END: Final = "end"
TABLE: Final[dict[str, dict[int, int]]] = {
    SEND: {QUEUED: SENT},
    HAND_BACK: {SENT: QUEUED},
    END: {QUEUED: SETTLED, SENT: SETTLED},
}


class Task(Struct, eq=False):
    """One dispatched call.

    Whoever makes one says its ``size``, the bytes of data and buffers, and that it is ``movable`` if it has no rank.
    """

    id: int
    function: Any  # anything with a ``key``
    data: Buffer
    buffers: tuple[Buffer, ...]
    sink: Any
    index: int
    retries: int
    timeout: float = 0.0  # seconds; 0: none
    rank: int = ANY
    name: str = ""  # for errors
    size: int = 0
    movable: bool = False  # it may run on another node than the one it was given to
    feeds: tuple[Any, ...] = ()  # what brings the elements of its arguments, by number of the stream
    node: int = -1
    losses: int = 0  # how often a node was lost under it
    cost: int = 0  # microseconds, as charged to its node
    place: int = NOWHERE  # where it stands in its queue
    cancelled: bool = False
    state: int = QUEUED
    count: int = 1  # calls that it stands for: of several it is a bundle, see `skyward.pool.bundling`
    crashes: int = 0  # workers that have died under it, each of which ended a bundle

    def __repr__(self) -> str:
        where = f" on node {self.node}" if self.state == SENT else ""
        return f"<Task {self.id} {STATES[self.state]}{where}>"


move: Final = mover(TABLE)


# --- what the scheduler asks its driver to do ----------------------------------------------


class Send(Struct, frozen=True):
    """Send these tasks to the node, in this order, as one batch."""

    rank: int
    tasks: Sequence[Task]


class Stop(Struct, frozen=True):
    """Tell the node to cancel these tasks; running ones too if ``running``."""

    rank: int
    tasks: Sequence[Task]
    running: bool


class Settle(Struct, frozen=True):
    """These tasks end without a node's result; ``verdict`` says why."""

    tasks: Sequence[Task]
    verdict: Verdict


class Verdict(Struct, frozen=True):
    """Base of the reasons for which the client itself ends a task."""


class Lost(Verdict, frozen=True):
    """The node that held the task is gone, and the task may not run again."""

    rank: int
    reason: str


class Absent(Verdict, frozen=True):
    """The task names a rank that the pool does not have."""

    rank: int
    present: tuple[int, ...]


class NoNodes(Verdict, frozen=True):
    """No node was ready for too long."""

    waited: float
    causes: tuple[str, ...]


class TooLarge(Verdict, frozen=True):
    """The arguments of the task have more bytes than its node takes."""

    limit: int


class Cancelled(Verdict, frozen=True):
    """The task was cancelled before a node had it, or with the node that had it."""


Action = Send | Stop | Settle


def total_count(tasks: Sequence[Task]) -> int:
    """Return how many calls all tasks stand for."""
    return sum([task.count for task in tasks])


def total_size(tasks: Sequence[Task]) -> int:
    """Return the bytes of the arguments of all tasks."""
    return sum([task.size for task in tasks])
