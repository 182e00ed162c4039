"""What is kept of a worker's stderr."""

from __future__ import annotations

import pytest

from skyward_node.executors.last_words import STDERR_LINES, last_lines

WORDS = [f"word {n}" for n in range(30)]
TOP = ["Fatal Python error: Aborted", "", "Stack (most recent call first):"]
TASK = ['  File "/home/me/job.py", line 5 in work', '  File "<string>", line 1 in <lambda>']
BELOW = [
    '  File "/lib/skyward_node/worker/slot.py", line 123 in _run',
    '  File "/lib/skyward_node/__main__.py", line 23 in main',
    '  File "<string>", line 10 in <module>',
]
MODULES = ["", "Extension modules: msgspec._core, zmq.backend.cython._zmq (total: 2)"]


def _kept(*lines: str) -> list[str]:
    return list(last_lines("\n".join(lines).encode()))


@pytest.mark.rule("R38")
def test_dump_leaves_room_for_the_words_of_the_user() -> None:
    """Of a crash's dump the frames of the task are kept, and before them what the user printed (R38)."""
    own = [*TOP, *TASK]
    assert _kept(*WORDS, *own, *BELOW, *MODULES) == [*WORDS, *own][-STDERR_LINES:]


def test_dump_of_a_crash_outside_a_task_keeps_its_frames() -> None:
    """A crash of the worker itself shows where it was."""
    assert _kept(*TOP, *BELOW, *MODULES) == [*TOP, *BELOW]


def test_words_without_a_crash_are_kept_as_they_are() -> None:
    """What only looks like a part of a dump is the user's own."""
    assert _kept(*WORDS[:5], *BELOW, *MODULES) == [*WORDS[:5], *BELOW, *MODULES]
