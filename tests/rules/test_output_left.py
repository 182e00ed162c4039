"""Output of tasks after one that has closed or replaced it (R28)."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def single() -> Iterator[sky.Compute]:
    """Return a pool of one node of one slot."""
    with sky.Compute(nodes=1) as pool:
        yield pool


@sky.function
def speak(word: str) -> int:
    """Print to both streams, as Python and as a child."""
    for stream, name in ((1, "stdout"), (2, "stderr")):
        print(word, file=getattr(sys, name))
        subprocess.run(["/bin/sh", "-c", f"echo child {word} >&{stream}"], check=True)
    return os.getpid()


def close(fd: int, path: str) -> int:
    """Close a descriptor."""
    os.close(fd)
    return os.getpid()


def lay_over(fd: int, path: str) -> int:
    """Have a descriptor lead to a file."""
    with open(path, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), fd)
    return os.getpid()


@pytest.mark.rule("R28")
@pytest.mark.parametrize("end", [close, lay_over])
@pytest.mark.parametrize("fd", [1, 2])
def test_next_task_prints_although_one_has_closed_its_output(
    single: sky.Compute, end: Callable[[int, str], int], fd: int, tmp_path: Path
) -> None:
    """It runs in another process; whatever else was given to the first one does, too."""
    first = sky.function(end)(fd, str(tmp_path / "file")) >> single
    lines: list[sky.OutputLine] = []
    with sky.redirect_output(lines.append):
        second = speak("one") >> single
        assert speak("two") >> single == second != first
    for stream in ("stdout", "stderr"):
        said = [str(line) for line in lines if line.stream == stream]
        assert said == ["one", "child one", "two", "child two"]
    if end is lay_over:
        assert (tmp_path / "file").read_text(encoding="utf-8") == ""


def _replace(how: str) -> Any:
    match how:
        case "text":
            return io.StringIO()
        case "wrapper":
            return io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
        case "detached":
            stream: Any = sys.stdout
            return io.TextIOWrapper(stream.detach(), encoding="utf-8")
        case _:
            return None


@sky.function
def replace(how: str) -> int:
    """Leave another ``sys.stdout`` behind, or none, and print to it."""
    sys.stdout = _replace(how)
    print("mine")
    if how == "deleted":
        del sys.stdout
    return os.getpid()


@pytest.mark.rule("R28")
@pytest.mark.parametrize("how", ["text", "wrapper", "detached", "none", "deleted"])
def test_next_task_prints_although_one_has_replaced_the_stream(single: sky.Compute, how: str) -> None:
    """In the same process; what was put around our stream is written out before the result."""
    lines: list[str] = []
    with sky.redirect_output(lines.append):
        first = replace(how) >> single
        assert lines == (["mine"] if how in ("wrapper", "detached") else [])
        assert replace(how) >> single == first
        del lines[:]
        assert speak("one") >> single == first
    assert sorted(lines) == ["child one", "child one", "one", "one"]


@pytest.mark.rule("R28")
def test_short_calls_that_travel_together_print_after_one_that_has_replaced_it(single: sky.Compute) -> None:
    """Bundles of the next group find the stream again."""
    calls = [replace("text") for _ in range(40)]
    for _ in range(2):
        sky.gather(*calls) >> single
    lines: list[str] = []
    with sky.redirect_output(lines.append):
        speak("one") >> single
    assert sorted(lines) == ["child one", "child one", "one", "one"]
