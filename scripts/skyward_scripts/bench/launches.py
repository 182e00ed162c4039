"""What is measured from outside: process start to first result, and import."""

from __future__ import annotations

import os
import select
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Final

from skyward_scripts.bench import processes
from skyward_scripts.bench.contestant import find
from skyward_scripts.bench.session import CLOSING, GRACE, OPENING, ContestantError, last_words, surroundings
from skyward_scripts.bench.stage import FIRST

if TYPE_CHECKING:
    from skyward_scripts.bench.catalogue import Entry
    from skyward_scripts.bench.stage import Stage

_CLOCK: Final = "from time import perf_counter as clock; begun = clock(); {statement}; print(clock() - begun)"


def start(entry: Entry, python: str, stage: Stage) -> dict[str, float]:
    """Return the seconds from starting a process to the first result of two workers."""
    token = uuid.uuid4().hex
    around = surroundings(entry, python, stage, token)
    command = [python, stage.script(entry.origin, FIRST), entry.where]
    with open(around.said, "wb") as file:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file,
            env=around.env, cwd=around.cwd, start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        line = _number(process.stdout.fileno(), begun + OPENING)
        elapsed = time.perf_counter() - begun
        if not line:
            raise ContestantError(f"its process ended with {process.wait(CLOSING)}: {last_words(around.said)}")
        if int(line) == process.pid:
            raise ContestantError("the call ran in the client's process, not in a worker")
        _wait(process)
    finally:
        process.kill()
        process.wait()
        processes.end(token, GRACE)
        process.stdout.close()
    return {"": elapsed, "tasks": 1}


def _number(source: int, deadline: float) -> bytes:
    """Return the line of digits that tells the first result: a library may print lines of its own before it."""
    lines = b""
    while True:
        if not select.select([source], [], [], max(0.0, deadline - time.perf_counter()))[0]:
            raise ContestantError("no result in time")
        piece = os.read(source, 4_096)
        if not piece:
            return b""
        lines += piece
        for line in lines.split(b"\n")[:-1]:
            if line.isdigit():
                return line


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(CLOSING)
    except subprocess.TimeoutExpired:  # it is killed; its figure is there
        pass


def import_it(entry: Entry, python: str, stage: Stage, times: int) -> dict[str, float]:
    """Return the best times of importing the library, in milliseconds, each in a fresh process."""
    module, names = find(entry.where)().import_names()
    around = surroundings(entry, python, stage, uuid.uuid4().hex)
    best: dict[str, float] = {}
    for figure, statement in (("module", module), ("with names", names)):
        command = [python, "-c", _CLOCK.format(statement=statement)]
        spent: list[float] = []
        for _ in range(times):
            done = subprocess.run(command, capture_output=True, text=True, env=around.env, cwd=around.cwd, check=False)
            if done.returncode:
                raise ContestantError(done.stderr.strip().rpartition("\n")[2])
            spent.append(float(done.stdout))
        best[figure] = min(spent) * 1e3
    return best
