"""Parts of data, as mypy and pyright see them. Never run, only checked; see ``operators.py``."""

from collections.abc import Sequence
from typing import Any, assert_type

import numpy as np

import skyward as sky


def one(names: list[str], pair: tuple[int, ...], rows: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    assert_type(sky.shard(names), list[str])
    assert_type(sky.shard(pair, shuffle=True, seed=3), tuple[int, ...])
    assert_type(sky.shard((1, 2)), tuple[int, ...])
    assert_type(sky.shard(range(3), drop_last=True), Sequence[int])
    assert_type(sky.shard(b"abc", node=0, total_nodes=2), bytes)
    assert_type(sky.shard(rows), np.ndarray[Any, np.dtype[np.float64]])
    whole: str = sky.shard("abc")
    print(whole)


def several(names: list[str], numbers: list[int], rows: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    assert_type(sky.shard(names, numbers), tuple[list[str], list[int]])
    mine, ours, theirs = sky.shard(names, rows, numbers, shuffle=True)
    assert_type(mine, list[str])
    assert_type(ours, np.ndarray[Any, np.dtype[np.float64]])
    assert_type(theirs, list[int])


def wrong(names: list[str]) -> None:
    sky.shard()  # E: call-overload reportCallIssue
    sky.shard(iter(names))  # E: call-overload reportCallIssue
    sky.shard(names, seed="x")  # E: call-overload reportCallIssue
