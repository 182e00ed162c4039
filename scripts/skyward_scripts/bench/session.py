"""One contestant's process, seen from outside: started, told what to do, and ended with all it has started."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from skyward_scripts.bench import processes
from skyward_scripts.bench.stage import SERVE

if TYPE_CHECKING:
    from skyward_scripts.bench.catalogue import Entry
    from skyward_scripts.bench.stage import Stage

OPENING: Final = 180.0  # seconds: the slowest start of all takes ten, on a machine that does nothing else
TURN: Final = 240.0  # seconds: twenty times what a turn is meant to take
CLOSING: Final = 15.0  # seconds; who takes longer is killed, and no figure depends on it
GRACE: Final = 3.0  # seconds for what a process has started to go by itself
TAIL: Final = 6  # lines of what a process has said that explain its failure
# They are about our environment; without the last one nothing is compiled anew each time, as on a user's machine.
HIDDEN: Final = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")


class ContestantError(Exception):
    """A contestant has failed; the text is the reason."""


def surroundings(entry: Entry, python: str, stage: Stage, token: str) -> Surroundings:
    """Return what a contestant's process finds around it: as if its environment were activated, if it has one."""
    scratch = stage.scratch()
    places = {name: os.path.join(scratch, name) for name in ("here", "t", "home")}
    for place in places.values():
        os.mkdir(place)
    env = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    env |= {"PYTHONPATH": stage.path, "TMPDIR": places["t"], processes.TOKEN: token}
    if entry.requirements:
        env["PATH"] = os.pathsep.join((os.path.dirname(python), env.get("PATH", os.defpath)))
        env["HOME"] = places["home"]  # peers write to it
    return Surroundings(env, places["here"], os.path.join(scratch, "said"))


class Surroundings(NamedTuple):
    """What a contestant's process finds around it."""

    env: dict[str, str]
    cwd: str  # empty: some ship it to their workers
    said: str  # the file that takes what it prints


class Session:
    """A contestant's process."""

    def __init__(self, entry: Entry, python: str, stage: Stage) -> None:
        self.token = uuid.uuid4().hex
        self._answers = b""
        self._around = around = surroundings(entry, python, stage, self.token)
        command = [python, stage.script(entry.origin, SERVE), entry.where]
        with open(around.said, "wb") as said:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=around.env,
                cwd=around.cwd,
                start_new_session=True,  # an interrupt is for us, and we end it
            )

    def open(self, workers: int) -> None:
        """Let it start its workers; raises `ContestantError`."""
        self._ask({"do": "open", "workers": workers}, OPENING)

    def prepare(self, workload: str, sizes: dict[str, int], warm: float) -> None:
        """Tell it what comes, and let it warm up, for so many seconds or a little longer; raises `ContestantError`."""
        told = {"workload": workload, "sizes": sizes, "warm": warm, "scratch": self._around.cwd}
        self._ask({"do": "prepare", **told}, OPENING)

    def turn(self, seed: int) -> dict[str, float]:
        """Let it do its work once and return the figures; raises `ContestantError`."""
        figures: dict[str, float] = self._ask({"do": "turn", "seed": seed}, TURN)
        return figures

    def end(self) -> None:
        """Let it close, and end whatever is left."""
        try:
            if self._process.poll() is None:
                self._ask({"do": "close"}, CLOSING)
                self._process.wait(CLOSING)
        except (ContestantError, subprocess.TimeoutExpired):
            pass
        self.kill()

    def kill(self) -> None:
        """End it at once, with all that it has started."""
        self._process.kill()
        self._process.wait()
        processes.end(self.token, GRACE)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # an order that nobody has read
                pass

    def busy_seconds(self) -> float:
        """Return the CPU time of it and all that it has started."""
        return processes.busy_seconds(self.token)

    def _ask(self, order: dict[str, Any], patience: float) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise ContestantError(self._last_words()) from None
        answer = json.loads(self._read_line(time.monotonic() + patience, order["do"]))
        if "error" in answer:
            raise ContestantError(" | ".join(line.strip() for line in answer["error"].splitlines()))
        return answer["value"]

    def _read_line(self, deadline: float, wanted: str) -> bytes:
        assert self._process.stdout is not None
        source = self._process.stdout.fileno()
        while b"\n" not in self._answers:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ContestantError(f"no answer to {wanted!r} in time")
            # Children of a dead process may hold its end of the pipe open, so the end of file is not waited for.
            if select.select([source], [], [], min(left, 0.5))[0]:
                piece = os.read(source, 65_536)
                if not piece:
                    raise ContestantError(self._last_words())
                self._answers += piece
            elif self._process.poll() is not None:
                raise ContestantError(self._last_words())
        line, _, self._answers = self._answers.partition(b"\n")
        return line

    def _last_words(self) -> str:
        status = self._process.wait(CLOSING)
        return f"its process ended with {status}: {last_words(self._around.said)}"


def last_words(path: str) -> str:
    """Return the end of what a process has said, in one line."""
    with open(path, encoding="utf-8", errors="replace") as said:
        lines = [line.strip() for line in said if line.strip()]
    return " | ".join(lines[-TAIL:])
