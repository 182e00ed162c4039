"""Calls that tasks make: they come from nodes, are scheduled like all others, and are not unpickled.

The pool's scheduler sees nested calls as tasks whose outcomes belong to a `Parent`. Answers to one
parent leave together, once per turn of the loop. When the parent has ended, or its node is lost, what
it had submitted is cancelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from skyward.dispatch.scheduler import BATCH
from skyward.dispatch.tasks import ANY, Task
from skyward.errors import ProtocolError
from skyward.machine.memory import opened
from skyward.results import DISCARD, Sink
from skyward.wire import failures
from skyward.wire.codec import pack_body, split_body
from skyward.wire.credit import FIRST, SIZE, Budget
from skyward.wire.frames import Payload, payload_size
from skyward.wire.messages import Answer, Submit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skyward.results import Outcome
    from skyward.wire.frames import Buffer
    from skyward.wire.functions import FunctionBlob


STREAMS: Final = 4_096  # arguments of one call that are fed: more than any function has


class Parent(Sink):
    """A running task that has submitted calls; the sink of their outcomes."""

    __slots__ = ("_budgets", "_calls", "_on_answers", "answers", "id", "rank", "tasks")

    def __init__(self, rank: int, id: int, on_answers: Callable[[Parent], None]) -> None:
        self.rank = rank
        self.id = id
        self.tasks: dict[int, Task] = {}  # by the parent's own number of the call
        self.answers: list[tuple[int, Outcome, int]] = []
        self._calls: dict[int, int] = {}  # task id -> number of the call
        self._budgets: dict[tuple[int, int], Budget] = {}  # by task id and stream
        self._on_answers = on_answers

    def expect(self, call: int, task: Task) -> None:
        """Note that the task's outcome answers the call."""
        self.tasks[call] = task
        self._calls[task.id] = call

    def deliver(self, task: Task, outcome: Outcome) -> None:
        """Queue an answer."""
        call = self._calls.pop(task.id)
        self.tasks.pop(call, None)
        self._forget(task)
        first = not self.answers
        self.answers.append((call, outcome, task.node if task.rank == ANY else task.rank))
        if first:
            self._on_answers(self)

    def release(self, calls: Iterable[int]) -> list[Task]:
        """Stop expecting answers to these calls, and return the tasks that run or wait for them."""
        tasks = [task for call in calls if (task := self.tasks.pop(call, None)) is not None]
        for task in tasks:
            del self._calls[task.id]
            self._forget(task)
            task.sink = DISCARD
        return tasks

    # --- streams of its calls -----------------------------------------------------------------

    def call_of(self, task: Task) -> int:
        """Return the number of the call that the task answers."""
        return self._calls[task.id]

    def budget(self, task: Task, stream: int) -> Budget:
        """Return what may still come of a stream of a call: of what it yields, 0, or of an argument."""
        if stream > STREAMS:
            raise ProtocolError(f"a function with an argument number {stream}")
        if (task.id, stream) not in self._budgets:
            self._budgets[task.id, stream] = Budget() if stream else Budget(FIRST, SIZE)
        return self._budgets[task.id, stream]

    def _forget(self, task: Task) -> None:
        if self._budgets:
            for key in [key for key in self._budgets if key[0] == task.id]:
                del self._budgets[key]

    def flush(self, epoch: int) -> list[tuple[Answer, list[Buffer]]]:
        """Return the messages that answer what has ended since the last ones."""
        answers, self.answers = self.answers, []
        return [self._message(epoch, answers[start : start + BATCH]) for start in range(0, len(answers), BATCH)]

    def _message(self, epoch: int, answers: list[tuple[int, Outcome, int]]) -> tuple[Answer, list[Buffer]]:
        payloads: list[Payload] = []
        statuses: list[int] = []
        for _, outcome, _ in answers:
            status, payload = _payload_of(outcome)
            statuses.append(status)
            payloads.append(payload)
        sizes, buffers, frames = pack_body(payloads)
        calls = [call for call, _, _ in answers]
        ranks = [max(rank, 0) for _, _, rank in answers]
        return Answer(epoch, self.id, calls, statuses, sizes, buffers, ranks), frames


def _payload_of(outcome: Outcome) -> tuple[int, Payload]:
    if isinstance(outcome, tuple):
        try:
            # Another node's worker cannot hold a lease: it gets the bytes.
            return outcome[0], Payload(outcome[1], opened(outcome[2], lambda ref: ref.owner.open(ref)))
        except OSError as error:  # out of descriptors
            outcome = error
    assert isinstance(outcome, BaseException)
    failure = failures.of_client(outcome)
    return failure.status, Payload(failures.encode(failure), ())


class Nesting:
    """All parents of a pool."""

    def __init__(self, new_id: Callable[[], int]) -> None:
        self._new_id = new_id
        self.parents: dict[tuple[int, int], Parent] = {}  # tasks that have submitted calls
        self.answering: list[Parent] = []  # those with answers to `flush`, once per turn

    def _note_answers(self, parent: Parent) -> None:
        self.answering.append(parent)

    def submit(
        self, rank: int, message: Submit, body: Sequence[Buffer], functions: Sequence[FunctionBlob]
    ) -> list[Task]:
        """Return the tasks for nested calls of these functions that came from a node."""
        parent = self.parents.get((rank, message.parent))
        if parent is None:
            parent = Parent(rank, message.parent, self._note_answers)
            self.parents[rank, message.parent] = parent
        tasks: list[Task] = []
        count = len(message.calls)
        rows = split_body(message.sizes, message.buffers, body)
        limits = zip(message.retries or [0] * count, message.timeouts or [0.0] * count, strict=True)
        for call, fn, (data, buffers), wanted, (retries, timeout), name in zip(
            message.calls, message.fns, rows, message.ranks, limits, message.names, strict=True
        ):
            size = payload_size(data, buffers)
            about = (retries, timeout, wanted, name, size, wanted < 0)
            task = Task(self._new_id(), functions[fn], data, buffers, parent, 0, *about)
            parent.expect(call, task)
            tasks.append(task)
        return tasks

    def revoke(self, rank: int, parent_id: int, calls: Iterable[int]) -> list[Task]:
        """Return the tasks of calls that their parent no longer wants."""
        parent = self.parents.get((rank, parent_id))
        if parent is None:
            return []
        return parent.release(calls)

    def task_of(self, rank: int, parent_id: int, call: int) -> tuple[Parent, Task] | None:
        """Return a parent and the task of one of its calls; None when that has ended."""
        parent = self.parents.get((rank, parent_id))
        task = None if parent is None else parent.tasks.get(call)
        return None if parent is None or task is None else (parent, task)

    def parent_ended(self, rank: int, parent_id: int) -> list[Task]:
        """Forget a parent; return what is to be cancelled."""
        parent = self.parents.pop((rank, parent_id), None)
        return parent.release(list(parent.tasks)) if parent is not None else []

    def node_lost(self, rank: int) -> list[Task]:
        """Forget the parents on a node; return what is to be cancelled."""
        keys = [key for key in self.parents if key[0] == rank]
        return [task for key in keys for task in self.parent_ended(*key)]

    def flush(self, epoch_of: Callable[[int], int | None]) -> list[tuple[int, Any, list[Buffer]]]:
        """Return (rank, Answer, body) for what every parent that still lives is to be told."""
        answering, self.answering = self.answering, []
        out: list[tuple[int, Any, list[Buffer]]] = []
        for parent in answering:
            epoch = epoch_of(parent.rank)
            if (parent.rank, parent.id) in self.parents and epoch is not None:
                out += [(parent.rank, message, body) for message, body in parent.flush(epoch)]
            else:
                parent.answers.clear()
        return out
