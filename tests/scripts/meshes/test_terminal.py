"""The commands in a terminal: tables, and what is waited for, without a trace of it in what is left."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
from contextlib import suppress
from typing import TYPE_CHECKING

import pyte
import pytest

from skyward.meshes import files
from tests.meshing import COMMAND, nothing_is_left
from tests.rules.work import LONG

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.meshing import Homes

SIZE = (40, 120)


def in_terminal(*arguments: str, keys: Callable[[str], bytes] = lambda _: b"", code: int = 0) -> tuple[str, list[str]]:
    """Run the command in a terminal; return all that it has sent there, and the lines that are left at the end."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, SIZE)
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    environment |= {"TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path)}
    sent = b""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - else Ctrl-C is a mere byte
    ) as command:
        os.close(slave)
        with suppress(OSError):  # how a terminal says that nobody is left
            while data := os.read(master, 65_536):
                sent += data
                if typed := keys(sent.decode(errors="replace")):
                    os.write(master, typed)
        os.close(master)
        assert command.wait(LONG) == code, sent
    screen = pyte.Screen(SIZE[1], SIZE[0])
    pyte.Stream(screen).feed(sent.decode())
    return sent.decode(), "\n".join(row.rstrip() for row in screen.display).rstrip().split("\n")


@pytest.mark.rule("R30")
def test_mesh_lives_in_a_terminal(homes: Homes) -> None:
    """What is waited for is shown and goes; tables are coloured; whoever is asked answers."""
    sent, left = in_terminal("up", "dev", "--provider", "local", "-n", "2")
    assert "waiting for node" in sent
    assert left[0] == "mesh dev: 2 nodes of sky.Local(transport='tcp'), 1 task at once each"
    assert sorted(line[:14] for line in left[1:3]) == ["node 0 serves ", "node 1 serves "]
    assert left[3] == 'mesh dev is up: sky.Compute(mesh="dev"), skyward-mesh run -m dev; then: down dev'
    assert len(left) == 4
    sent, left = in_terminal("status", "dev")
    assert "\x1b[32mup" in sent
    assert left[1].split() == ["node", "state", "slots", "running", "queued", "ping", "host", "endpoint"]
    assert [line.split()[:3] for line in left[2:]] == [["0", "up", "1"], ["1", "up", "1"]]
    _, left = in_terminal("down", "dev", keys=answering("end dev? [y/N]: ", b"n\n"), code=7)
    assert left[-1] == "Error: nothing was ended"
    assert files.known() == ("dev",)
    _, left = in_terminal("down", "dev", keys=answering("end dev? [y/N]: ", b"y\n"))
    assert left[-1] == "mesh dev is gone"
    nothing_is_left(homes)


def answering(prompt: str, answer: bytes) -> Callable[[str], bytes]:
    """Return what types an answer once."""
    waiting = [answer]
    return lambda shown: waiting.pop() if waiting and prompt in shown else b""


@pytest.mark.rule("R30")
def test_ctrl_c_in_a_terminal_rolls_back(homes: Homes) -> None:
    """As soon as it waits for nodes: exit code 130, the spinner is gone, and so is everything else."""
    keys = answering("waiting for node", b"\x03")
    _, left = in_terminal("up", "dev", "--provider", "local", "-n", "2", keys=keys, code=130)
    assert left[-1].endswith("interrupted")
    assert any("interrupted: ending what was started" in line for line in left)
    nothing_is_left(homes)
