"""Short forms of values."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skyward.work.abbreviation import WIDTH, abbreviate, abbreviate_arguments


class Rude:
    """Raises wherever one looks."""

    def __repr__(self) -> str:
        raise ValueError("no")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        ("abc", "'abc'"),
        ([1, 2, 3], "[1, 2, 3]"),
        (list(range(10**6)), "[0, 1, 2, 3, ...]"),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, "{'a': 1, 'b': 2, 'c': 3, ...}"),
        (deque([1]), "deque([1])"),
        (b"abc", "b'abc'"),
        (b"x" * 10**6, "<1000000 bytes>"),
        (bytearray(100), "<100 bytearray>"),
        (np.zeros((1000, 3)), "<ndarray (1000, 3) float64>"),
        (pd.DataFrame({"a": [1, 2]}), "<DataFrame (2, 1)>"),
        (np.ndarray, "<class 'numpy.ndarray'>"),
    ],
)
def test_value_is_shown_short(value: object, text: str) -> None:
    """Small values are shown whole, containers by their first items, arrays and bytes by their size."""
    assert abbreviate(value) == text


@pytest.mark.parametrize("value", ["a\nb" * 100, [["x" * 50] * 4] * 4, "x" * 10**7])
def test_value_is_never_long(value: object) -> None:
    """Whatever the value, one short line comes out."""
    text = abbreviate(value)
    assert len(text) <= WIDTH
    assert "\n" not in text


def test_value_never_raises() -> None:
    """A value whose repr and attributes raise is shown by its type."""
    for value in (Rude(), {"a": Rude()}):
        assert "Rude" in abbreviate(value)


def test_arguments_are_shown_as_written_in_a_call() -> None:
    """Positions come first, then keywords; six are shown."""
    assert abbreviate_arguments((), {}) == ""
    assert abbreviate_arguments((1, "a"), {"x": 2}) == "1, 'a', x=2"
    assert abbreviate_arguments(tuple(range(6)), {}) == "0, 1, 2, 3, 4, 5"
    assert abbreviate_arguments(tuple(range(5)), {"x": 5, "y": 6}) == "0, 1, 2, 3, 4, x=5, …"
