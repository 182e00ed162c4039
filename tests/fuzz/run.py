"""One target under atheris, in a process of its own: `python -m tests.fuzz.run TARGET DIRECTORY SECONDS SEED`.

Ends after so many seconds of CPU time. What a script raises is noted and fuzzing goes on: `Findings` tells
one cause from another by where it was raised. The parent reads what was found from the directory.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

INSTRUMENTED: Final = ["skyward", "skyward_node"]
SEEDS: Final = 200  # good scripts to begin with
LONGEST: Final = 80_000  # bytes of a script: room for a pickle that has a frame of its own
HANG: Final = 60  # seconds that a script may take
MEMORY: Final = 2_048  # MB that the process may have
LOOK: Final = 50  # scripts between looks at the clock
SAVE: Final = 2.0  # seconds between two notes of how far it is


class Findings:
    """What scripts have raised, one entry a cause; the first script of each is kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._counts: dict[str, int] = {}

    def add(self, error: BaseException, data: bytes) -> None:
        """Note an exception, and what led to it."""
        frames = traceback.extract_tb(error.__traceback__)
        cause = f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}"
        self._counts[cause] = self._counts.get(cause, 0) + 1
        if self._counts[cause] == 1:
            name = f"finding-{len(self._counts)}"
            (self._directory / name).write_bytes(data)
            text = "".join(traceback.format_exception(error))
            (self._directory / f"{name}.txt").write_text(text, encoding="utf-8", errors="backslashreplace")

    def report(self) -> dict[str, int]:
        """Return how often each cause was met."""
        return dict(self._counts)


class Run:
    """Runs scripts until the time is over."""

    def __init__(self, target: Target, directory: Path, seconds: float) -> None:
        self._target = target
        self._directory = directory
        self._seconds = seconds
        self._findings = Findings(directory)
        self._count = 0
        self._saved = 0.0

    def __call__(self, data: bytes) -> None:
        """Run one script."""
        self._count += 1
        try:
            self._target(data)
        except Exception as error:
            self._findings.add(error, data)
        if self._count % LOOK == 0:
            self._look()

    def _look(self) -> None:
        used = time.process_time()
        over = used >= self._seconds
        if over or used >= self._saved + SAVE:
            self._saved = used
            self.save()
        if over:
            os._exit(0)  # the engine has no way to be told

    def save(self) -> None:
        """Note how far it is."""
        report = {"executions": self._count, "seconds": time.process_time(), "findings": self._findings.report()}
        (self._directory / "report.json").write_text(json.dumps(report), encoding="utf-8")


def write_seeds(target: Target, corpus: Path, seed: int) -> None:
    """Put good scripts where the engine finds them."""
    corpus.mkdir(exist_ok=True)
    for number, data in zip(range(SEEDS), target.seeds(seed), strict=False):
        (corpus / f"seed-{number}").write_bytes(data)


def main(name: str, directory: Path, seconds: float, seed: int) -> None:
    """Fuzz one target."""
    atheris: Any = importlib.import_module("atheris")  # has no stubs, and is not there by default
    with atheris.instrument_imports(include=INSTRUMENTED):
        targets = importlib.import_module("tests.fuzz.targets").TARGETS
    target: Target = targets[name]
    corpus = directory / "corpus"
    write_seeds(target, corpus, seed)
    run = Run(target, directory, seconds)
    options = [f"-seed={seed + 1}", f"-max_len={LONGEST}", "-len_control=0", f"-timeout={HANG}"]
    options += [f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={directory}/", str(corpus)]

    def blind(data: bytes, most: int) -> bytes:
        changed: bytes = atheris.Mutate(data, most)  # looked up late: the one that works is there once it has started
        return changed

    mutator = target.mutator(blind)
    atheris.Setup([sys.argv[0], *options], run, custom_mutator=mutator)
    with contextlib.suppress(KeyboardInterrupt):
        atheris.Fuzz()
    run.save()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
