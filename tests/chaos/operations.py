"""The log of what was done: each process appends to files of its own, a line at a time.

A line has the time, what was done, the number of the task, where, and a detail; the clock is the one that all
processes of this machine share. A process may be killed after any line, and in the middle of one: each begins anew,
and has an end by which it is known to be whole. What was not noted in full was not done: notes come first.

- ``submitted``: by the client; the detail is the token that the task returns, and how often it may run.
- ``started`` and ``finished``: by the task, on its node; the detail is the token that it was given.
- ``delivered``: by the client, once the result is there; the detail is the token that came back.
- ``failed``: by the client, once an error is there; the detail is its class.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, get_args

END: Final = " ."  # of a whole line
What = Literal["submitted", "started", "finished", "delivered", "failed"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One line."""

    at: float
    what: What
    task: int
    where: str
    detail: str


class Log:
    """A file that lines are appended to, each in one write: several processes may."""

    def __init__(self, directory: str, where: str) -> None:
        self._where = where
        self._fd = os.open(f"{directory}/{where}", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, what: What, task: int, detail: str = "") -> None:
        """Append a line."""
        os.write(self._fd, f"\n{time.monotonic():.6f} {what} {task} {self._where} {detail}{END}".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def parse(line: str) -> Operation:
    """Return what a line says; raises `ValueError`."""
    at, what, task, where, detail = line.split(" ", 4)
    if what not in get_args(What):
        raise ValueError(line)
    return Operation(float(at), cast("What", what), int(task), where, detail)


def read(directory: str) -> list[Operation]:
    """Return all operations, by time; those of one process stay in their order."""
    lines = [line for path in sorted(Path(directory).iterdir()) for line in path.read_text().splitlines()]
    found = [parse(line.removesuffix(END)) for line in lines if line.endswith(END)]
    return sorted(found, key=lambda operation: operation.at)
