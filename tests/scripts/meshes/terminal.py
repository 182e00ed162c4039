"""A command in a terminal of its own, for tests: what it sends there, what is left to read, what is typed."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pyte

from tests.rules.work import LONG

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIZE = (60, 120)  # rows, columns


class Terminal:
    """One command."""

    def __init__(self, command: Sequence[str], cwd: Path | None = None, size: tuple[int, int] = SIZE) -> None:
        self._size = size
        self.environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
        self.environment |= {"TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.sent = ""
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, size)
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=self.environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - else Ctrl-C is a mere byte
        )
        os.close(slave)

    def wait_for(self, text: str, times: int = 1) -> None:
        """Return when the command has sent a text so many times."""
        deadline = time.monotonic() + LONG
        try:
            while self.sent.count(text) < times:
                assert time.monotonic() < deadline, self.sent
                assert self._read(deadline - time.monotonic()), self.sent
        except AssertionError:
            self._close()
            raise

    def _read(self, patience: float) -> bool:
        """Read what there is; return whether the terminal is still in use."""
        if not select.select([self._master], [], [], patience)[0]:
            return True
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # how a terminal says that nobody is left
            return False
        self.sent += data.decode(errors="replace")
        return bool(data)

    def type(self, text: bytes) -> None:
        """Type something."""
        os.write(self._master, text)

    def send_signal(self, number: int) -> None:
        """Send the command a signal."""
        self._process.send_signal(number)

    def end(self, code: int) -> list[str]:
        """Wait for the end, expect the exit code, and return the lines that are left."""
        try:
            while self._read(LONG):
                pass
            assert (ended := self._process.wait(LONG)) == code, f"exit code {ended}\n{self.sent}"
        finally:
            self._close()
        screen = pyte.Screen(self._size[1], self._size[0])
        pyte.Stream(screen).feed(self.sent)
        return "\n".join(row.rstrip() for row in screen.display).rstrip().split("\n")

    def _close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)
