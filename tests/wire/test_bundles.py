"""What bundles and their outcomes look like."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.errors import ProtocolError
from skyward.wire import bundles, payload
from skyward.wire.bundles import Mixed

if TYPE_CHECKING:
    from collections.abc import Callable

PLACES = st.lists(st.sampled_from(["value", "failure", "left", "nowhere"]), max_size=8)


@given(st.lists(st.tuples(st.integers(), st.text(max_size=5)), min_size=1, max_size=6))
def test_call_of_a_bundle_is_that_of_a_task_of_its_own(calls: list[tuple[Any, ...]]) -> None:
    """Arguments are the same, however they travel."""
    for arguments, args in zip(bundles.unpack(bundles.pack(calls)), calls, strict=True):
        assert payload.loads_call(bundles.pack_alone(arguments)) == (args, {})


@given(st.lists(st.one_of(st.integers(), st.floats(allow_nan=False), st.none()), max_size=6))
def test_values_survive_the_way(values: list[Any]) -> None:
    """Also as an outcome of which calls are told apart."""
    data = bundles.pack_values(values)
    assert bundles.unpack_values(data, len(values)) == values
    assert bundles.as_mixed(data, len(values)) == Mixed(dict(enumerate(values)), {}, [])


@given(PLACES)
def test_mixed_outcome_survives_the_way(ends: list[str]) -> None:
    """Whatever became of each call."""
    mixed = Mixed(
        {place: place for place, end in enumerate(ends) if end == "value"},
        {place: (1, b"failure") for place, end in enumerate(ends) if end == "failure"},
        [place for place, end in enumerate(ends) if end == "left"],
    )
    assert bundles.unpack_mixed(bundles.pack_mixed(mixed), len(ends)) == mixed


def test_value_that_is_not_plain_is_no_plain_one() -> None:
    """A tuple stands for a pickle and its buffers, so no tuple stands there as it is."""
    value = bundles.as_value(payload.dumps_value((1, 2)))
    assert payload.loads_value(*value) == (1, 2)
    assert tuple not in bundles.PLAIN


def evil() -> bytes:
    """Return a pickle that would call something."""
    return pickle.dumps((print, {}, []))


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"rubbish",
        lambda: pickle.dumps(({}, {})),
        lambda: pickle.dumps(({0: 1}, {}, [0])),
        lambda: pickle.dumps(({3: 1}, {}, [])),
        lambda: pickle.dumps(({-1: 1}, {}, [])),
        lambda: pickle.dumps(({}, {0: 1}, [])),
        lambda: pickle.dumps(({}, {0: (1, "text")}, [])),
        lambda: pickle.dumps(7),
        lambda: pickle.dumps(([], {}, [])),
        lambda: pickle.dumps(({}, [], [])),
        lambda: pickle.dumps(({}, {}, {})),
        lambda: pickle.dumps(({1.0: 1}, {}, [])),
        lambda: pickle.dumps(({True: 1}, {}, [])),
        lambda: pickle.dumps(({0: "text"}, {}, [])),
        lambda: pickle.dumps(({0: (b"pickle", b"buffer")}, {}, [])),
        lambda: pickle.dumps(({}, {0: (0, b"failure")}, [])),
        evil,
    ],
)
def test_nonsense_for_an_outcome_is_an_error(make: Callable[[], bytes]) -> None:
    """A node that says it makes no sense; nothing of it is run."""
    with pytest.raises(ProtocolError, match="outcome"):
        bundles.unpack_mixed(make(), 3)


@pytest.mark.parametrize(
    "data",
    [b"rubbish", pickle.dumps([1, 2]), pickle.dumps([1, 2, "text"]), pickle.dumps((1, 2, 3)), pickle.dumps(None)],
)
def test_nonsense_for_values_is_an_error(data: bytes) -> None:
    """Likewise, as is a list of another length."""
    with pytest.raises(ProtocolError, match="bundle"):
        bundles.unpack_values(data, 3)
