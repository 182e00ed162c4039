"""Since when each node has had nothing to do."""

from __future__ import annotations

import pytest

from skyward.dispatch.idleness import Idleness
from skyward.dispatch.load import Load

pytestmark = pytest.mark.rule("R33")


def look(idleness: Idleness, now: float, *busy: int, **served: int) -> None:
    """Look at three nodes; ``r1=4`` says that node 1 has served four calls."""
    counts = {rank: served.get(f"r{rank}", 0) for rank in range(3)}
    idleness.look(Load(served=counts, busy=busy), now)


def test_idle_nodes_are_named_from_the_highest_rank_down() -> None:
    """Those that were idle long enough, and no others."""
    idleness = Idleness()
    look(idleness, 0.0, 1)
    look(idleness, 5.0)
    assert idleness.ranks(0.0, 5.0) == [2, 1, 0]
    assert idleness.ranks(5.0, 5.0) == [2, 0]
    assert idleness.ranks(5.1, 5.0) == []
    assert idleness.ranks(5.0, 10.0) == [2, 1, 0]


def test_work_between_two_looks_counts() -> None:
    """A node that is idle whenever it is looked at, and has served a call meanwhile, was not idle."""
    idleness = Idleness()
    look(idleness, 0.0)
    look(idleness, 4.0, r1=1)
    look(idleness, 6.0, r1=1)
    assert idleness.ranks(5.0, 6.0) == [2, 0]
    assert idleness.ranks(2.0, 6.0) == [2, 1, 0]


def test_work_begins_anew() -> None:
    """What was idle before it worked does not count."""
    idleness = Idleness()
    look(idleness, 0.0)
    look(idleness, 4.0, 0)
    look(idleness, 6.0)
    assert idleness.ranks(4.0, 6.0) == [2, 1]


def test_node_that_takes_the_rank_of_another_begins_anew() -> None:
    """A rank says nothing about who has it."""
    idleness = Idleness()
    look(idleness, 0.0)
    idleness.forget(2)
    look(idleness, 5.0)
    assert idleness.ranks(5.0, 5.0) == [1, 0]


def test_node_that_is_gone_is_not_idle() -> None:
    """Only nodes that are ready can be let go."""
    idleness = Idleness()
    look(idleness, 0.0)
    idleness.look(Load(served={0: 0}), 9.0)
    assert idleness.ranks(1.0, 9.0) == [0]
