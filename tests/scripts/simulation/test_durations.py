"""How long simulated tasks take."""

from __future__ import annotations

import pytest

from skyward_scripts.simulation.durations import CUT, DISTRIBUTIONS, draw


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distribution_has_its_mean(name: str) -> None:
    """Twenty thousand samples come near to the mean; the tail of the Pareto distribution is cut."""
    times = draw(name, 20_000, 0.1)
    assert sum(times) / len(times) == pytest.approx(0.1, rel=0.15 if name == "pareto" else 0.05)
    assert min(times) >= 0
    assert max(times) <= (CUT if name == "pareto" else 20) * 0.1


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draw_is_repeatable(name: str) -> None:
    """The same seed gives the same times, another seed others."""
    assert draw(name, 50, 0.1, 3) == draw(name, 50, 0.1, 3)
    assert name == "constant" or draw(name, 50, 0.1, 3) != draw(name, 50, 0.1, 4)
