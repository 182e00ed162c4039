"""Run scripts again, without the engine: `python -m tests.fuzz.replay TARGET FILE_OR_DIRECTORY...`.

With a finding it shows what was raised; under coverage.py it shows what a corpus reaches.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterable


def replay(name: str, paths: Iterable[str]) -> int:
    """Run the scripts of these files and directories; return how many that were."""
    count = 0
    for path in map(Path, paths):
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            TARGETS[name](file.read_bytes())
            count += 1
    return count


if __name__ == "__main__":
    print(replay(sys.argv[1], sys.argv[2:]), "scripts")
