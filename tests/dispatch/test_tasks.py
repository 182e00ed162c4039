"""Tasks, and what the scheduler asks to be done with them."""

from __future__ import annotations

import pytest

from skyward.dispatch.tasks import ANY, NOWHERE, QUEUED, SENT, SETTLED, Absent, Cancelled, Lost, Send, Task
from tests.dispatch.making import F, make


def test_new_task_waits_and_is_nowhere() -> None:
    """A task that has just been made is with the client, unseen by the scheduler."""
    (task,) = make(1)
    assert (task.state, task.place, task.node, task.rank) == (QUEUED, NOWHERE, -1, ANY)
    assert (task.losses, task.cost, task.cancelled) == (0, 0, False)


@pytest.mark.parametrize(
    ("state", "text"),
    [(QUEUED, "<Task 7 queued>"), (SENT, "<Task 7 sent on node 2>"), (SETTLED, "<Task 7 settled>")],
)
def test_repr_of_a_task_says_where_it_is(state: int, text: str) -> None:
    """The log line someone reads at night."""
    task = Task(7, F, b"", (), None, 0, 0)
    task.state, task.node = state, 2
    assert repr(task) == text


def test_actions_are_values() -> None:
    """Actions and verdicts are equal by what they say, and frozen."""
    (task,) = make(1)
    assert Send(1, [task]) == Send(1, [task]) != Send(2, [task])
    assert Lost(1, "gone") == Lost(1, "gone") != Lost(1, "silent")
    assert Cancelled() == Cancelled()
    with pytest.raises(AttributeError):
        Absent(1, ()).rank = 2  # type: ignore[misc]  # that it is refused is the point
