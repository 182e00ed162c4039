"""Nodes that somebody has started by hand, on the command line, and whom they admit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from skyward.transport.keys import read_or_make_pair, read_pair
from tests.rules.work import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.transport.keys import KeyPair

COMMAND = str(Path(sys.executable).with_name("skyward-node"))
# Becomes another program, which is killed when we end: a run that ends in the middle of a test leaves nothing.
MORTAL = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
PATIENCE = 30.0  # seconds for what should take one


def environment() -> dict[str, str]:
    """Return what such a command finds around it."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def keys(directory: Path, *arguments: str) -> str:
    """Run ``skyward-node keys``."""
    command, *rest = arguments
    done = subprocess.run(
        [COMMAND, "keys", command, "--dir", str(directory), *rest],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def client_pair() -> KeyPair:
    """Return the pair by which `sky.Static` is known, made if there is none."""
    return read_or_make_pair(os.path.join(os.environ["XDG_CONFIG_HOME"], "skyward", "client", "client.key"))


class ByHand:
    """One node. ``prefix`` is a command that becomes the one it is given, ``wait`` whether to return once it serves."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        bind: str = "tcp://127.0.0.1:0",
        prefix: Sequence[str] = (),
        wait: bool = True,
        **env: str,
    ) -> None:
        self.keys = directory
        self.log: list[dict[str, Any]] = []
        self.printed: list[str] = []  # what is no line of a log: the last words of a process that has broken down
        self.process = subprocess.Popen(
            [
                *prefix,
                sys.executable,
                "-c",
                MORTAL,
                COMMAND,
                "--bind",
                bind,
                "--keys",
                str(directory),
                "--log-format",
                "json",
                *options,
            ],
            env=environment() | env,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.endpoint = self.key = ""
        if wait:
            self.wait_serving()

    def wait_serving(self) -> None:
        """Return once it serves."""
        until(lambda: self.log or self.process.poll() is not None)
        assert self.log, f"it has ended with {self.process.returncode}"
        serving = self.log[0]
        assert serving["event"] == "serving", serving
        self.endpoint = str(serving["endpoint"])
        self.key = str(serving["public_key"])

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.printed.append(line)

    @property
    def pid(self) -> int:
        """Return the daemon's pid."""
        return self.process.pid

    @property
    def address(self) -> str:
        """Return what a client is told."""
        return f"{self.endpoint} {self.key}"

    @property
    def port(self) -> int:
        """Return the number of its port."""
        return int(self.endpoint.rpartition(":")[2])

    def events(self) -> list[str]:
        """Return what it has logged."""
        return [str(line["event"]) for line in self.log]

    def admit(self, key: str) -> None:
        """Admit a client, and wait until the node knows."""
        keys(self.keys, "add", key, "test")

    def secret(self) -> str:
        """Return the node's secret key."""
        return read_pair(str(self.keys / "node.key")).secret

    def family(self) -> list[psutil.Process]:
        """Return the daemon and all below it."""
        daemon = psutil.Process(self.pid)
        return [daemon, *daemon.children(recursive=True)]

    def end(self) -> None:
        """End the node and all below it, in whatever state it is."""
        with suppress(psutil.NoSuchProcess):
            family = self.family()
            for number in (signal.SIGCONT, signal.SIGINT):
                self.process.send_signal(number)
            _, alive = psutil.wait_procs(family, timeout=PATIENCE)
            for process in alive:
                process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        if self.process.stderr is not None:
            self.process.stderr.close()
