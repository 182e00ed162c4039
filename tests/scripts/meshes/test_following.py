"""What is new in a log, and how it reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward_scripts.meshes.following import GAP, fresh, readable


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ("", "abc", "abc"),
        ("abc", "abc", ""),
        ("abc", "abcd", "d"),
        ("abc", "bcde", "de"),
        ("aaa", "aaaa", "a"),
        ("abc", "", ""),
    ],
)
def test_lines_after_those_that_were_seen_are_new(before: str, now: str, new: str) -> None:
    """Whatever has moved out of the window meanwhile."""
    assert "".join(fresh(before, now)) == new


def test_lines_that_were_missed_are_said_to_be() -> None:
    """More has come than the window holds."""
    assert fresh(("a", "b"), ("x", "y")) == (GAP, "x", "y")


@given(st.lists(st.integers(), unique=True), st.data())
def test_window_that_moves_loses_nothing(lines: list[int], data: st.DataObject) -> None:
    """Looked at often enough, all lines are seen once, in order."""
    texts = [str(line) for line in lines]
    seen: list[str] = []
    window: list[str] = []
    end = 0
    while end < len(texts):
        end = min(len(texts), end + data.draw(st.integers(1, 3)))
        now = texts[max(0, end - 4) : end]
        seen += fresh(window, now)
        window = now
    assert seen == texts


def test_event_reads_as_a_line() -> None:
    """With its time, level, and fields; what is no event is shown as it is."""
    line = json.dumps(
        {
            "timestamp": "2026-01-02T03:04:05.6Z",
            "event": "serving",
            "level": "info",
            "node": "h:1",
            "task": None,
            "slots": 2,
        }
    )
    assert readable(line) == "2026-01-02 03:04:05 info serving slots=2"
    for other in ("Traceback (most recent call last):", "3", "{", '{"a": 1}', ""):
        assert readable(other) == other
