"""Which task goes to which node, and what becomes of tasks whose node is lost.

Events go in as method calls, actions come out as a list; nothing else happens. The rules:

- Tasks leave in submission order, round-robin over the ready nodes.
- No node gets a second task while another ready node has a free slot.
- Beyond free slots, short tasks are sent ahead (see `policy`); tasks with ``retries=0`` never are.
- Tasks bound to a rank (``.on``, broadcasts) go to that node or nowhere.
- A task that was sent counts as started until the node hands it back. When its node is lost it runs
  again at most ``retries`` times.

PURE: no sockets, no threads; the clock is a number. Batches in, batches out.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from skyward.dispatch.policy import Durations, may_send_ahead
from skyward.dispatch.tasks import (
    ANY,
    QUEUED,
    SENT,
    SETTLED,
    Absent,
    Action,
    Cancelled,
    Lost,
    NoNodes,
    Send,
    Settle,
    Stop,
    Task,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BATCH = 256  # tasks in one Send: amortizes a message, keeps one from blocking the link for long


class Node:
    """A ready node as the scheduler sees it."""

    __slots__ = ("draining", "in_flight", "load", "pinned", "rank", "slots")

    def __init__(self, rank: int, slots: int) -> None:
        self.rank = rank
        self.slots = slots
        self.in_flight: dict[int, Task] = {}
        self.load = 0.0  # expected µs of everything in flight
        self.pinned: deque[Task] = deque()  # tasks that may only run here, not yet sent
        self.draining = False

    @property
    def free(self) -> int:
        """Return how many slots have nothing to do."""
        return 0 if self.draining else self.slots - len(self.in_flight)

    def __repr__(self) -> str:
        return f"<Node {self.rank}: {len(self.in_flight)} in flight on {self.slots} slots>"


class Scheduler:
    """Decides for one pool."""

    def __init__(self, node_wait: float) -> None:
        self.nodes: dict[int, Node] = {}
        self.queue: deque[Task] = deque()
        self.durations = Durations()
        self.done = 0
        self.reruns = 0
        self._node_wait = node_wait
        self._turn = 0  # rank that is next in the round-robin
        self._starved_since: float | None = None  # when calls began to wait without any node

    # --- events about tasks ----------------------------------------------------------------

    def on_submit(self, tasks: Iterable[Task], *, urgent: bool = False) -> list[Action]:
        """Take in tasks. ``urgent`` ones (nested calls) go before all others, or parents pile up."""
        actions: list[Action] = []
        anywhere: list[Task] = []
        for task in tasks:
            if task.rank == ANY:
                anywhere.append(task)
            elif (node := self.nodes.get(task.rank)) is None or node.draining:
                actions.append(self._settle([task], Absent(task.rank, self.ready_ranks())))
            else:
                node.pinned.append(task)
        if urgent:
            self.queue.extendleft(reversed(anywhere))
        else:
            self.queue.extend(anywhere)
        return actions + self.dispatch()

    def on_results(self, rank: int, ids: Sequence[int], elapsed: Sequence[int]) -> list[Task | None]:
        """Take in a batch of outcomes; return their tasks, None for what is not pending there.

        The caller delivers them and then calls `dispatch`.
        """
        node = self.nodes.get(rank)
        if node is None:
            return [None] * len(ids)
        pop = node.in_flight.pop
        tasks: list[Task | None] = []
        seen: dict[bytes, list[float]] = {}
        load = node.load
        for id, microseconds in zip(ids, elapsed, strict=True):
            task = pop(id, None)
            tasks.append(task)
            if task is not None:
                task.state = SETTLED
                load -= task.cost
                sums = seen.get(task.function.key)
                if sums is None:
                    seen[task.function.key] = [1.0, float(microseconds)]
                else:
                    sums[0] += 1.0
                    sums[1] += microseconds
        node.load = load if node.in_flight else 0.0
        for key, (count, total) in seen.items():
            self.durations.observe(key, total / count)
            self.done += int(count)
        return tasks

    def on_returned(self, rank: int, ids: Iterable[int]) -> list[Action]:
        """Take back tasks that the node did not start; they move on freely."""
        node = self.nodes.get(rank)
        if node is None:
            return []
        back = [task for id in ids if (task := node.in_flight.pop(id, None)) is not None]
        for task in back:
            node.load -= task.cost
        return self._requeue(back, Lost(rank, "the node is shutting down")) + self.dispatch()

    def on_cancel(self, tasks: Iterable[Task]) -> list[Action]:
        """Drop what is queued; ask nodes to stop what was sent."""
        dropped: list[Task] = []
        sent: dict[int, list[Task]] = {}
        for task in tasks:
            if task.state == QUEUED:
                dropped.append(task)
            elif task.state == SENT and not task.cancelled:
                task.cancelled = True
                sent.setdefault(task.node, []).append(task)
        actions: list[Action] = []
        if dropped:
            # They stay in their queue until their turn, or each cancel would walk all of it.
            actions.append(self._settle(dropped, Cancelled()))
        actions += [Stop(rank, batch, running=True) for rank, batch in sent.items()]
        return actions

    def on_cancel_all(self) -> list[Action]:
        """End every unsettled task as cancelled, at once, and tell the nodes."""
        actions: list[Action] = []
        for node in self.nodes.values():
            tasks = list(node.in_flight.values())
            if tasks:
                actions.append(Stop(node.rank, tasks, running=True))
                node.in_flight.clear()
                node.load = 0.0
            tasks += _drain(node.pinned)
            if tasks:
                actions.append(self._settle(tasks, Cancelled()))
        if queued := _drain(self.queue):
            actions.append(self._settle(queued, Cancelled()))
        return actions

    # --- events about nodes ----------------------------------------------------------------

    def on_node_ready(self, rank: int, slots: int) -> list[Action]:
        """A node has joined under a rank that no other node holds."""
        if rank in self.nodes:
            raise RuntimeError(f"node {rank} is ready twice")
        self.nodes[rank] = Node(rank, slots)
        self._starved_since = None
        return self.dispatch()

    def on_node_slots(self, rank: int, slots: int) -> list[Action]:
        """A node runs more or fewer tasks at once than before (slots are lent while tasks wait)."""
        if rank in self.nodes:
            self.nodes[rank].slots = slots
        return self.dispatch()

    def on_node_draining(self, rank: int) -> list[Action]:
        """A node takes no new tasks; what is bound to it and not yet sent cannot run."""
        node = self.nodes.get(rank)
        if node is None:
            return []
        node.draining = True
        stranded = _drain(node.pinned)
        return [self._settle(stranded, Lost(rank, "the node is shutting down"))] if stranded else []

    def on_node_lost(self, rank: int, reason: str) -> list[Action]:
        """A node is gone: its tasks run again elsewhere, within ``retries``, or fail."""
        node = self.nodes.pop(rank, None)
        if node is None:
            return []
        verdict = Lost(rank, reason)
        again: list[Task] = []
        failed = _drain(node.pinned)
        cancelled: list[Task] = []
        for task in node.in_flight.values():
            task.losses += 1
            if task.cancelled:
                cancelled.append(task)
            elif task.movable and task.losses <= task.retries:
                again.append(task)
            else:
                failed.append(task)
        self.reruns += len(again)
        actions: list[Action] = []
        if cancelled:
            actions.append(self._settle(cancelled, Cancelled()))
        if failed:
            actions.append(self._settle(failed, verdict))
        return actions + self._requeue(again, verdict) + self.dispatch()

    def on_tick(self, now: float, causes: Iterable[str] = ()) -> list[Action]:
        """Fail what waits for a node longer than ``node_wait``; ``causes`` say why none came."""
        if self.nodes or _head(self.queue) is None:
            self._starved_since = None
            return []
        if self._starved_since is None:
            self._starved_since = now
        if now - self._starved_since < self._node_wait:
            return []
        self._starved_since = None
        return [self._settle(_drain(self.queue), NoNodes(self._node_wait, tuple(causes)))]

    # --- decisions -------------------------------------------------------------------------

    def dispatch(self) -> list[Action]:
        """Hand out as much of the queue as the nodes have room for."""
        batches: dict[int, list[Task]] = {}
        for node in self.nodes.values():
            if node.pinned:
                self._send_pinned(node, batches)
        if self.queue and self.nodes:
            self._fill_free_slots(batches)
            if self.queue:
                self._send_ahead(batches)
        return [
            Send(rank, tasks[start : start + BATCH])
            for rank, tasks in batches.items()
            for start in range(0, len(tasks), BATCH)
        ]

    def _send_pinned(self, node: Node, batches: dict[int, list[Task]]) -> None:
        while (task := _head(node.pinned)) is not None:
            if node.free <= 0 and (task.retries == 0 or not self._room_ahead(node, task)):
                return
            self._assign(node.pinned.popleft(), node, batches)

    def _fill_free_slots(self, batches: dict[int, list[Task]]) -> None:
        open_nodes = [node for node in self._in_turn() if node.free > 0]
        while open_nodes:
            for node in open_nodes:
                if _head(self.queue) is None:
                    return
                self._assign(self.queue.popleft(), node, batches)
                self._turn = node.rank + 1
            open_nodes = [node for node in open_nodes if node.free > 0]

    def _send_ahead(self, batches: dict[int, list[Task]]) -> None:
        # Runs of BATCH // 4 tasks per node and round keep the order close to round-robin while
        # each node still gets few, large messages.
        open_nodes = [node for node in self._in_turn() if not node.draining]
        while open_nodes:
            still_open: list[Node] = []
            for node in open_nodes:
                for _ in range(BATCH // 4):
                    task = _head(self.queue)
                    if task is None or task.retries == 0:
                        return
                    if not self._room_ahead(node, task):
                        break
                    self._assign(self.queue.popleft(), node, batches)
                    self._turn = node.rank + 1
                else:
                    still_open.append(node)
            open_nodes = still_open

    def _room_ahead(self, node: Node, task: Task) -> bool:
        cost = self.durations.cost(task.function.key)
        return may_send_ahead(cost, node.load, len(node.in_flight), node.slots)

    def _assign(self, task: Task, node: Node, batches: dict[int, list[Task]]) -> None:
        task.state = SENT
        task.node = node.rank
        task.cost = self.durations.cost(task.function.key) or 0.0
        node.load += task.cost
        node.in_flight[task.id] = task
        batches.setdefault(node.rank, []).append(task)

    def _in_turn(self) -> list[Node]:
        ranks = sorted(self.nodes)
        after = [self.nodes[rank] for rank in ranks if rank >= self._turn]
        return after + [self.nodes[rank] for rank in ranks if rank < self._turn]

    # --- bookkeeping -----------------------------------------------------------------------

    def _requeue(self, tasks: list[Task], verdict: Lost) -> list[Action]:
        stuck = [task for task in tasks if not task.movable or task.cancelled]
        free = [task for task in tasks if task.movable and not task.cancelled]
        for task in free:
            task.state = QUEUED
            task.node = -1
        self.queue.extendleft(reversed(sorted(free, key=lambda task: task.id)))
        return [self._settle([task], Cancelled() if task.cancelled else verdict) for task in stuck]

    def _settle(self, tasks: list[Task], verdict: Verdict) -> Settle:
        for task in tasks:
            task.state = SETTLED
        return Settle(tasks, verdict)

    # --- questions -------------------------------------------------------------------------

    def ready_ranks(self) -> tuple[int, ...]:
        """Return the ranks that take tasks, ascending."""
        return tuple(sorted(rank for rank, node in self.nodes.items() if not node.draining))

    def in_flight(self) -> int:
        """Return how many tasks nodes hold."""
        return sum(len(node.in_flight) for node in self.nodes.values())

    def waiting(self) -> int:
        """Return how many tasks have not been sent."""
        queues = [self.queue, *(node.pinned for node in self.nodes.values())]
        return sum(task.state == QUEUED for queue in queues for task in queue)

    def is_idle(self) -> bool:
        """Return whether no task is unsettled."""
        return _head(self.queue) is None and all(
            not node.in_flight and _head(node.pinned) is None for node in self.nodes.values()
        )


def _head(queue: deque[Task]) -> Task | None:
    """Return the first task that still waits; forget cancelled ones before it."""
    while queue:
        if queue[0].state == QUEUED:
            return queue[0]
        queue.popleft()
    return None


def _drain(queue: deque[Task]) -> list[Task]:
    """Empty the queue; return what still waited in it."""
    tasks = [task for task in queue if task.state == QUEUED]
    queue.clear()
    return tasks
