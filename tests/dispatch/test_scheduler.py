"""The life of tasks: every one is settled once, whatever happens to it or to its node."""

from __future__ import annotations

import pytest

from skyward.dispatch.scheduler import Scheduler
from skyward.dispatch.tasks import QUEUED, SENT, SETTLED, Absent, Cancelled, Lost, NoNodes, Send, Settle, Stop
from tests.dispatch.making import F, G, finish, learn, make, scheduler, sent, settled

BUSY = 10**6  # µs of a task that is too long to be sent ahead


# --- results --------------------------------------------------------------------------------------


@pytest.mark.rule("R37")
def test_result_counts_once() -> None:
    """A result that comes again, or from a node that does not hold the task, belongs to nobody."""
    made = scheduler(1, 1)
    (task,) = make(1)
    made.on_submit([task])
    assert made.on_results(1, [task.id], [5]) == [None]
    assert made.on_results(0, [task.id], [5]) == [task]
    assert made.on_results(0, [task.id], [5]) == [None]
    assert made.on_results(9, [task.id], [5]) == [None]
    assert (task.state, made.done) == (SETTLED, 1)


@pytest.mark.rule("R37")
def test_late_result_of_a_lost_node_is_dropped() -> None:
    """The task runs elsewhere; only that run counts."""
    made = scheduler(1, 1)
    (task,) = make(1)
    made.on_submit([task])
    assert made.on_node_lost(0, "gone") == [Send(1, [task])]
    assert made.on_results(0, [task.id], [5]) == [None]
    assert made.on_results(1, [task.id], [5]) == [task]


def test_results_of_one_batch_are_averaged_per_function() -> None:
    """A node's batch may mix functions."""
    made = scheduler(4)
    tasks = [*make(2, F), *make(2, G)]
    made.on_submit(tasks)
    made.on_results(0, [task.id for task in tasks], [100, 300, 5000, 7000])
    durations = made.assignment.durations
    assert (durations.cost(F.key), durations.cost(G.key)) == (200.0, 6000.0)


def test_cancelled_task_teaches_nothing_about_its_function() -> None:
    """A task that was stopped after a millisecond does not make its function a short one."""
    made = scheduler(1)
    (task,) = make(1)
    made.on_submit([task])
    made.on_cancel([task])
    made.on_results(0, [task.id], [1])
    assert made.assignment.durations.cost(F.key) is None


def test_load_of_an_idle_node_is_zero() -> None:
    """What was charged is taken off again, to the microsecond, also when costs have changed meanwhile."""
    made = scheduler(2)
    learn(made, 333)
    tasks = make(20)
    made.on_submit(tasks)
    for number, task in enumerate(tasks):
        finish(made, 0, [task], 100 * number + 1)
    assert made.nodes[0].load == 0
    assert made.is_idle()


# --- cancelling -----------------------------------------------------------------------------------


@pytest.mark.rule("R7")
def test_cancelled_queued_task_is_dropped() -> None:
    """It is settled at once, is never sent, and takes no memory."""
    made = scheduler(1)
    running, *queued = make(4)
    made.on_submit([running, *queued])
    assert made.on_cancel(queued) == [Settle(queued, Cancelled())]
    assert made.on_cancel(queued) == []
    assert made.queue.held == 0
    assert finish(made, 0, [running], BUSY) == []
    assert made.is_idle()


@pytest.mark.rule("R7")
def test_cancelled_sent_task_is_stopped_by_its_node() -> None:
    """The node is asked once, and its answer settles the task."""
    made = scheduler(1, 1)
    tasks = make(2)
    made.on_submit(tasks)
    assert made.on_cancel(tasks) == [Stop(0, tasks[:1], running=True), Stop(1, tasks[1:], running=True)]
    assert made.on_cancel(tasks) == []
    assert not made.is_idle()
    assert made.on_results(0, [tasks[0].id], [5]) == [tasks[0]]


def test_task_named_twice_is_cancelled_once() -> None:
    """A caller may name a task as often as it likes."""
    made = scheduler(1)
    running, queued = make(2)
    made.on_submit([running, queued])
    assert made.on_cancel([queued, queued, running, running]) == [
        Settle([queued], Cancelled()),
        Stop(0, [running], running=True),
    ]


def test_task_cancelled_before_it_came_is_settled_when_it_comes() -> None:
    """An interrupt may cancel what has not reached the scheduler; it has one outcome all the same."""
    made = scheduler(1)
    early, other = make(2)
    assert made.on_cancel([early]) == []
    assert made.is_idle()
    assert made.on_submit([early, other]) == [Settle([early], Cancelled()), Send(0, [other])]


def test_cancelled_bound_task_leaves_nothing_behind() -> None:
    """A task that waits for its node is dropped like any other."""
    made = scheduler(1)
    running, *bound = make(3, rank=0)
    made.on_submit([running, *bound])
    assert made.on_cancel(bound) == [Settle(bound, Cancelled())]
    assert made.nodes[0].pinned.held == 0
    assert finish(made, 0, [running], BUSY) == []


def test_cancelled_task_is_not_run_again() -> None:
    """A loss of its node, or its return, ends it as cancelled."""
    made = scheduler(1, 1)
    first, second = make(2)
    made.on_submit([first, second])
    made.on_cancel([first, second])
    assert made.on_node_lost(0, "gone") == [Settle([first], Cancelled())]
    assert made.on_returned(1, [second.id]) == [Settle([second], Cancelled())]
    assert made.is_idle()


def test_cancelling_all_ends_everything_at_once() -> None:
    """Queued, bound and sent tasks are settled without waiting, and nodes are told."""
    made = scheduler(1, 1)
    tasks, bound = make(3), make(1, rank=1)
    made.on_submit([*tasks, *bound])
    assert made.on_cancel_all() == [
        Stop(0, tasks[:1], running=True),
        Settle(tasks[:1], Cancelled()),
        Stop(1, tasks[1:2], running=True),
        Settle([tasks[1], *bound], Cancelled()),
        Settle(tasks[2:], Cancelled()),
    ]
    assert made.is_idle()
    assert made.on_results(0, [tasks[0].id], [5]) == [None]
    assert made.on_cancel_all() == []
    fresh = make(2)
    assert len(sent(made.on_submit(fresh))) == 2


def test_cancelling_a_long_queue_from_its_end_is_linear() -> None:
    """Each cancel costs the same, wherever its task stands: 20,000 one by one look at no more than 60,000."""
    made = scheduler(1)
    tasks = make(20_000)
    made.on_submit(tasks)
    looks = 0
    for task in reversed(tasks[1:]):
        before = made.queue.held
        made.on_cancel([task])
        looks += before if made.queue.held != before else 1
    assert looks < 60_000
    assert not made.queue


# --- losing nodes ---------------------------------------------------------------------------------


@pytest.mark.rule("R36")
def test_tasks_of_a_lost_node_run_again_elsewhere() -> None:
    """They go first, in the order in which they were submitted."""
    made = scheduler(2, 1)
    tasks = make(6)
    made.on_submit(tasks)
    held = list(made.nodes[0].in_flight.values())
    assert made.on_node_lost(0, "gone") == []
    assert [task.losses for task in held] == [1, 1]
    assert made.reruns == 2
    order: list[int] = []
    running = next(iter(made.nodes[1].in_flight.values()))
    while not made.is_idle():
        for batch in sent(finish(made, 1, [running], BUSY)).values():
            (running,) = batch
            order.append(running.id)
    assert order == [*sorted(task.id for task in held), *(task.id for task in tasks[3:])]


@pytest.mark.rule("R36")
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_task_runs_again_at_most_retries_times(retries: int) -> None:
    """After that its node's loss is its own."""
    made = scheduler(1)
    (task,) = make(1, retries=retries)
    made.on_submit([task])
    for _ in range(retries):
        assert made.on_node_lost(0, "gone") == []
        assert made.on_node_ready(0, 1) == [Send(0, [task])]
    assert made.on_node_lost(0, "its process died") == [Settle([task], Lost(0, "its process died"))]
    assert task.losses == retries + 1
    assert made.is_idle()


@pytest.mark.rule("R36")
def test_bound_tasks_are_never_moved() -> None:
    """A lost node takes with it what was bound to it, sent or not."""
    made = scheduler(1, 1)
    tasks = make(2, rank=0)
    made.on_submit(tasks)
    assert made.on_node_lost(0, "gone") == [Settle([tasks[1], tasks[0]], Lost(0, "gone"))]


@pytest.mark.rule("R36")
def test_tasks_that_were_handed_back_move_freely() -> None:
    """What had not started is charged to nobody, and keeps its place."""
    made = scheduler(1, 1)
    learn(made, 100)
    tasks = make(6, retries=1)
    batches = sent(made.on_submit(tasks))
    back = batches[0][1:]
    made.on_node_draining(0)
    assert sent(made.on_returned(0, [task.id for task in reversed(back)])) == {1: back}
    assert [task.losses for task in tasks] == [0] * 6
    assert made.reruns == 0


def test_draining_node_takes_nothing_new() -> None:
    """What it has it may finish; what is bound to it and was not sent cannot run."""
    made = scheduler(1, 1)
    running, stranded = make(2, rank=0)
    made.on_submit([running, stranded])
    assert made.on_node_draining(0) == [Settle([stranded], Lost(0, "the node is shutting down"))]
    assert made.on_node_draining(0) == []
    assert made.ready_ranks() == (1,)
    late = make(1, rank=0)
    assert made.on_submit(late) == [Settle(late, Absent(0, (1,)))]
    others = make(2)
    assert made.on_submit(others) == [Send(1, others[:1])]
    assert finish(made, 0, [running], BUSY) == []


def test_bound_task_that_a_draining_node_hands_back_fails() -> None:
    """It may run nowhere else."""
    made = scheduler(1, 1)
    tasks = make(1, rank=0)
    made.on_submit(tasks)
    made.on_node_draining(0)
    assert made.on_returned(0, [tasks[0].id, 10**9]) == [Settle(tasks, Lost(0, "the node is shutting down"))]


def test_loss_reported_twice_counts_once() -> None:
    """The second report of a death finds nothing to do (F67)."""
    made = scheduler(1)
    (task,) = make(1)
    made.on_submit([task])
    made.on_node_lost(0, "gone")
    assert made.on_node_lost(0, "gone again") == []
    assert task.losses == 1


def test_node_that_is_ready_twice_is_our_bug() -> None:
    """Two nodes never share a rank."""
    made = scheduler(1)
    with pytest.raises(RuntimeError, match="node 0 is ready twice"):
        made.on_node_ready(0, 1)


def test_words_from_unknown_nodes_change_nothing() -> None:
    """A node that is gone may still be heard."""
    made = scheduler(1)
    assert made.on_returned(5, [1]) == []
    assert made.on_node_slots(5, 3) == []
    assert made.on_node_draining(5) == []


@pytest.mark.rule("R3")
def test_absent_rank_fails_at_once() -> None:
    """A call that names a rank the pool does not have waits for nothing."""
    made = scheduler(1, 1)
    tasks = make(2, rank=7)
    assert made.on_submit(tasks) == [Settle(tasks, Absent(7, (0, 1)))]
    assert made.is_idle()


# --- nodes that come ------------------------------------------------------------------------------


def test_calls_wait_for_the_first_node() -> None:
    """A node that joins gets what waits."""
    made = Scheduler(60.0)
    tasks = make(3)
    assert made.on_submit(tasks) == []
    assert made.waiting() == 3
    assert made.on_node_ready(0, 2) == [Send(0, tasks[:2])]


@pytest.mark.rule("R22")
def test_lent_slot_takes_a_task() -> None:
    """A node whose task waits runs one more; when the slot is reclaimed it holds one more than it runs."""
    made = scheduler(1)
    parent, other, third = make(3)
    made.on_submit([parent, other, third])
    assert made.on_node_slots(0, 2) == [Send(0, [other])]
    assert made.on_node_slots(0, 1) == []
    assert finish(made, 0, [other], BUSY) == []
    assert finish(made, 0, [parent], BUSY) == [Send(0, [third])]


@pytest.mark.rule("R22")
def test_nested_calls_go_before_all_others() -> None:
    """Otherwise parents would pile up; the newest go first, each batch in its own order."""
    made = scheduler(1)
    running, *waiting = make(3)
    made.on_submit([running, *waiting])
    older, newer = make(1), make(2)
    made.on_submit(older, urgent=True)
    made.on_submit(newer, urgent=True)
    assert list(made.queue) == [*newer, *older, *waiting]


def test_bound_nested_call_goes_before_other_bound_ones() -> None:
    """A call of a task is urgent wherever it has to run."""
    made = scheduler(1)
    running, waiting = make(2, rank=0)
    made.on_submit([running, waiting])
    nested = make(1, rank=0)
    made.on_submit(nested, urgent=True)
    assert finish(made, 0, [running], BUSY) == [Send(0, nested)]


# --- no node --------------------------------------------------------------------------------------


@pytest.mark.rule("R51")
def test_calls_without_any_node_fail_after_node_wait() -> None:
    """They wait so long for a node, counted from when they began to wait, and then say why none came."""
    made = Scheduler(60.0)
    assert made.on_tick(0.0) == []
    tasks = make(2)
    made.on_submit(tasks)
    assert made.on_tick(1000.0) == []
    assert made.on_tick(1059.9) == []
    assert made.on_tick(1060.0, ["no", "nay"]) == [Settle(tasks, NoNodes(60.0, ("no", "nay")))]
    assert made.is_idle()


@pytest.mark.rule("R51")
def test_node_that_comes_ends_the_waiting() -> None:
    """The next time that there is no node counts anew."""
    made = Scheduler(60.0)
    tasks = make(1)
    made.on_submit(tasks)
    made.on_tick(0.0)
    made.on_node_ready(0, 1)
    made.on_node_lost(0, "gone")
    assert made.on_tick(100.0) == []
    assert made.on_tick(160.0) == [Settle(tasks, NoNodes(60.0, ()))]


def test_call_that_was_cancelled_waits_for_no_node() -> None:
    """With nothing that waits there is nothing to fail, and no time runs."""
    made = Scheduler(60.0)
    tasks = make(1)
    made.on_submit(tasks)
    made.on_tick(0.0)
    made.on_cancel(tasks)
    assert made.on_tick(100.0) == []
    made.on_submit(make(1))
    assert made.on_tick(101.0) == []


# --- books ----------------------------------------------------------------------------------------


def test_books_count_every_task_once() -> None:
    """What waits, what is out and what is done add up at every step."""
    made = scheduler(1)
    tasks = make(4)
    made.on_submit(tasks)
    assert (made.waiting(), made.in_flight(), made.done, made.is_idle()) == (3, 1, 0, False)
    made.on_cancel(tasks[3:])
    assert (made.waiting(), made.in_flight(), made.done) == (2, 1, 0)
    finish(made, 0, tasks[:1], BUSY)
    assert (made.waiting(), made.in_flight(), made.done) == (1, 1, 1)
    assert [task.state for task in tasks] == [SETTLED, SENT, QUEUED, SETTLED]
    assert settled(made.on_cancel_all()) == tasks[1:3]
    assert (made.waiting(), made.in_flight(), made.is_idle()) == (0, 0, True)
