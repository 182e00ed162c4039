"""What has states changes them by its table alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.dispatch import tasks as sent
from skyward.moves import IllegalMove
from skyward_node.core import tasks as held
from skyward_node.core.library import Code
from skyward_node.core.sessions import Session

if TYPE_CHECKING:
    from collections.abc import Callable


def of_client(state: int) -> sent.Task:
    """Return a task as the client's scheduler has it."""
    return sent.Task(7, None, b"", (), None, 0, 0, state=state)


def of_node(state: int) -> held.Task:
    """Return a task as its node has it."""
    return held.Task(7, Session(b"s" * 16), Code(b"k" * 16), (b"", ()), state=state)


@pytest.mark.parametrize(
    ("module", "make", "event", "state"),
    [
        pytest.param(module, make, event, state, id=f"{make.__name__}, {event}, {module.STATES[state]}")
        for module, make in ((sent, of_client), (held, of_node))
        for event in module.TABLE
        for state in range(len(module.STATES))
    ],
)
def test_table_alone_decides_about_moves(module: Any, make: Callable[[int], Any], event: str, state: int) -> None:
    """What the table knows happens, and nothing else can: that names the task, its state and the event."""
    task = make(state)
    after = module.TABLE[event].get(state)
    if after is None:
        with pytest.raises(IllegalMove, match=rf"^<Task 7 .*{module.STATES[state]}\b.*> cannot '{event}'$"):
            module.move([task], event)
        assert task.state == state
    else:
        module.move([task], event)
        assert task.state == after
