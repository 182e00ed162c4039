"""Tasks that wait, in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.dispatch.queues import Queue
from skyward.dispatch.tasks import SETTLED, Task
from tests.dispatch.making import make


def placed(*places: int) -> list[Task]:
    """Return tasks with these places."""
    tasks = make(len(places))
    for task, place in zip(tasks, places, strict=True):
        task.place = place
    return tasks


def places(queue: Queue) -> list[int]:
    """Return the places of what waits."""
    return [task.place for task in queue]


def filled(*tasks: Task) -> Queue:
    """Return a queue of the tasks."""
    queue = Queue()
    queue.add(tasks)
    return queue


def settle(queue: Queue, *tasks: Task) -> None:
    """Settle tasks while they wait."""
    for task in tasks:
        task.state = SETTLED
    queue.forget(len(tasks))


def test_queue_gives_tasks_in_order() -> None:
    """First come, first served."""
    tasks = placed(1, 2, 3)
    queue = filled(*tasks)
    assert queue.head() is tasks[0]
    assert [queue.pop() for _ in range(3)] == tasks
    assert queue.head() is None
    with pytest.raises(IndexError):
        queue.pop()


def test_queue_inserts_by_place() -> None:
    """What comes back stands where it stood."""
    queue = filled(*placed(3, 6, 8))
    queue.insert(placed(7, 1, 4))
    assert places(queue) == [1, 3, 4, 6, 7, 8]
    queue.insert([])
    queue.insert(placed(9))
    assert places(queue) == [1, 3, 4, 6, 7, 8, 9]


def test_queue_skips_what_was_settled() -> None:
    """A task that was settled while it waited is not handed out, nor counted."""
    tasks = placed(1, 2, 3, 4, 5)
    queue = filled(*tasks)
    settle(queue, tasks[0], tasks[2])
    assert (len(queue), places(queue)) == (3, [2, 4, 5])
    assert queue.head() is tasks[1]
    assert [queue.pop(), queue.pop(), queue.pop()] == [tasks[1], tasks[3], tasks[4]]
    assert len(queue) == 0
    assert not queue


def test_queue_holds_nothing_that_was_settled_for_long() -> None:
    """Settled tasks are at most half of what is held, however far back they stand."""
    tasks = placed(*range(1, 1001))
    queue = filled(*tasks)
    for task in reversed(tasks[1:]):
        settle(queue, task)
        assert queue.held <= 2 * len(queue)
    assert places(queue) == [1]
    settle(queue, tasks[0])
    assert queue.held == 0


def test_queue_drains_what_waits() -> None:
    """Draining gives all that waits and leaves nothing."""
    tasks = placed(1, 2, 3)
    queue = filled(*tasks)
    settle(queue, tasks[1])
    assert queue.drain() == [tasks[0], tasks[2]]
    assert not queue
    assert repr(queue) == "<Queue of 0>"


@given(st.data())
def test_queue_agrees_with_a_sorted_list(data: st.DataObject) -> None:
    """Whatever is added, put back, settled and taken, in whatever order: a sorted list would do the same."""
    queue, last = Queue(), 0
    model: list[Task] = []
    out: list[Task] = []
    for _ in range(data.draw(st.integers(1, 30))):
        match data.draw(st.sampled_from(["add", "insert", "settle", "pop"])):
            case "add":
                new = placed(*range(last + 1, last + 1 + data.draw(st.integers(0, 5))))
                last += len(new)
                queue.add(new)
                model += new
            case "insert" if out:
                back = data.draw(st.lists(st.sampled_from(out), unique_by=id))
                out = [task for task in out if task not in back]
                queue.insert(back)
                model += back
            case "settle" if model:
                gone = data.draw(st.lists(st.sampled_from(model), unique_by=id))
                settle(queue, *gone)
                model = [task for task in model if task not in gone]
            case "pop" if model:
                out.append(queue.pop())
                assert out[-1] is model.pop(0)
            case _:
                pass
        model.sort(key=lambda task: task.place)
        assert list(queue) == model
        assert len(queue) == len(model)
        assert bool(queue) == bool(model)
    assert queue.head() is (model[0] if model else None)
