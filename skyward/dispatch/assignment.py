"""Which waiting task goes to which node, and when: free slots first, then as far ahead as is wise.

The books of a pool's nodes, as far as assigning needs them, and the queue of tasks that may go anywhere.
Whoever changes a node tells by `note`; `dispatch` then looks only at nodes that have room.

Order: tasks leave by their places, whichever of two queues they stand in. Only a task that is bound to a
node may overtake others, for a slot that these do not need. A task that cannot be sent ahead keeps back the
ones behind it: order comes before speed, and it costs at most the few milliseconds until a slot is free.

The rules:

- Tasks go round-robin over the ready nodes, first to those that hold least. In a pool that shrinks by itself the nodes
  beyond the least number are no part of the round: of those that hold least the lowest rank comes first, so that the
  highest ranks become idle when there is less to do.
- No node gets more than it has slots while another ready node has a free slot.
- Beyond free slots, short tasks are sent ahead (see `policy`); tasks that may not run again never are.
- What waits on a node while another idles is asked back, and goes to whoever is free.

PURE: no sockets, no threads, no clock.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from skyward.dispatch.policy import (
    RECALL,
    Durations,
    charge,
    is_short,
    may_send_ahead,
    room_ahead,
    run_length,
    runs_low,
)
from skyward.dispatch.queues import Queue
from skyward.dispatch.tasks import SENT, Action, Send, Stop, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH: Final = 256  # tasks in one Send: amortizes a message, keeps one from blocking the link for long
BATCH_BYTES: Final = 2**20  # in one Send, for the same two reasons
BUFFER: Final = 64  # bytes that a buffer counts beside its content: bounds the frames of a message, too

_place = attrgetter("place")


class Node:
    """A ready node as the scheduler sees it."""

    __slots__ = ("draining", "ending", "in_flight", "load", "own", "pinned", "rank", "recalled", "served", "slots")

    def __init__(self, rank: int, slots: int) -> None:
        self.rank = rank
        self.slots = slots  # those that waiting tasks lend included
        self.own = slots
        self.served = 0  # tasks that have ended here
        self.in_flight: dict[int, Task] = {}  # in the order sent
        self.load = 0  # expected µs of everything in flight
        self.pinned = Queue()  # tasks that may only run here, not yet sent
        self.draining = False  # gets nothing new
        self.ending = False  # has said itself that it ends
        self.recalled = False  # was asked to hand back what waits, and has finished nothing since

    @property
    def free(self) -> int:
        """Return how many slots have nothing to do; negative for tasks that wait."""
        return 0 if self.draining else self.slots - len(self.in_flight)

    def __repr__(self) -> str:
        return f"<Node {self.rank}: {len(self.in_flight)} in flight on {self.slots} slots>"


Batches = dict[int, list[Task]]  # by rank


class Assignment:
    """Nodes and queue of one pool, and what the one gets of the other."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.queue = Queue()
        self.durations = Durations()
        self.core: int | None = None  # ranks below it take turns, those above are there for what these cannot take
        self._turn: int = 0  # rank that is next in the round-robin
        # Some of the nodes, so that no event has to look at all of them:
        self.open: dict[int, Node] = {}  # those with a free slot
        self.bound: dict[int, Node] = {}  # those with pinned tasks
        self.leaving: dict[int, Node] = {}  # the same of those that go when they have done these
        self.crowded: dict[int, Node] = {}  # those with more tasks than slots
        self.low: dict[int, Node] = {}  # those that would soon have nothing to do

    # --- books -----------------------------------------------------------------------------

    def join(self, node: Node) -> None:
        """Take in a node."""
        self.nodes[node.rank] = node
        self.note(node)

    def leave(self, rank: int) -> Node | None:
        """Forget a node, and return it if it was there."""
        for some in (self.open, self.bound, self.leaving, self.crowded, self.low):
            some.pop(rank, None)
        return self.nodes.pop(rank, None)

    def note(self, node: Node) -> None:
        """Put the node among those it belongs to, now that something about it has changed."""
        rank, held, slots = node.rank, len(node.in_flight), node.slots
        if not (held or node.draining or node.pinned.tasks or self.bound or self.leaving or self.crowded) and slots > 0:
            self.open[rank] = self.low[rank] = node  # as below, for the node of a call that was alone
            return
        if held < slots and not node.draining:
            self.open[rank] = node
        else:
            self.open.pop(rank, None)
        if held > slots or self.crowded:
            _mark(self.crowded, node, belongs=held > slots and not node.draining)
        if node.pinned.tasks or self.bound or self.leaving:
            _mark(self.leaving if node.draining else self.bound, node, belongs=bool(node.pinned))
            (self.bound if node.draining else self.leaving).pop(rank, None)
        if runs_low(node.load, held, slots):
            self.low[rank] = node
        else:
            self.low.pop(rank, None)

    # --- decisions -------------------------------------------------------------------------

    def dispatch(self) -> list[Action]:
        """Hand out as much of the queue as the nodes have room for."""
        waiting = self.queue.tasks
        if not (waiting or self.bound or self.leaving):
            return self.recall(RECALL) if self.crowded else []
        batches: Batches = {}
        if self.leaving:
            self._finish(batches)
        if self.bound and self.open:
            self._fill_bound(batches)
        if waiting and self.open:
            self._fill(batches)
        if waiting or self.bound:
            self._send_ahead(batches)
        actions: list[Action] = []
        for rank, tasks in batches.items():
            if not tasks:
                continue
            if len(tasks) == 1:
                actions.append(Send(rank, tasks))
            else:
                actions += [Send(rank, batch) for batch in split(tasks)]
        if self.crowded:
            actions += self.recall(RECALL)
        return actions

    def take_alone(self, task: Task) -> Node | None:
        """Give a task that has just come the free slot whose turn it is; None if it is not that simple.

        What `dispatch` would do with it, if it is the only one that waits.
        """
        if task.movable and not (task.cancelled or self.queue.tasks or self.bound or self.leaving or self.crowded):
            nodes = self._in_turn(self.open)
            if nodes:
                node = nodes[0] if len(nodes) == 1 else min(nodes, key=_held)  # the first of those that hold least
                self.give(task, node)
                return node
        return None

    def give(self, task: Task, node: Node) -> None:
        """Give a task the node whose turn it is."""
        self._assign(task, node, self._cost(task))
        self._turn = node.rank + 1
        self.note(node)

    def whose_turn(self) -> Node | None:
        """Return the node that `take_alone` gives a task that may go anywhere, while no node has anything to do."""
        nodes, rank = self.open, self._turn
        if self.core is None:
            node = nodes.get(rank)
            if node is not None:
                return node
            if nodes and rank > max(nodes):
                return nodes[min(nodes)]
        in_turn = self._in_turn(nodes)
        return in_turn[0] if in_turn else None

    def _finish(self, batches: Batches) -> None:
        """Give nodes that leave what is bound to them."""
        for node in list(self.leaving.values()):
            while node.pinned and len(node.in_flight) < node.slots:
                self._take(node.pinned, node, batches)
            self.note(node)

    def _fill_bound(self, batches: Batches) -> None:
        """Give free slots to tasks that may run nowhere else, unless earlier ones need every slot there is."""
        wanting = [node for node in self.bound.values() if node.free > 0]
        bound = sorted((task for node in wanting for task in islice(node.pinned, node.free)), key=_place)
        room = sum(node.free for node in self.open.values())
        earlier = 0
        queued = iter(self.queue)
        ahead = next(queued, None)
        for task in bound:
            while ahead is not None and ahead.place < task.place and earlier < room:
                earlier += 1
                ahead = next(queued, None)
            if earlier >= room:
                break
            room -= 1
            node = self.nodes[task.rank]
            self._take(node.pinned, node, batches)
        for node in wanting:
            self.note(node)

    def _fill(self, batches: Batches) -> None:
        """Give free slots to the queue: in turn, and those that hold least first."""
        queue = self.queue
        waiting = len(queue)
        nodes: list[Node] = self._in_turn(self.open)
        while nodes and waiting:
            least = min([len(node.in_flight) for node in nodes])
            for node in nodes:
                if not waiting:
                    break
                if len(node.in_flight) == least:
                    self._take(queue, node, batches)
                    self._turn = node.rank + 1
                    waiting -= 1
            if waiting:
                nodes = [node for node in nodes if node.free > 0]
        for rank in batches:
            self.note(self.nodes[rank])

    def _send_ahead(self, batches: Batches) -> None:
        """Send short tasks to nodes that are busy, in runs, so that the nodes' shares stay even."""
        nodes = self._in_turn(self._with_room())
        while nodes:
            share = -(-len(self.queue) // len(nodes))
            nodes = [node for node in nodes if self._run_ahead(node, share, batches)]

    def _with_room(self) -> dict[int, Node]:
        """Return the nodes that may get the next task ahead, or have tasks of their own."""
        bound = self.bound
        head = self.queue.head()
        cost = None if head is None else self._cost(head)
        if not is_short(cost):
            return bound
        low = {
            rank: node
            for rank, node in self.low.items()
            if may_send_ahead(cost, node.load, len(node.in_flight), node.slots)
        }
        return low | bound

    def _run_ahead(self, node: Node, share: int, batches: Batches) -> bool:
        """Send the node its next tasks; return whether it may have more when its turn comes again."""
        if node.draining or node.recalled:
            return False
        queue = self.queue
        batch = batches.setdefault(node.rank, [])
        key, count = b"", 0
        charged = sent = room = 0
        most, slots, in_flight = 1, node.slots, node.in_flight
        while sent < most:
            if node.pinned.tasks:
                queue = self._next_queue(node)
            task = queue.head()
            if task is None or task.losses >= task.retries:
                break
            if task.function.key != key or task.count != count:
                key, count = task.function.key, task.count
                cost = self.durations.cost(key, count)
                charged = charge(cost)
                most = sent + max(1, min(run_length(cost) - sent, share - sent))
                room = sent + room_ahead(cost, node.load, len(in_flight), slots)
            if sent >= room:
                break
            queue.tasks.popleft()  # the head
            task.state, task.node, task.cost = SENT, node.rank, charged
            node.load += charged
            in_flight[task.id] = task
            batch.append(task)
            sent += 1
        if sent:
            self._turn = node.rank + 1
            self.note(node)
        return sent >= most

    def _next_queue(self, node: Node) -> Queue:
        """Return the queue whose first task the node may have next."""
        own, common = node.pinned.head(), self.queue.head()
        if common is None or (own is not None and own.place < common.place):
            return node.pinned
        return self.queue

    def _cost(self, task: Task) -> float | None:
        return self.durations.cost(task.function.key, task.count)

    @staticmethod
    def _assign(task: Task, node: Node, cost: float | None) -> None:
        task.state = SENT
        task.node = node.rank
        task.cost = charge(cost)
        node.load += task.cost
        node.in_flight[task.id] = task

    def _take(self, queue: Queue, node: Node, batches: Batches) -> None:
        """Give a free slot of the node to the first task of the queue."""
        task = queue.pop()
        self._assign(task, node, self._cost(task))
        batches.setdefault(node.rank, []).append(task)

    def _in_turn(self, nodes: dict[int, Node]) -> list[Node]:
        if len(nodes) == 1:
            return list(nodes.values())
        ranks = sorted(nodes)
        end = len(ranks) if self.core is None else bisect_left(ranks, self.core)
        after = bisect_left(ranks, self._turn, 0, end)
        return [nodes[rank] for rank in ranks[after:end] + ranks[:after] + ranks[end:]]

    def recall(self, least: int, *, again: bool = False) -> list[Action]:
        """Ask for what waits on nodes while another idles, if that is ``least`` µs of work."""
        if not self.open or not self.crowded or self.queue:
            return []
        actions: list[Action] = []
        for node in self.crowded.values():
            if node.load < least or (node.recalled and not again):
                continue
            behind = islice(node.in_flight.values(), node.slots, None)
            waiting = [task for task in behind if task.movable and not task.cancelled]
            if waiting and sum([task.cost for task in waiting]) >= least:
                node.recalled = True
                actions.append(Stop(node.rank, waiting, running=False))
        return actions


def _held(node: Node) -> int:
    return len(node.in_flight)


def _mark(nodes: dict[int, Node], node: Node, *, belongs: bool) -> None:
    if belongs:
        nodes[node.rank] = node
    else:
        nodes.pop(node.rank, None)


def split(tasks: list[Task]) -> Iterator[list[Task]]:
    """Cut tasks for one node into what one message may hold."""
    if len(tasks) <= BATCH and sum([task.size + BUFFER * len(task.buffers) for task in tasks]) <= BATCH_BYTES:
        yield tasks
        return
    start = size = 0
    for end, task in enumerate(tasks):
        weight = task.size + BUFFER * len(task.buffers)
        if end > start and (end - start == BATCH or size + weight > BATCH_BYTES):
            yield tasks[start:end]
            start, size = end, 0
        size += weight
    yield tasks[start:]
