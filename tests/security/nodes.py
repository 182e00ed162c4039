"""A node on a TCP port behind CURVE, in a process of its own, and what it costs the machine."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import psutil

from skyward.model import NodeConfig
from skyward_node.testing import descendants
from tests.rules.work import until

if TYPE_CHECKING:
    from skyward.transport.keys import KeyPair

PATIENCE: Final = 30  # seconds for what should take one, on a machine that is busy
MAIN: Final = "import sys; from skyward_node.__main__ import main; sys.exit(main())"
LOOK: Final = 0.01  # seconds between looks at what is only ever a number
LIMITED: Final = 'ulimit $0 && exec "$@"'  # a shell's way to run a command with fewer descriptors


class Node:
    """A daemon started as a launcher starts it, that admits ``clients``.

    ``prelude`` is Python that runs in it before anything else; ``ulimit`` are arguments of a shell's command, such
    as ``-n 64`` for at most 64 descriptors.
    """

    def __init__(self, *clients: KeyPair, prelude: str = "", ulimit: str = "", **config: Any) -> None:
        ready, ready_theirs = os.pipe()
        lifeline_theirs, self._lifeline = os.pipe()
        self._log = os.memfd_create("log")
        config_fd = os.memfd_create("config")
        fields: dict[str, Any] = {"bind": "tcp://127.0.0.1:0", "sys_path": tuple(sys.path), "log_level": "info"}
        fields |= {"client_keys": tuple(pair.public for pair in clients), "ready_fd": ready_theirs}
        os.write(config_fd, NodeConfig(**(fields | config), lifeline_fd=lifeline_theirs).to_json())
        os.lseek(config_fd, 0, os.SEEK_SET)
        limit = ["sh", "-c", LIMITED, ulimit] if ulimit else []
        self.process = subprocess.Popen(
            [*limit, sys.executable, "-c", f"{prelude}\n{MAIN}", "skyward-node", "--config-fd", str(config_fd)],
            pass_fds=(ready_theirs, lifeline_theirs, config_fd),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for fd in (ready_theirs, lifeline_theirs, config_fd):
            os.close(fd)
        self._ready = ready
        self.endpoint = self.key = ""

    @property
    def pid(self) -> int:
        """Return the daemon's pid."""
        return self.process.pid

    @property
    def port(self) -> int:
        """Return the port."""
        return int(self.endpoint.rpartition(":")[2])

    @property
    def address(self) -> tuple[str, str]:
        """Return what `sky.Static` wants to know."""
        return self.endpoint, self.key

    def said(self) -> dict[str, Any]:
        """Return what the daemon tells its launcher once it serves, or cannot."""
        assert select.select([self._ready], [], [], PATIENCE)[0], "the daemon says nothing"
        line = os.read(self._ready, 65_536)
        assert line, self.log()
        said: dict[str, Any] = json.loads(line)
        return said

    def wait_ready(self) -> None:
        """Return once it serves."""
        said = self.said()
        assert "error" not in said, said
        self.endpoint, self.key = said["endpoint"], said["public_key"]

    def log(self) -> str:
        """Return all that was logged."""
        return os.pread(self._log, 2**24, 0).decode(errors="replace")

    def wait_logged(self, text: str) -> None:
        """Return once the text stands in the log."""
        until(lambda: text in self.log(), PATIENCE)

    def memory(self) -> int:
        """Return the bytes of memory that the daemon holds."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def descriptors(self) -> int:
        """Return how many descriptors the daemon has open."""
        return int(psutil.Process(self.pid).num_fds())

    def workers(self) -> set[int]:
        """Return the pids of all processes below the daemon."""
        return descendants(self.pid)

    def close(self) -> None:
        """End it, if it lives, and see that nothing of it is left."""
        below = self.workers()
        os.close(self._lifeline)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        self.process.kill()
        self.process.wait()
        os.close(self._ready)
        os.close(self._log)
        until(lambda: not any(map(psutil.pid_exists, below)), PATIENCE)


class Watch:
    """Notes the most memory that a node holds, from now on."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._before = self._peak = node.memory()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(LOOK):
            self._peak = max(self._peak, self._node.memory())

    def stop(self) -> int:
        """Return by how many bytes it has grown at most."""
        self._over.set()
        self._thread.join()
        return self._peak - self._before
