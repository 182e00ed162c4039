"""The table of moves."""

from __future__ import annotations

from skyward_node.core import tasks
from skyward_node.core.library import Code
from skyward_node.core.sessions import Session
from skyward_node.core.tasks import TABLE, Task


def make_task(state: int) -> Task:
    """Return a task in a state."""
    code = Code(b"k" * 16)
    code.name = "f"
    return Task(7, Session(b"s" * 16), code, (b"", ()), state=state)


def test_finished_task_makes_no_move() -> None:
    """An outcome is final (F67)."""
    assert all(tasks.DONE not in moves for moves in TABLE.values())


def test_every_state_can_be_left_and_reached() -> None:
    """No state is a trap, and none is there for nothing."""
    left = {state for moves in TABLE.values() for state in moves}
    reached = {state for moves in TABLE.values() for state in moves.values()}
    assert left == set(range(tasks.DONE))
    assert reached | {tasks.HELD} == set(range(len(tasks.STATES)))


def test_repr_tells_task_function_and_state() -> None:
    """The log line says which task of which function is where."""
    assert repr(make_task(tasks.RUNNING)) == "<Task 7 f running>"
