"""Which task goes to which node, and what becomes of tasks whose node is lost.

Events go in as method calls, actions come out as a list; nothing else happens. The rules:

- Every task is settled exactly once: by a result, or by a `Settle`.
- Tasks bound to a rank (``.on``, broadcasts) go to that node or nowhere; the head of a pool that sleeps is awaited.
- A task that was sent counts as started until the node hands it back. When its node is lost it runs
  again at most ``retries`` times.

Which task goes where, and when, is decided in `assignment`; this module keeps the books of tasks.

PURE: no sockets, no threads; the clock is a number. Batches in, batches out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyward.dispatch.assignment import BATCH, Assignment, Node
from skyward.dispatch.hunger import Hunger
from skyward.dispatch.queues import Places, Queue
from skyward.dispatch.tasks import (
    ANY,
    END,
    HAND_BACK,
    NOWHERE,
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
    TooLarge,
    Verdict,
    move,
    total_count,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["BATCH", "Scheduler"]


class Scheduler:
    """Decides for one pool."""

    def __init__(self, node_wait: float) -> None:
        self.assignment = assignment = Assignment()
        self.nodes = assignment.nodes
        self.queue = assignment.queue
        self._durations = assignment.durations
        self.done = 0
        self.reruns = 0
        self.head = Queue()  # tasks bound to the first node, while the pool sleeps or wakes
        self._hunger = Hunger(node_wait)
        self._places = Places()
        self.unsettled = 0  # calls without an outcome; as in all such numbers, a bundle counts for several

    # --- events about tasks ----------------------------------------------------------------

    def on_submit(self, tasks: Sequence[Task], *, urgent: bool = False) -> list[Action]:
        """Take in tasks. ``urgent`` ones (nested calls) go before all others, or parents pile up."""
        self.unsettled += self._places.give(tasks, urgent=urgent)
        if len(tasks) == 1 and (node := self.assignment.take_alone(tasks[0])) is not None:
            return [Send(node.rank, tasks)]
        anywhere = [task for task in tasks if task.rank == ANY and not task.cancelled]
        self.queue.take_in(anywhere, urgent=urgent)
        if len(anywhere) == len(tasks):
            return self.assignment.dispatch()
        others = [task for task in tasks if task.rank != ANY or task.cancelled]
        return self._sort_out(others, urgent=urgent) + self.assignment.dispatch()

    def calm(self) -> Node | None:
        """Return the node that a task gets if it comes now, and nothing else is under way; else None."""
        return None if self.unsettled else self.assignment.whose_turn()

    def on_sent(self, task: Task, node: Node) -> None:
        """Take in a task that this node, which `calm` has named, has got already."""
        self._places.give_next(task)
        self.unsettled += 1
        self.assignment.give(task, node)

    def _sort_out(self, tasks: list[Task], *, urgent: bool) -> list[Action]:
        """Take in tasks bound to a rank; settle those of absent ranks, and those cancelled before they came here."""
        by_rank: dict[int, list[Task]] = {}
        cancelled: list[Task] = []
        for task in tasks:
            if task.cancelled:
                cancelled.append(task)
            else:
                by_rank.setdefault(task.rank, []).append(task)
        actions: list[Action] = [self._settle(cancelled, Cancelled())] if cancelled else []
        for rank, bound in by_rank.items():
            node = self.nodes.get(rank)
            if rank == 0 and node is None and self.assignment.core == 0 and (self.head or not self.nodes):
                self.head.take_in(bound, urgent=urgent)
            elif node is None or node.draining:
                actions.append(self._settle(bound, Absent(rank, self.ready_ranks())))
            else:
                node.pinned.take_in(bound, urgent=urgent)
                self.assignment.note(node)
        return actions

    def on_results(self, rank: int, ids: Sequence[int], elapsed: Sequence[int]) -> list[Task | None]:
        """Take in a batch of outcomes; return their tasks, None for what is not pending there.

        The caller delivers them and then calls `dispatch`.
        """
        node = self.nodes.get(rank)
        if node is None:
            return [None] * len(ids)
        pop = node.in_flight.pop
        tasks = [pop(id, None) for id in ids]
        load, count = node.load, 0  # calls
        times: dict[bytes, list[int]] = {}  # by function: microseconds of all its calls, and how many these are
        for task, microseconds in zip(tasks, elapsed, strict=True):
            if task is None:
                continue
            calls = task.count
            count += calls
            task.state = SETTLED
            load -= task.cost
            if task.cancelled:  # it tells nothing about its function
                continue
            key = task.function.key
            if key in times:
                of_key = times[key]
                of_key[0] += microseconds
                of_key[1] += calls
            else:
                times[key] = [microseconds, calls]
        for key, (total, number) in times.items():
            self._durations.observe(key, total / number)
        node.load = load
        self.done += count
        self.unsettled -= count
        if count:
            node.served += count
            node.recalled = False
            self.assignment.note(node)
        return tasks

    def on_result(self, rank: int, id: int, elapsed: int) -> Task | None:
        """Take in one outcome; as `on_results`."""
        node = self.nodes.get(rank)
        if node is None or (task := node.in_flight.pop(id, None)) is None:
            return None
        task.state = SETTLED
        node.load -= task.cost
        count = task.count
        if not task.cancelled:
            self._durations.observe(task.function.key, elapsed / count)
        self.done += count
        self.unsettled -= count
        node.served += count
        node.recalled = False
        self.assignment.note(node)
        return task

    def on_returned(self, rank: int, ids: Iterable[int]) -> list[Action]:
        """Take back tasks that the node did not start; they move on freely."""
        node = self.nodes.get(rank)
        if node is None:
            return []
        back = [task for id in ids if (task := node.in_flight.pop(id, None)) is not None]
        node.load -= sum(task.cost for task in back)
        self.assignment.note(node)
        return self._requeue(back, Lost(rank, "the node is shutting down")) + self.dispatch()

    def on_too_large(self, rank: int, limit: int, tasks: Sequence[Task]) -> list[Action]:
        """End those tasks of a `Send` that have more than the ``limit`` bytes that the node takes; send the others."""
        node = self.nodes[rank]
        large = [task for task in tasks if task.size > limit]
        self._withdraw(node, large)
        actions: list[Action] = [self._settle(large, TooLarge(limit))]
        rest = [task for task in tasks if task.size <= limit]
        return [*actions, Send(rank, rest)] if rest else actions

    def note_split(self, task: Task, ended: int, left: int) -> None:
        """Of a bundle that runs, some calls have ended, and some are left to other tasks; it does not run again."""
        task.count -= ended + left
        task.movable = False
        self.done += ended
        self.unsettled -= ended + left

    def note_dissolved(self, rank: int, tasks: Sequence[Task]) -> None:
        """Forget bundles of a `Send` to a node that shall not get them; their calls come again as tasks."""
        self._withdraw(self.nodes[rank], tasks)
        move(tasks, END)
        self.unsettled -= total_count(tasks)

    def note_again(self, calls: int, done: int) -> None:
        """Calls of a bundle are about to come again; so many of them were counted as done."""
        self.unsettled += calls
        self.done -= done

    def on_again(self, tasks: list[Task], *, closing: bool) -> list[Action]:
        """Take in calls that were part of a bundle, which have the places that they had in it."""
        if closing:
            return [self._settle(tasks, Cancelled())]
        self.queue.insert(tasks)
        return self.dispatch()

    def on_cancel(self, tasks: Iterable[Task]) -> list[Action]:
        """Drop what is queued; ask nodes to stop what was sent."""
        dropped: list[Task] = []
        left: dict[int, int] = {}  # how many were dropped, by the rank they were bound to
        sent: dict[int, list[Task]] = {}
        for task in tasks:
            if task.state == QUEUED and task.place != NOWHERE:
                move((task,), END)
                dropped.append(task)
                left[task.rank] = left.get(task.rank, 0) + 1
            elif task.state != SETTLED and not task.cancelled:
                task.cancelled = True
                if task.state == SENT:
                    sent.setdefault(task.node, []).append(task)
        for rank, count in left.items():
            if rank not in self.nodes:
                (self.queue if rank == ANY else self.head).forget(count)
            else:
                self.nodes[rank].pinned.forget(count)
                self.assignment.note(self.nodes[rank])
        actions: list[Action] = [self._ended(dropped, Cancelled())] if dropped else []
        return actions + [Stop(rank, batch, running=True) for rank, batch in sent.items()]

    def on_cancel_all(self) -> list[Action]:
        """End every unsettled task as cancelled, at once, and tell the nodes."""
        actions: list[Action] = []
        for node in self.nodes.values():
            sent = list(node.in_flight.values())
            if sent:
                actions.append(Stop(node.rank, sent, running=True))
                node.in_flight.clear()
                node.load = 0
            if tasks := [*sent, *node.pinned.drain()]:
                actions.append(self._settle(tasks, Cancelled()))
            self.assignment.note(node)
        if queued := [*self.queue.drain(), *self.head.drain()]:
            actions.append(self._settle(queued, Cancelled()))
        return actions

    def dispatch(self) -> list[Action]:
        """Hand out what may go now that tasks have ended."""
        return self.assignment.dispatch()

    # --- events about nodes ----------------------------------------------------------------

    def on_node_ready(self, rank: int, slots: int) -> list[Action]:
        """A node has joined under a rank that no other node holds."""
        if rank in self.nodes:
            raise RuntimeError(f"node {rank} is ready twice")
        node = Node(rank, slots)
        if rank == 0:
            node.pinned, self.head = self.head, node.pinned
        self.assignment.join(node)
        self._hunger.end()
        return self.dispatch()

    def on_node_slots(self, rank: int, slots: int) -> list[Action]:
        """A node runs more or fewer tasks at once than before (slots are lent while tasks wait)."""
        node = self.nodes.get(rank)
        if node is None:
            return []
        node.slots = slots
        self.assignment.note(node)
        return self.dispatch()

    def on_node_draining(self, rank: int) -> list[Action]:
        """A node takes no new tasks; what is bound to it and not yet sent cannot run."""
        node = self.nodes.get(rank)
        if node is None:
            return []
        node.draining = node.ending = True
        stranded = node.pinned.drain()
        self.assignment.note(node)
        return [self._settle(stranded, Lost(rank, "the node is shutting down"))] if stranded else []

    def on_node_retiring(self, rank: int, *, stays: bool = False) -> list[Action]:
        """A node shall go: it takes no new tasks, and does what it holds and what is bound to it; or it ``stays``."""
        node = self.nodes.get(rank)
        if node is None:
            return []
        node.draining = node.ending or not stays
        self.assignment.note(node)
        return self.dispatch()

    def on_node_lost(self, rank: int, reason: str) -> list[Action]:
        """A node is gone: its tasks run again elsewhere, within ``retries``, or fail."""
        node = self.assignment.leave(rank)
        if node is None:
            return []
        verdict = Lost(rank, reason)
        again: list[Task] = []
        failed = node.pinned.drain()
        cancelled: list[Task] = []
        for task in node.in_flight.values():
            task.losses += not node.draining  # one that was told to leave, as a spot instance is, is no mishap
            if task.cancelled:
                cancelled.append(task)
            elif task.movable and 0 < task.retries >= task.losses:
                again.append(task)
            else:
                failed.append(task)
        self.reruns += total_count(again)
        actions: list[Action] = []
        if cancelled:
            actions.append(self._settle(cancelled, Cancelled()))
        if failed:
            actions.append(self._settle(failed, verdict))
        return actions + self._requeue(again, verdict) + self.dispatch()

    def on_tick(self, now: float, causes: Iterable[str] = (), *, waking: bool = False) -> list[Action]:
        """Fail what waits for a node longer than ``node_wait``; ``causes`` say why none came.

        A node that is ``waking`` up is waited for: its provider knows how long that may take.
        """
        hungry = bool(self.head or (self.queue and not self.nodes))  # tasks wait, and for a node that is not there
        if not self._hunger.is_over(now, hungry=hungry and not waking):
            return self.assignment.recall(0, again=True)
        if self.nodes:  # but not the head
            return [self._settle(self.head.drain(), Absent(0, self.ready_ranks()))]
        return [self._settle([*self.queue.drain(), *self.head.drain()], NoNodes(self._hunger.bearable, tuple(causes)))]

    # --- bookkeeping -----------------------------------------------------------------------

    def _withdraw(self, node: Node, tasks: Sequence[Task]) -> None:
        for task in tasks:
            del node.in_flight[task.id]
            node.load -= task.cost
        self.assignment.note(node)

    def _requeue(self, tasks: list[Task], verdict: Lost) -> list[Action]:
        cancelled: list[Task] = []
        stuck: list[Task] = []
        free: list[Task] = []
        for task in tasks:
            if task.cancelled:
                cancelled.append(task)
            elif task.movable:
                task.node = -1
                free.append(task)
            else:
                stuck.append(task)
        move(free, HAND_BACK)
        self.queue.insert(free)
        actions: list[Action] = [self._settle(cancelled, Cancelled())] if cancelled else []
        return [*actions, self._settle(stuck, verdict)] if stuck else actions

    def _settle(self, tasks: list[Task], verdict: Verdict) -> Settle:
        move(tasks, END)
        return self._ended(tasks, verdict)

    def _ended(self, tasks: list[Task], verdict: Verdict) -> Settle:
        self.unsettled -= total_count(tasks)
        return Settle(tasks, verdict)

    # --- questions -------------------------------------------------------------------------

    def ready_ranks(self) -> tuple[int, ...]:
        """Return the ranks that take tasks, ascending. The one question that any thread may ask."""
        nodes = list(self.nodes.values())  # in one step of the interpreter
        return tuple(sorted(node.rank for node in nodes if not node.draining))

    def in_flight(self) -> int:
        """Return how many calls nodes hold."""
        return sum(total_count(list(node.in_flight.values())) for node in self.nodes.values())

    def waiting(self) -> int:
        """Return how many calls have not been sent."""
        return self.unsettled - self.in_flight()

    @property
    def submitted(self) -> int:
        """Return how many calls there have been."""
        return self._places.given

    def holds(self, rank: int, id: int) -> bool:
        """Return whether the node was sent the task, and has neither ended it nor handed it back."""
        node = self.nodes.get(rank)
        return node is not None and id in node.in_flight

    def is_idle(self) -> bool:
        """Return whether no task is unsettled."""
        return self.unsettled == 0
