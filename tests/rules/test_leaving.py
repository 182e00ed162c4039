"""Ways into a pool and out of it that are easily forgotten."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from tests.rules.processes import GONE, script
from tests.rules.work import add
from tests.rules.yielding import count

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.rule("R30")
def test_with_block_takes_a_pool_that_is_open() -> None:
    """It closes the pool at its end, as it does a file; a closed pool stays closed."""
    with sky.Compute(nodes=1).open() as pool:
        assert add(1, 2) >> pool == add(1, 2) >> sky == 3
    assert not pool.is_active
    with pytest.raises(sky.PoolClosedError, match="opened once"), pool:
        pass


@pytest.mark.rule("R30")
@pytest.mark.rule("F6")
def test_callback_that_blocks_does_not_hold_up_the_exit(tmp_path: Path) -> None:
    """Cancelled futures call back, and the interpreter does not wait until that is done."""
    source = """
import threading
import time
import skyward as sky

pool = sky.Compute(nodes=1).open()
future = sky.function(time.sleep)(100) > pool
future.add_done_callback(lambda _: (print("called back", flush=True), threading.Event().wait()))
print("end", flush=True)
"""
    with script(source, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "end\n"
        began = time.monotonic()
        assert process.wait(timeout=30) == 0
        assert time.monotonic() - began < GONE
        assert process.stdout.read() == "called back\n"


@pytest.mark.rule("R30")
def test_stream_is_read_after_its_pool_and_a_generator_is_not() -> None:
    """Its results have been waited for; values that a generator has not produced by then never will be."""
    with sky.Compute(nodes=1) as pool:
        results = sky.gather(*[add(i, i) for i in range(100)], stream=True) >> pool
        values = count(10_000) >> pool
        assert next(values) == 0
    assert list(results) == [2 * i for i in range(100)]
    with pytest.raises(sky.PoolClosedError):
        list(values)
