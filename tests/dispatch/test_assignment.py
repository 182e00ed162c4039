"""Which waiting task goes to which node."""

from __future__ import annotations

import pytest

from skyward.dispatch.assignment import BATCH, BATCH_BYTES, BUFFER, Node, split
from skyward.dispatch.policy import AHEAD, MOST, RECALL, RUN
from skyward.dispatch.tasks import SENT, Send, Stop
from skyward.wire.messages import MAX_BUFFERS
from tests.dispatch.making import F, G, finish, learn, make, scheduler, sent, stops


@pytest.mark.rule("R17")
def test_calls_go_round_robin() -> None:
    """Lone calls visit all nodes in turn, and begin again after the last."""
    made = scheduler(1, 1, 1)
    visited: list[int] = []
    for _ in range(7):
        ((rank, tasks),) = sent(made.on_submit(make(1))).items()
        visited.append(rank)
        finish(made, rank, tasks)
    assert visited == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.rule("R17")
def test_round_robin_survives_gaps_in_the_ranks() -> None:
    """The turn goes on at the next rank that there is."""
    made = scheduler(1, 1, 1, 1)
    first = make(4)
    made.on_submit(first)
    for rank, task in enumerate(first):
        finish(made, rank, [task])
    made.on_node_lost(0, "")
    made.on_node_lost(2, "")
    a, b, c = make(3)
    assert made.on_submit([a]) == [Send(1, [a])]
    finish(made, 1, [a])
    assert made.on_submit([b]) == [Send(3, [b])]
    finish(made, 3, [b])
    assert made.on_submit([c]) == [Send(1, [c])]


@pytest.mark.rule("R17")
def test_calls_go_out_in_submission_order() -> None:
    """Whoever has room next gets the oldest call."""
    made = scheduler(1, 1)
    tasks = make(5)
    assert made.on_submit(tasks) == [Send(0, tasks[:1]), Send(1, tasks[1:2])]
    assert finish(made, 1, [tasks[1]], 10**6) == [Send(1, [tasks[2]])]
    assert finish(made, 0, [tasks[0]], 10**6) == [Send(0, [tasks[3]])]
    assert finish(made, 0, [tasks[3]], 10**6) == [Send(0, [tasks[4]])]


@pytest.mark.rule("R17")
def test_no_node_gets_a_second_task_while_another_has_a_free_slot() -> None:
    """Also if all tasks are known to be short, every slot gets one before any node gets more."""
    made = scheduler(1, 2, 1)
    learn(made, 10)
    tasks = make(4)
    assert {rank: len(batch) for rank, batch in sent(made.on_submit(tasks)).items()} == {0: 1, 1: 2, 2: 1}


@pytest.mark.rule("R17")
def test_least_busy_node_comes_first() -> None:
    """A node that is idle gets a task before one that has a free slot beside a busy one."""
    made = scheduler(2, 2)
    first, second, third = make(3)
    made.on_submit([first])
    made.on_submit([second])
    finish(made, 1, [second])
    assert made.on_submit([third]) == [Send(1, [third])]


@pytest.mark.rule("R17")
def test_parallelism_is_nodes_times_slots() -> None:
    """Of long tasks, as many are out as there are slots."""
    made = scheduler(2, 3)
    assert {rank: len(tasks) for rank, tasks in sent(made.on_submit(make(100))).items()} == {0: 2, 1: 3}
    assert (made.in_flight(), made.waiting()) == (5, 95)


@pytest.mark.rule("R18")
def test_unknown_function_goes_to_free_slots_only() -> None:
    """The first tasks of a function may be long."""
    made = scheduler(1)
    learn(made, 10, G)
    tasks = make(3)
    assert made.on_submit(tasks) == [Send(0, tasks[:1])]


@pytest.mark.rule("R18")
def test_long_tasks_are_held_back() -> None:
    """No node queues a long task, not even behind short ones."""
    made = scheduler(8)
    learn(made, 10, F)
    learn(made, 50_000, G)
    short, long = make(8, F), make(1, G)
    assert made.on_submit([*short, *long]) == [Send(0, short)]
    assert finish(made, 0, short[:1]) == [Send(0, long)]


@pytest.mark.rule("R18")
def test_short_tasks_are_sent_ahead() -> None:
    """A node gets ten milliseconds of short work, in one message."""
    made = scheduler(1)
    learn(made, 100)
    tasks = make(1000)
    assert made.on_submit(tasks) == [Send(0, tasks[: AHEAD // 100])]
    assert made.nodes[0].load == AHEAD


@pytest.mark.rule("R18")
def test_node_is_refilled_in_batches() -> None:
    """It gets nothing while half of its budget is left, and then the other half in one message."""
    made = scheduler(1)
    learn(made, 1000)
    tasks = make(100)
    made.on_submit(tasks)
    half = AHEAD // 1000 // 2
    assert [finish(made, 0, [task], 1000) for task in tasks[: half - 1]] == [[]] * (half - 1)
    assert finish(made, 0, [tasks[half - 1]], 1000) == [Send(0, tasks[2 * half : 3 * half])]


@pytest.mark.rule("R18")
def test_one_task_waits_behind_each_that_takes_half_of_the_budget() -> None:
    """Tasks of 5 to 20 milliseconds do not pay for a round trip each; longer ones never wait on a node."""
    made = scheduler(1)
    learn(made, AHEAD + 1)
    first, second, third, fourth = tasks = make(4)
    assert made.on_submit(tasks) == [Send(0, [first, second])]
    assert finish(made, 0, [first], 10 * AHEAD) == [Send(0, [third])]  # a straggler
    assert finish(made, 0, [second], 10 * AHEAD) == []
    assert finish(made, 0, [third], 10 * AHEAD) == [Send(0, [fourth])]


@pytest.mark.rule("R18")
def test_empty_tasks_ahead_are_bounded_in_number() -> None:
    """A node holds no more than some thousand tasks, however short, in messages of some hundred."""
    made = scheduler(2)
    learn(made, 1)
    actions = made.on_submit(make(10_000))
    assert [len(tasks) for tasks in sent(actions).values()] == [2 * MOST]
    assert [len(action.tasks) for action in actions if isinstance(action, Send)] == [BATCH] * (2 * MOST // BATCH)


@pytest.mark.rule("R18")
@pytest.mark.parametrize(("microseconds", "count", "most"), [(1000, 10, 5), (10, 100, 50), (10, 1000, 500 + RUN)])
def test_short_tasks_are_spread_evenly(microseconds: int, count: int, most: int) -> None:
    """What is sent ahead goes to all nodes alike, so that none is done long before the others."""
    made = scheduler(1, 1)
    learn(made, microseconds)
    batches = sent(made.on_submit(make(count)))
    assert sum(len(batch) for batch in batches.values()) == count
    assert max(len(batch) for batch in batches.values()) <= most


def test_node_with_a_long_task_gets_little_ahead() -> None:
    """A task of unknown length counts as a slot's whole budget: nothing short queues behind it alone."""
    made = scheduler(1)
    learn(made, 100)
    made.on_submit(make(1, G))
    assert made.on_submit(make(1)) == []
    made.on_node_slots(0, 2)
    assert made.nodes[0].load == AHEAD + 100


@pytest.mark.rule("R36")
def test_task_without_retries_goes_to_free_slots_only() -> None:
    """What may not run twice is never queued on a node; what is behind it waits, in order."""
    made = scheduler(1)
    learn(made, 100)
    once, *others = [*make(1, retries=0), *make(2)]
    running = make(1)
    made.on_submit(running)
    assert made.on_submit([once, *others]) == []
    assert finish(made, 0, running, 100) == [Send(0, [once, *others])]
    assert made.on_submit(make(1, retries=0, rank=0)) == []


def test_task_that_has_used_up_its_retries_goes_to_free_slots_only() -> None:
    """On its last run a task is as precious as one without retries."""
    made = scheduler(1, 1)
    learn(made, 100)
    (task,) = make(1, retries=1)
    other = make(1)
    assert made.on_submit([task]) == [Send(0, [task])]
    assert made.on_submit(other) == [Send(1, other)]
    assert made.on_node_lost(0, "gone") == []
    assert finish(made, 1, other, 100) == [Send(1, [task])]


def test_task_that_cannot_go_ahead_starves_nobody() -> None:
    """As soon as any slot is free the task at the head goes, and all behind it."""
    made = scheduler(1, 1)
    learn(made, 100)
    busy = make(2)
    made.on_submit(busy)
    tasks = [*make(1, retries=0), *make(1, G), *make(10)]
    assert made.on_submit(tasks) == []
    assert sent(finish(made, 0, busy[:1], 100)) == {0: tasks[:1]}
    assert sent(finish(made, 1, busy[1:], 100)) == {1: tasks[1:2], 0: tasks[2:]}


# --- tasks bound to a node ---------------------------------------------------------------------


@pytest.mark.rule("R3")
def test_bound_task_goes_to_its_node() -> None:
    """A call with a rank runs there, though another node is free."""
    made = scheduler(1, 1)
    first, second = make(2, rank=1)
    assert made.on_submit([first]) == [Send(1, [first])]
    assert made.on_submit([second]) == []
    assert finish(made, 1, [first], 10**6) == [Send(1, [second])]


@pytest.mark.rule("R17")
def test_bound_task_leaves_its_slot_to_earlier_ones() -> None:
    """Calls that were submitted before one with a rank go before it, on its node too."""
    made = scheduler(1)
    running, *earlier = make(3)
    bound = make(1, rank=0)
    made.on_submit([running, *earlier])
    made.on_submit(bound)
    assert finish(made, 0, [running], 10**6) == [Send(0, earlier[:1])]
    assert finish(made, 0, earlier[:1], 10**6) == [Send(0, earlier[1:])]
    assert finish(made, 0, earlier[1:], 10**6) == [Send(0, bound)]


def test_bound_task_takes_the_slot_that_earlier_ones_do_not_need() -> None:
    """No slot stays free for an order that asks for nothing."""
    made = scheduler(0, 0, 0)
    free, bound = make(1), make(1, rank=0)
    assert made.on_submit([*free, *bound]) == []
    for node in made.nodes.values():
        node.slots = 1
        made.assignment.note(node)
    assert sent(made.dispatch()) == {0: bound, 1: free}


def test_later_tasks_do_not_take_the_room_of_a_bound_one() -> None:
    """Where a bound task waits for room, nothing that came after it is sent ahead."""
    made = scheduler(1)
    learn(made, 100)
    running, bound, later = make(1), make(1, rank=0, retries=0), make(5)
    made.on_submit(running)
    assert made.on_submit(bound) == []
    assert made.on_submit(later) == []
    assert finish(made, 0, running, 100) == [Send(0, [*bound, *later])]


def test_short_bound_tasks_are_sent_ahead() -> None:
    """Broadcasts of short calls do not wait for one another."""
    made = scheduler(1, 1)
    learn(made, 100)
    tasks = make(200, rank=1)
    assert made.on_submit(tasks) == [Send(1, tasks[: AHEAD // 100])]


# --- what waits in the wrong place ----------------------------------------------------------------


@pytest.mark.rule("R18")
def test_work_behind_a_running_task_is_taken_back_for_an_idle_node() -> None:
    """A node that has nothing to do gets what waits on another."""
    made = scheduler(1, 1)
    learn(made, 1000)
    tasks = make(10)
    batches = sent(made.on_submit(tasks))
    stuck, idle = batches[0], batches[1]
    assert finish(made, 1, idle, 1000) == [Stop(0, stuck[1:], running=False)]
    assert made.dispatch() == []  # asked once
    back = made.on_returned(0, [task.id for task in stuck[1:]])
    assert sent(back) == {1: stuck[1:]}
    assert all(task.losses == 0 for task in stuck)


@pytest.mark.rule("R18")
def test_little_work_is_taken_back_at_the_next_beat() -> None:
    """A task that was expected to be short and is not gives up what waits behind it, however little that is."""
    made = scheduler(1, 1)
    learn(made, 10)
    tasks = make(4)
    batches = sent(made.on_submit(tasks))
    assert finish(made, 1, batches[1]) == []
    (waiting,) = batches[0][1:]
    assert waiting.cost < RECALL
    assert made.on_tick(1.0) == [Stop(0, [waiting], running=False)]
    assert made.on_tick(2.0) == [Stop(0, [waiting], running=False)]  # the question may have been lost


def test_node_that_was_asked_gets_nothing_ahead_before_it_has_finished_something() -> None:
    """What has come back does not return to where it was stuck."""
    made = scheduler(1, 1)
    learn(made, 1000)
    batches = sent(made.on_submit(make(10)))
    assert stops(finish(made, 1, batches[1], 1000))
    made.on_returned(0, [task.id for task in batches[0][1:]])
    new = make(20)
    assert 0 not in sent(made.on_submit(new))
    assert 0 in sent(finish(made, 0, batches[0][:1], 1000))


def test_nothing_is_taken_back_while_all_are_busy() -> None:
    """Without an idle node work may wait where it is."""
    made = scheduler(1, 1)
    learn(made, 1000)
    batches = sent(made.on_submit(make(10)))
    assert finish(made, 1, batches[1][:-1], 1000) == []
    assert made.on_tick(1.0) == []


def test_bound_and_cancelled_tasks_are_not_taken_back() -> None:
    """What cannot run elsewhere, or shall not run at all, stays."""
    made = scheduler(1, 1)
    learn(made, 100)
    bound = make(3, rank=0)
    made.on_submit(bound)
    assert made.on_tick(1.0) == []
    finish(made, 0, bound, 100)
    batches = sent(made.on_submit(make(4)))
    made.on_cancel(batches[0][1:])
    finish(made, 1, batches[1], 100)
    assert made.on_tick(2.0) == []


# --- pools that shrink -------------------------------------------------------------------------


@pytest.mark.rule("R33")
def test_lone_calls_leave_the_upper_nodes_idle() -> None:
    """Nodes below the least number take turns, those above come in order where these are busy."""
    made = scheduler(1, 1, 1, 1)
    made.assignment.core = 2
    ranks: list[int] = []
    for _ in range(4):
        (task,) = make(1)
        ranks += sent(made.on_submit([task]))
        finish(made, ranks[-1], [task])
    assert ranks == [0, 1, 0, 1]
    pairs: list[int] = []
    for _ in range(3):
        tasks = make(3)
        batches = sent(made.on_submit(tasks))
        pairs += batches
        for rank, some in batches.items():
            finish(made, rank, some)
    assert sorted(set(pairs)) == [0, 1, 2]


@pytest.mark.rule("R17")
def test_no_second_call_while_an_upper_node_is_free() -> None:
    """Wide nodes are filled side by side, whatever their rank."""
    made = scheduler(2, 2, 2)
    made.assignment.core = 0
    tasks = make(5)
    batches = sent(made.on_submit(tasks))
    assert {rank: len(some) for rank, some in batches.items()} == {0: 2, 1: 2, 2: 1}
    assert [task.node for task in tasks] == [0, 1, 2, 0, 1]


# --- messages ----------------------------------------------------------------------------------


def test_large_tasks_travel_alone() -> None:
    """A message holds about a megabyte, or one task."""
    small, large = make(4, data=bytes(BATCH_BYTES // 4)), make(2, data=bytes(2 * BATCH_BYTES))
    tasks = [*small, *large, *small]
    assert [len(batch) for batch in split(tasks)] == [4, 1, 1, 4]
    assert [task for batch in split(tasks) for task in batch] == tasks


def test_many_buffers_fit_the_protocol() -> None:
    """However many arrays tasks have, a message has no more frames than a node accepts."""
    tasks = make(BATCH, buffers=(b"",) * 1000)
    batches = list(split(tasks))
    assert sum(map(len, batches)) == BATCH
    assert all(sum(len(task.buffers) for task in batch) <= BATCH_BYTES // BUFFER < MAX_BUFFERS for batch in batches)


def test_repr_of_a_node_says_how_busy_it_is() -> None:
    """The log line someone reads at night."""
    assert repr(Node(3, 2)) == "<Node 3: 0 in flight on 2 slots>"


def test_sent_tasks_know_where_they_are() -> None:
    """A task that was sent carries its node and what it was charged."""
    made = scheduler(1)
    learn(made, 100, F)
    (task,) = make(1)
    made.on_submit([task])
    assert (task.state, task.node, task.cost) == (SENT, 0, 100)
