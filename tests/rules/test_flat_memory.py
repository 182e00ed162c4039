"""Memory does not grow with what passes through a stream of values."""

from __future__ import annotations

import random
import time

import pytest

import skyward as sky
from tests.rules.processes import daemons
from tests.rules.yielding import arrays


@pytest.mark.rule("R21")
@pytest.mark.rule("R25")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("megabytes", [200, pytest.param(20_000, marks=pytest.mark.slow)])
def test_memory_is_flat(megabytes: int) -> None:
    """However much passes through a stream, client and node hold a few values of it."""
    with sky.Compute(nodes=1) as pool:
        processes = [*daemons(pool), *daemons(pool)[0].children(recursive=True)]
        seen, peak, pauses = 0, 0, random.Random(1)
        for array in arrays(megabytes, 2**20) >> pool:
            assert array[0] == seen % 251
            seen += 1
            if seen % 50 == 0:
                time.sleep(0.02 * pauses.random())
                peak = max(peak, *(process.memory_full_info().uss for process in processes))
        assert seen == megabytes
        assert peak < 150 * 2**20
