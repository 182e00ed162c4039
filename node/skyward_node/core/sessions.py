"""A session: one client's pool as this node sees it.

It owns the client's tasks, code, results and workers, and outlives the connection it is bound to: a
client that comes back within its lease finds everything as it was.

PURE: no sockets; the clock is a number.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

from skyward.wire.messages import MAX_BUFFERS
from skyward.wire.shelf import CALLS, Shelf
from skyward.wire.unconfirmed import Unconfirmed
from skyward_node.core.graves import Graves
from skyward_node.core.library import Library
from skyward_node.core.lines import Backlog
from skyward_node.core.outbox import Outbox
from skyward_node.core.tasks import QUEUED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.messages import Hello, Roster
    from skyward_node.core.library import Code, Source
    from skyward_node.core.tasks import Task
    from skyward_node.core.workers import Worker

BEATS: Final = (0.01, 60.0)  # seconds: bounds on what a client may ask as heartbeat
BEAT: Final = 0.25  # seconds, for a client that does not care
LATE: Final = 1.25  # heartbeats from the answer to a beat to the next pulse, if no beat asks for it by then
STEP: Final = 2.0  # heartbeats: of a longer gap between two looks only so much counts as silence
ENDED: Final = 64  # tasks that have ended and may stay in a queue: fewer are not worth a look
UNACKED: Final = 64 * 2**20  # bytes of results after which no further task of the session starts


class Session:
    """Everything that belongs to one client."""

    __slots__ = (
        "backlog", "blocked", "brought", "carried", "control", "control_blocked", "draining", "echo", "former",
        "former_control", "grace", "graves", "heard", "heartbeat", "highest", "hot", "idle", "key", "label", "lease",
        "library", "max_payload", "nested", "next_pulse", "outbox", "peer", "printed", "queue", "queued", "retries",
        "returned", "roster", "roster_version", "seats", "shared", "shown", "silence", "started", "tasks", "timeout",
        "told", "unconfirmed", "user", "workers",
    )  # fmt: skip

    def __init__(self, key: bytes, user: str = "") -> None:
        self.key = key
        self.user = user  # whose it is: the client's public key; "" on links that need none
        self.label = ""
        self.peer: bytes | None = None
        self.control: bytes | None = None  # its second connection, which bulk data cannot block
        self.former: bytes | None = None  # the first one, found gone, of which not all may have been read
        self.former_control: bytes | None = None  # the same of the second one
        self.blocked = False  # its connection takes no messages for now
        self.control_blocked = False  # the same of the second one
        self.heartbeat = BEAT
        self.lease = 0.0
        self.grace = 0.0
        self.max_payload = 0
        self.retries = 0  # of calls that tasks make, unless they say
        self.timeout = 0.0  # seconds; the same
        self.silence = 0.0  # seconds the client was not heard while we listened
        self.next_pulse = 0.0
        self.echo = 0.0  # the client's clock
        self.draining = inf  # moment by which the session ends
        self.library = Library()
        self.brought: list[Source] = []  # modules that have come, and no function after them
        self.told: Shelf[bool] = Shelf(CALLS)  # code of calls that the client has got over this connection, and keeps
        self.tasks: dict[int, Task] = {}  # all that have no outcome yet
        self.highest = -1  # task id: above it, every id is new
        self.queue: deque[Task] = deque()  # may hold tasks that have ended
        self.queued = 0  # tasks in the queue that have not
        self.outbox = Outbox()
        self.shared = False  # the client reads the memory of workers, and they its
        self.graves = Graves()
        self.backlog = Backlog()
        self.unconfirmed = Unconfirmed()  # SUBMIT, REVOKE, ITEMS and CREDIT messages that the client may not have got
        self.carried: deque[tuple[int, list[Code]]] = deque()  # their code, by the seq of SUBMIT
        self.printed = 0  # bytes of lines sent over this connection
        self.shown = 0  # and those of which the client says that they have come
        self.heard = 0  # last seq of ANSWER, ITEMS and CREDIT messages
        self.hot = 0  # bytes of ITEMS of which the client does not know that they have come
        self.returned: list[int] = []  # of this turn
        self.started: list[int] = []  # of this turn
        self.nested: dict[int, set[int]] = {}  # unanswered calls of tasks
        self.workers: dict[int, Worker] = {}
        self.idle: dict[int, Worker] = {}  # those of them with nothing to do
        self.seats: dict[int, Worker] = {}  # by slot, the worker that had it last
        self.roster: Roster | None = None
        self.roster_version = 0

    def configure(self, hello: Hello, lease: float, max_payload: int) -> None:
        """Take over what the client wants; the arguments are the node's default lease, and its limit for results."""
        self.label = hello.label
        self.heartbeat = min(max(hello.heartbeat, BEATS[0]), BEATS[1]) if hello.heartbeat else BEAT
        self.lease = hello.lease or lease
        self.grace = hello.cancel_grace
        self.max_payload = min(hello.max_payload or max_payload, max_payload)
        self.retries = hello.retries
        self.timeout = hello.timeout
        self.shared = self.outbox.shared = hello.shared
        self.outbox.replies = hello.replies

    def confirm(self, heard: int) -> None:
        """Forget the messages that the client has heard, and the code that went with them."""
        self.unconfirmed.confirm(heard)
        while self.carried and self.carried[0][0] <= heard:
            self.carried.popleft()

    def wants_slot(self) -> bool:
        """Return whether a task waits that may start."""
        return self.queued > 0 and self.may_send()

    def may_send(self) -> bool:
        """Return whether its results are not too many already of which nobody has said that they have come."""
        return self.outbox.weight < UNACKED

    def head(self) -> Task:
        """Return the task that is next; there must be one."""
        queue = self.queue
        while queue[0].state != QUEUED:
            queue.popleft()
        return queue[0]

    def enqueue(self, tasks: Sequence[Task], *, front: bool = False) -> None:
        """Queue the tasks, in their order."""
        if front:
            self.queue.extendleft(reversed(tasks))
        else:
            self.queue.extend(tasks)
        self.queued += len(tasks)

    def tidy(self) -> None:
        """Take out of the queue what has ended, once that is the larger part: memory is for what waits."""
        if len(self.queue) > 2 * self.queued + ENDED:
            self.queue = deque(task for task in self.queue if task.state == QUEUED)

    def take(self, most: int, budget: float) -> list[Task]:
        """Take the next tasks that may share a worker: at most ``most``, and at most ``budget`` µs of work.

        The first is taken whatever it costs. Tasks that may not run twice are taken alone. All of them fit
        one message.
        """
        first = self.head()
        queue = self.queue
        queue.popleft()
        chunk = [first]
        if most > 1 and first.retries and not first.crashes:
            spent = first.cost
            room = MAX_BUFFERS - _frames(first)
            while queue and len(chunk) < most:
                task = queue[0]
                if task.state == QUEUED:
                    spent += task.cost
                    room -= _frames(task)
                    if spent > budget or room < 0 or not task.retries or task.crashes:
                        break
                    chunk.append(task)
                queue.popleft()
        self.queued -= len(chunk)
        return chunk

    def __repr__(self) -> str:
        bound = "bound" if self.peer is not None else "unbound"
        return f"<Session {self.key.hex()[:8]} of {self.label or '?'}: {bound}, {len(self.tasks)} tasks>"


def _frames(task: Task) -> int:
    """Return how many buffers the task takes of a message at most: its pickle may be one."""
    return 1 + len(task.payload[1])
