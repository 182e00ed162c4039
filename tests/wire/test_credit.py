"""How far a producer may be ahead of its consumer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.wire.credit import FIRST, MOST, QUICK, SIZE, SLOW, Allowance, Budget


@pytest.mark.rule("R25")
def test_budget_allows_as_many_as_were_granted() -> None:
    """Elements count, and so do bytes; one element may exceed what is left of these."""
    budget = Budget()
    allowed = [budget.allows]
    for grant, size in (((2, 100), 60), ((0, 0), 60), ((5, 10), 0), ((0, 11), 0)):
        budget.grant(*grant)
        if size:
            budget.spend(size)
        allowed.append(budget.allows)
    assert allowed == [False, True, False, False, True]


@pytest.mark.rule("R25")
def test_fast_stream_gets_a_larger_window() -> None:
    """Each time all of it was used and taken in quickly it doubles, up to a bound."""
    allowance, granted, now = Allowance(), FIRST, 0.0
    windows: list[int] = []
    for _ in range(16):
        assert allowance.receive(granted, granted, now)
        some, granted = granted, 0
        for _ in range(some):
            if (grant := allowance.take(1, now + QUICK / 2)) is not None:
                granted += grant[0]
        windows.append(allowance.window)
        now += 1
    assert windows[:3] == [2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert windows[-1] == MOST


@pytest.mark.rule("R25")
def test_slow_stream_keeps_a_small_window() -> None:
    """A consumer that comes back late does not want more; one that comes very late wants less."""
    allowance = Allowance()
    allowance.window = 8
    allowance.receive(2, 2, 0.0)
    allowance.take(1, 2 * QUICK)
    allowance.take(1, 2 * QUICK)
    assert allowance.window == 8
    late = Allowance()
    late.window = 8
    late.receive(2, 2, 0.0)
    late.take(1, 2 * SLOW)
    late.take(1, 2 * SLOW)
    assert late.window == 4


def test_more_than_was_granted_is_noticed() -> None:
    """By number of elements, and by bytes that begin after all were used."""
    assert not Allowance().receive(FIRST + 1, 1, 0.0)
    allowance = Allowance()
    assert allowance.receive(1, 2 * SIZE, 0.0)
    assert not allowance.receive(1, 1, 0.0)


@pytest.mark.rule("R21")
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3 * SIZE)), max_size=60))
def test_producer_and_consumer_never_stop(steps: list[tuple[int, int]]) -> None:
    """Whatever the sizes: once everything is taken, more may be sent, and bytes under way are bounded."""
    budget, allowance = Budget(FIRST, SIZE), Allowance()
    held: list[int] = []
    now = 0.0
    for count, size in steps:
        now += 0.001
        for _ in range(count):
            if budget.allows:
                budget.spend(size)
                held.append(size)
                assert allowance.receive(1, size, now)
        assert sum(held) < SIZE + max(held, default=0)
        assert len(held) <= MOST
        for _ in range(count):
            if held:
                grant = allowance.take(held.pop(0), now)
                if grant is not None:
                    assert min(grant) >= 0
                    budget.grant(*grant)
        if not held:
            assert budget.allows
