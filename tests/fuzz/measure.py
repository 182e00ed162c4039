"""How many branches of the parser a corpus takes, by coverage.py.

The parser is what bytes from a peer go through: the codec and the messages, the reader of pipes, and what
decodes failures. Files are measured as a whole, with what they have for the sender; of `failures` only the
functions are measured that a corpus may reach without unpickling anything.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

WIRE: Final = "skyward/wire"
PARSER: Final[dict[str, tuple[str, ...]]] = {  # file -> functions; none: all of it
    "codec.py": (),
    "messages.py": (),
    "pipe.py": (),
    "failures.py": ("decode", "to_exception", "_exception", "_crashed"),
}


class Covered(NamedTuple):
    """Branches of one part of the parser."""

    name: str
    taken: int
    all: int
    missing: list[str]

    @property
    def percent(self) -> float:
        """Return the share that was taken."""
        return 100.0 * self.taken / self.all if self.all else 100.0

    def __str__(self) -> str:
        missing = f"   not taken: {', '.join(self.missing)}" if self.missing else ""
        return f"{self.name:28} {self.taken:4} of {self.all:4} branches  {self.percent:5.1f} %{missing}"


def measure(corpora: dict[str, Path], directory: Path) -> list[Covered]:
    """Replay the corpora of these targets; return what they take of the parser, its total last."""
    files = [directory / f"coverage-{name}" for name in corpora]
    include = ",".join(f"{WIRE}/{file}" for file in PARSER)
    for file, (name, corpus) in zip(files, corpora.items(), strict=True):
        options = ["--branch", f"--data-file={file}", f"--include={include}"]
        _coverage("run", *options, "-m", "tests.fuzz.replay", name, str(corpus))
    together, report = directory / "coverage", directory / "coverage.json"
    _coverage("combine", "--keep", f"--data-file={together}", *map(str, files))
    _coverage("json", f"--data-file={together}", "-o", str(report))
    parts = _parts(json.loads(report.read_text(encoding="utf-8"))["files"])
    total = Covered("the parser", sum(part.taken for part in parts), sum(part.all for part in parts), [])
    return [*parts, total]


def _coverage(*arguments: str) -> None:
    command = [sys.executable, "-m", "coverage", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _parts(files: dict[str, Any]) -> list[Covered]:
    parts: list[Covered] = []
    for file, functions in PARSER.items():
        found = files[f"{WIRE}/{file}"]
        if functions:
            regions = found["functions"]
            parts += [_part(f"{file}: {name}", regions[name]) for name in functions]
        else:
            parts.append(_part(file, found))
    return parts


def _part(name: str, found: dict[str, Any]) -> Covered:
    summary = found["summary"]
    missing = [f"{start} to {end if end > 0 else 'the end'}" for start, end in found["missing_branches"]]
    return Covered(name, summary["covered_branches"], summary["num_branches"], missing)
