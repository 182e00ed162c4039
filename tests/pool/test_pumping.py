"""What pumps say of elements that cannot be sent."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

import skyward as sky
from skyward.pool.pumping import Place, Pump, pack, take_inputs
from skyward.wire import failures

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT = 10.0  # seconds for what takes a moment
LIMIT = 1_000  # bytes of an element

POOL = cast("Place", SimpleNamespace(pack_element=lambda value: pack(value, LIMIT), push=lambda _: None))


@sky.function
def function(first: int, second: Iterator[Any], *more: Iterator[Any], last: Any = None) -> None:
    """Take nothing."""


def error_of(pump: Pump) -> str:
    """Return what the task would be told."""
    pump.grant(10, 10 * LIMIT, 0)
    assert pump.thread is not None
    pump.thread.join(WAIT)
    batch = pump.take()
    assert batch is not None
    assert batch.failed
    return str(failures.to_cause(batch.payloads[-1].data))


@pytest.mark.rule("R5")
@pytest.mark.rule("R24")
def test_element_that_cannot_be_sent_is_named_with_its_argument() -> None:
    """By position, by keyword, and in ``*args``; what is too large, too."""
    bad = [1, 2, [threading.Lock()]]
    place = r"cannot serialize the arguments of function: argument {} → element 2 → [0] → _thread.lock"
    args, kwargs, pumps = take_inputs(POOL, function, (1, bad, bad), {})
    assert (len(args), kwargs) == (3, {})
    assert [error_of(pump).partition(" (")[0] for pump in pumps] == [
        place.format("'second'"), place.format(3),
    ]  # fmt: skip
    _, _, pumps = take_inputs(POOL, function, (1,), {"second": bad})
    assert place.format("'second'") in error_of(pumps[0])
    _, _, pumps = take_inputs(POOL, function, (1, [bytes(10 * LIMIT)]), {})
    assert "argument 'second' → element 0 (" in (told := error_of(pumps[0].again()))
    assert "max_payload" in told


def test_pump_of_no_argument_names_an_element() -> None:
    """As one that a test makes by hand."""
    told = error_of(Pump(POOL, [threading.Lock()], 1))
    assert told.startswith("cannot serialize an element of an iterable: _thread.lock")
