"""How `skyward-mesh run` and `exec` end from outside: by signals, and when nobody takes what they print."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from skyward.meshes import files, raising
from skyward.providers.local import Local
from tests.meshing import COMMAND, bring_up, daemons, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from skyward.meshes.files import Mesh
    from tests.meshing import Homes

PROGRAM = """
import time
import skyward as sky

@sky.function
def wait():
    print("waiting", flush=True)
    time.sleep(600)

def numbers():
    yield from range(10**9)

def few():
    print("few")
    return 3

if __name__ == "__main__":
    wait() >> sky
"""
LOOP = "echo it runs; exec sleep 613"  # no other process has these words


@pytest.fixture
def dev(homes: Homes) -> Iterator[Mesh]:
    """Bring up a mesh of one node, and write a program."""
    (homes.work / "app.py").write_text(PROGRAM)
    yield bring_up()
    raising.down("dev")


def into(where: str, *arguments: str) -> tuple[int, str]:
    """Return how a command ends whose output goes there, a command of the shell; and what it says on stderr."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = f'"$@" {where}; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *COMMAND, *arguments], env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stderr


def commands(mesh: Mesh) -> list[psutil.Process]:
    """Return what `exec` runs on the nodes."""
    below = [child for daemon in daemons(mesh) for child in daemon.children(recursive=True)]
    return [each for each in below if each.name() in ("sleep", "yes")]


def goes_on(mesh: Mesh) -> list[psutil.Process]:
    """Return which of the commands do not end: `exec` says that they shall, and does not wait for it."""
    return psutil.wait_procs(commands(mesh), timeout=10)[1]


@pytest.mark.rule("R28")
@pytest.mark.parametrize(
    "arguments",
    [("exec", "--", "yes"), ("run", "app.py::numbers")],
    ids=["exec", "run"],
)
def test_reader_that_goes_ends_the_command(dev: Mesh, arguments: tuple[str, ...]) -> None:
    """As of any other command, and as a shell says it; what runs is cancelled. Of lines too many it may tell."""
    code, said = into("| head -n 2", *arguments)
    assert code == 141
    assert all("lines were dropped" in line for line in said.splitlines()), said
    assert goes_on(dev) == []


@pytest.mark.rule("R28")
@pytest.mark.parametrize(
    "arguments",
    [("exec", "--", "yes"), ("exec", "--", "echo", "hello"), ("run", "app.py::numbers"), ("status",)],
    ids=["exec", "exec-short", "run", "status"],
)
def test_output_that_cannot_be_written_fails_the_command(dev: Mesh, arguments: tuple[str, ...]) -> None:
    """With one line, and no traceback; of lines too many it may tell before that."""
    code, said = into("> /dev/full", *arguments)
    *dropped, last = said.splitlines()
    assert (code, last) == (1, "Error: cannot write the output: No space left on device")
    assert all("lines were dropped" in line for line in dropped), said
    assert goes_on(dev) == []


@pytest.mark.rule("R28")
@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("status", "--help")], ids=" ".join)
def test_help_that_cannot_be_written_fails(arguments: tuple[str, ...]) -> None:
    """With one line; if nobody reads it, as every command does."""
    assert into("> /dev/full", *arguments) == (1, "Error: cannot write the output: No space left on device\n")
    assert into("| true", *arguments) == (141, "")


@pytest.mark.rule("R28")
def test_command_needs_no_streams(dev: Mesh) -> None:
    """It ends as it would with them; what it asks nobody has answered."""
    for where, said in ((">&-", ""), ("<&- >&- 2>&-", "")):
        assert into(where, "status") == (0, said)
        assert into(where, "status", "dev") == (0, said)
        assert into(where, "run", "app.py::few") == (0, said)
        assert into(where, "nodes", "none")[0] == 3


@pytest.mark.rule("R29")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("arguments", [("exec", "sh", "-c", LOOP), ("run", "app.py")], ids=["exec", "run"])
def test_signal_that_ends_the_command_cancels_what_it_runs(
    dev: Mesh, number: signal.Signals, arguments: tuple[str, ...]
) -> None:
    """As Ctrl-C does; a shell sees which one it was."""
    with start(*arguments) as running:
        assert running.stdout is not None
        assert running.stdout.readline() in ("[node 0] it runs\n", "[node 0] waiting\n")
        running.send_signal(number)
        said = running.stdout.read()
    assert (running.returncode, said) == (128 + number, "")
    assert goes_on(dev) == []


@pytest.mark.rule("R30")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "arguments", [("up", "new", "--provider", "local", "-n"), ("resize", "dev")], ids=["up", "resize"]
)
def test_signal_that_ends_the_start_of_nodes_takes_them_back(
    dev: Mesh, number: signal.Signals, arguments: tuple[str, ...]
) -> None:
    """As Ctrl-C does."""
    with start(*arguments, "6", "--yes") as starting:
        assert starting.stdout is not None
        for line in starting.stdout:
            if " serves at " in line:
                starting.send_signal(number)
                break
        said = starting.stdout.read()
    assert (starting.returncode, "ending what was started" in said) == (128 + number, True), said
    assert files.known() == ("dev",)
    assert files.load("dev").nodes == dev.nodes
    assert len(Local().sweep(dry_run=True)) == 1


@pytest.mark.rule("R29")
def test_signal_ends_a_command_that_ignores_interrupts(dev: Mesh) -> None:
    """A shell has its background jobs ignore Ctrl-C; what ends them otherwise still does, and so does a closed pipe."""
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    with start("exec", "sh", "-c", LOOP, **ignoring) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "[node 0] it runs\n"
        running.terminate()
        running.stdout.read()
    assert running.returncode == 143
    with start("exec", "yes", **ignoring) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.stdout.close()
    assert running.returncode == 141
    assert goes_on(dev) == []


@pytest.mark.rule("R29")
def test_signal_that_is_ignored_stays_so(dev: Mesh, homes: Homes, tmp_path: Path) -> None:
    """As nohup wants it."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    with start("exec", "sh", "-c", f"echo it runs; cat {gate}", **ignoring) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGHUP)
        gate.write_text("through\n")
        assert running.stdout.read() == "[node 0] through\n"
    assert running.returncode == 0
