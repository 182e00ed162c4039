"""A task on a node, and the one table of the moves its state can make.

A task is `HELD` until the node has its function's code, `QUEUED` until a worker gets it, `GIVEN` while
it sits in a worker's own queue, and `RUNNING` once it is first there. While it waits for calls of its
own it is `WAITING` and its slot is lent. `STOPPING` means that it was told to stop, and `OVERDUE` that
its outcome was reported while a thread that cannot be stopped still runs it.

PURE: no clock, no workers, no sessions; only what a task is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from skyward.moves import mover

if TYPE_CHECKING:
    from skyward.wire.bundles import Interim
    from skyward.wire.frames import Buffer
    from skyward_node.core.library import Code
    from skyward_node.core.sessions import Session
    from skyward_node.core.workers import Worker

HELD, QUEUED, GIVEN, RUNNING, WAITING, STOPPING, OVERDUE, DONE = range(8)
STATES: Final = ("held", "queued", "given", "running", "waiting", "stopping", "overdue", "done")

Moves = dict[int, int]

# event -> state before -> state after. What is not here cannot happen.
CODE_CAME: Final = "code came"
GIVE: Final = "give"
START: Final = "start"
LEND: Final = "lend"
RECLAIM: Final = "reclaim"
STOP: Final = "stop"
HAND_BACK: Final = "hand back"
LOSE: Final = "lose"
REPORT: Final = "report"
FINISH: Final = "finish"
TABLE: Final[dict[str, Moves]] = {
    CODE_CAME: {HELD: QUEUED},
    GIVE: {QUEUED: GIVEN},
    START: {GIVEN: RUNNING},
    LEND: {RUNNING: WAITING},
    RECLAIM: {WAITING: RUNNING},
    STOP: {GIVEN: STOPPING, RUNNING: STOPPING, WAITING: STOPPING},
    # RUNNING, because a worker knows better than we do whether it has begun its first task.
    HAND_BACK: {GIVEN: QUEUED, RUNNING: QUEUED, STOPPING: QUEUED},
    LOSE: {GIVEN: QUEUED, RUNNING: QUEUED, WAITING: QUEUED, STOPPING: QUEUED},
    REPORT: {RUNNING: OVERDUE, WAITING: OVERDUE, STOPPING: OVERDUE},
    FINISH: {
        HELD: DONE,
        QUEUED: DONE,
        GIVEN: DONE,
        RUNNING: DONE,
        WAITING: DONE,
        STOPPING: DONE,
        OVERDUE: DONE,
    },
}

FOR_CALLS, FOR_STREAMS = 1, 2  # of its own; whose other end must do something first

KEEP, GIVE_BACK, CANCEL, EXPIRE = range(4)  # what is to become of a task that its worker stops or hands back


class Task(Struct, eq=False, gc=False):
    """One task of one session. Cycles through it are broken when it ends (it is invisible to the GC)."""

    id: int
    session: Session
    code: Code
    payload: tuple[Buffer, tuple[Buffer, ...]]
    retries: int = 0  # re-runs still allowed
    timeout: float = 0.0  # seconds from its start; 0: none
    count: int = 1  # calls: of several it is a bundle, see `skyward.wire.bundles`
    crashes: int = 0  # workers that died under it
    spared: bool = False  # one died before it could begin this, and nobody was charged
    interim: Interim | None = None  # what was said of a bundle: again, where that may have been lost
    expires: float = 0.0  # the moment that is, counted from its latest start
    state: int = QUEUED
    wish: int = KEEP
    worker: Worker | None = None
    recalled: bool = False  # its worker was asked to hand it back
    told: bool = False  # the client knows that it runs
    unwanted: bool = False  # it was cancelled, and runs in a thread, which can stop it only where it deals with streams
    committed: bool = False  # an element of a stream of its was sent or asked for: it cannot run again
    waits: int = 0  # what its threads wait for: `FOR_CALLS`, `FOR_STREAMS`, both
    paused: float = 0.0  # the moment since which it waits for the other end of a stream; 0: it does not

    @property
    def cost(self) -> float:
        """Return how many µs it is expected to take; infinity if nothing is known."""
        return self.code.cost * self.count

    def __repr__(self) -> str:
        where = f" on worker {self.worker.id}" if self.worker is not None else ""
        return f"<Task {self.id} {self.code.name} {STATES[self.state]}{where}>"


move: Final = mover(TABLE)
