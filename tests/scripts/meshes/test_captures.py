"""What docs/how-to/meshes.md shows was captured in a terminal, and is what the commands show there now.

Times, ports, pids, keys and names of machines differ from run to run: they are left out on both sides.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from skyward.meshes import files
from tests.meshing import COMMAND, family, living, nothing_is_left
from tests.scripts.meshes.terminal import Terminal

if TYPE_CHECKING:
    from tests.meshing import Homes

PAGE: Final = Path(__file__).parents[3] / "docs" / "how-to" / "meshes.md"
CAPTURED: Final = re.compile(r"<!-- captured -->\n```text\n(.*?)```", re.DOTALL)
VARYING: Final = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    (r"tcp://127\.0\.0\.1:\d+", "ENDPOINT"),
    (r"local-\d+-\d+-[0-9a-f]+", "IDENT"),
    (r"public_key=\S+", "public_key=KEY"),
    (r"session=[0-9a-f]{8}", "session=ID"),
    (r"client=\S+:\d+", "client=CLIENT"),
    (r"\(\d+\.\d s\)", "(SECONDS)"),
    (r"for \d+ s,", "for AGE,"),
    (r"\d+\.\d ms", "PING"),
    (r"PING +\S+ +ENDPOINT", "PING HOST ENDPOINT"),
    (r"\[node \d\] epoch", "[node N] epoch"),
    (r" +", " "),
)


def timeless(text: str) -> list[str]:
    """Return the lines without what differs from run to run; nodes come up, and end, in any order."""
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return sorted(lines) if any(line.startswith(("node 0 serves", "ended node")) for line in lines) else lines


def blocks(kind: str) -> list[str]:
    """Return the blocks of the page in a language."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def shown(command: str, place: Path) -> str:
    """Return what a command shows in a terminal."""
    terminal = Terminal([*COMMAND, *command.split()[1:]], cwd=place)
    if " -f " in command:
        terminal.wait_for("\n")
        subprocess.run([*COMMAND, "ping", "dev", "-c", "1"], env=terminal.environment, check=True, capture_output=True)
        terminal.wait_for("session closed", times=2)
        terminal.send_signal(signal.SIGINT)
    return "\n".join(terminal.end(code=0))


@pytest.mark.rule("R30")
@pytest.mark.timeout(110)
def test_page_shows_what_the_commands_show(homes: Homes) -> None:
    """From up to down, the latter from another directory; nothing is left at the end."""
    (homes.work / "skyward.toml").write_text(blocks("toml")[0])
    (homes.work / "train.py").write_text(blocks("python")[0])
    place = homes.work
    processes = []
    found: list[str] = []
    for block in CAPTURED.findall(PAGE.read_text(encoding="utf-8")):
        *before, command = re.findall(r"^\$ (.*)$", block, re.MULTILINE)
        place = Path(before[0].removeprefix("cd ")) if before else place
        said = shown(command, place)
        found.append("\n".join([*(f"$ {line}" for line in (*before, command)), said]) + "\n")
        if command.startswith("skyward-mesh up"):
            processes = family(files.load("dev"))
    if os.environ.get("SKYWARD_CAPTURE"):  # for whoever writes the page
        sys.stderr.write("\n".join(found))
    expected = CAPTURED.findall(PAGE.read_text(encoding="utf-8"))
    assert [timeless(text) for text in found] == [timeless(text) for text in expected]
    assert processes
    assert not living(processes)
    nothing_is_left(homes)
