"""Numbers of NumPy, and of any library whose integers say so, are numbers wherever a number is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import skyward as sky
from skyward.config import Options, Worker
from skyward.model import Nodes
from skyward.providers.aws.settings import Settings
from tests.rules.work import add


class Three:
    """An integer, as Python asks for them."""

    def __index__(self) -> int:
        return 3


@pytest.mark.rule("R32")
@pytest.mark.parametrize(
    "three", [np.int64(3), np.uint8(3), np.array(3), Three()], ids=lambda value: type(value).__name__
)
def test_whatever_stands_for_an_integer_is_one(three: Any) -> None:
    """It is kept as Python's own, which alone can travel."""
    worker = Worker(concurrency=three)
    options = Options(worker=worker, retries=three, timeout=three, heartbeat=three, max_payload=three, window=three)
    kept: list[object] = [worker.concurrency, *(getattr(options, name) for name in ("retries", "timeout", "heartbeat"))]
    kept += [options.max_payload, options.window, add(1).with_retries(three).retries, add(1).on(three).rank]
    kept += [add(1).with_timeout(three).timeout, (add(1) & add(2)).with_timeout(three).timeout]
    kept += [sky.function(add, retries=three, timeout=three).retries, sky.function(add, timeout=three).timeout]
    kept += [Nodes.parse(three).desired, Nodes.parse((three, three)).least, Nodes(three, three, three).most]
    kept += [Nodes(three).desired, Settings(vcpus=three).vcpus]
    assert [(type(value), value) for value in kept] == [(int, 3)] * len(kept)


@pytest.mark.rule("R32")
@pytest.mark.parametrize(
    "half", [np.float64(0.5), np.float32(0.5), np.float16(0.5)], ids=lambda value: type(value).__name__
)
def test_times_may_be_floats_of_other_libraries(half: Any) -> None:
    """As with integers."""
    kept = [Options(timeout=half).timeout, Options(cancel_grace=half).cancel_grace, add(1).with_timeout(half).timeout]
    assert [(type(value), value) for value in kept] == [(float, 0.5)] * 3


@pytest.mark.rule("R32")
@pytest.mark.parametrize("wrong", [True, np.True_, np.float64(3), "3", None, np.array([3, 3])], ids=repr)
def test_what_is_no_integer_stays_refused(wrong: Any) -> None:
    """A bool is none, and neither is a float that happens to be whole."""
    for make in (
        lambda: Options(retries=wrong),
        lambda: Worker(concurrency=wrong),
        lambda: Nodes.parse(wrong),
        lambda: add(1).with_retries(wrong),
        lambda: add(1).on(wrong),
    ):
        with pytest.raises(TypeError, match="int"):
            make()


@pytest.mark.rule("R32")
def test_pool_of_such_numbers_works() -> None:
    """What daemons and workers are told is made of them."""
    one: Any = np.int64(1)
    minute: Any = np.float32(60)
    with sky.Compute(nodes=one, concurrency=one, retries=one, timeout=minute) as pool:
        call = add(1, 2).with_retries(np.int32(2)).with_timeout(np.float64(60)).on(np.int8(0))
        assert call >> pool == 3
        assert list(pool.map(add, [1, 2])) == [1, 2]
        pool.resize((one, one))
        assert (add(3) & add(4)).with_timeout(one * 60) >> pool == (3, 4)
