"""The parent of a daemon on another machine: starts it, says that it serves, and clears up after it.

Two processes come of it. The one that was started talks to whoever started it, and ends when the node was told to
stay. The other one, the keeper, is in a session of its own: it holds the daemon's lifeline, so that SIGTERM to it ends
the node at once and by force if need be, and removes the node's directory when the daemon has gone, in whatever way.
Of a daemon that has failed the log stays, for `terminate` or the next bootstrap to remove.

The directory is locked as long as the keeper lives, and has the files ``pid``, its process, ``daemon`` and ``log``.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ProvisionError
from skyward.model import NodeConfig
from skyward.providers.daemon import Daemon
from skyward.providers.onhost import sweep
from skyward.providers.onhost.receive import cache
from skyward.providers.onhost.words import Failure, Lifeline, reported

if TYPE_CHECKING:
    from types import FrameType

LONGEST: Final = 600.0  # seconds for a daemon to serve: whoever waits for it has less patience
IN_USE: Final = "Address already in use"


def main() -> None:
    """Run as ``skyward-keeper NODE HERE FD``."""
    _, node, here, state = sys.argv[-4:]
    with reported():
        with os.fdopen(int(state), "rb") as file:
            said = json.load(file)
        config = NodeConfig.from_json(json.dumps(said["config"]).encode())
        near, far = socket.socketpair()
        child = os.fork()
        if child == 0:
            near.close()
            _keep(node, here, config, far)
        far.close()
        try:
            _answer(near, Lifeline(kept=said["kept"]), node)
        except BaseException:
            near.close()
            os.waitpid(child, 0)  # nothing of the node is left when we are gone
            raise
        sys.stdout.flush()
        os._exit(0)


def _answer(keeper: socket.socket, lifeline: Lifeline, node: str) -> None:
    """Hand on what the keeper says, and whether the node is wanted; return when it stays."""
    text = b""
    while not text.endswith(b"\n"):
        lifeline.wait(keeper.fileno())
        chunk = keeper.recv(65_536)
        text += chunk
        if not chunk:
            raise Failure("bootstrap", "the node's keeper ended without a word")
    said: dict[str, Any] = json.loads(text)
    if "error" in said:
        for line in said["log"]:
            sys.stderr.write(f"{line}\n")
        kind = (
            "port-in-use"
            if IN_USE in said["error"]
            else "disk-full"
            if "No space left" in said["error"]
            else "bootstrap"
        )
        raise Failure(kind, said["error"])
    sys.stdout.write(json.dumps({"ready": {**said, "node": node, "hostname": socket.gethostname()}}) + "\n")
    sys.stdout.flush()
    while not lifeline.kept:
        lifeline.wait()
    keeper.sendall(b"k")
    keeper.recv(1)  # it has heard: from now on it does not need us


class _Wishes:
    """What is wanted of a keeper: by the socket to whoever started it, and by signals."""

    def __init__(self, near: socket.socket) -> None:
        self.over = threading.Event()  # the node shall end
        self._kept = False
        self._near = near
        self.read, self._write = os.pipe()  # readable when it is over
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        heard = b""
        with suppress(OSError):
            heard = self._near.recv(1)
        if heard:
            with suppress(OSError):
                self._near.sendall(b"k")
                self._near.close()
        else:
            self.end()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.end()

    def end(self) -> None:
        """The node is not wanted any more."""
        if not self.over.is_set():
            self.over.set()
            os.write(self._write, b"\0")


def _keep(node: str, here: str, config: NodeConfig, near: socket.socket) -> None:
    """Be the keeper."""
    code = 1
    try:
        os.setsid()
        wishes = _Wishes(near)
        log = os.open(os.path.join(node, "log"), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        _detach(log)
        _lock(node, here)
        daemon = _start(node, config, log)
        try:
            failed = _watch(node, daemon, wishes, near)
        finally:
            daemon.end()
        _clear(node, keep_log=failed)
        code = 0
    except ProvisionError as error:
        _tell(near, {"error": str(error.message), "log": error.log})
        _clear(node, keep_log=False)
    except BaseException as error:
        _tell(near, {"error": f"{type(error).__name__}: {error}", "log": ()})
        _clear(node, keep_log=False)
    finally:
        os._exit(code)


def _detach(log: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir("/")


def _lock(node: str, here: str) -> None:
    """Hold what shows that the node lives and its bundle is in use, and say who we are."""
    # Of the directory itself: systemd leaves one alone that is locked, else it clears what is old in /tmp.
    fcntl.flock(os.open(node, os.O_RDONLY), fcntl.LOCK_EX)
    fcntl.flock(os.open(here, os.O_RDONLY), fcntl.LOCK_SH)
    with open(os.path.join(node, "pid"), "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")


def _start(node: str, config: NodeConfig, log: int) -> Daemon:
    work = os.path.join(node, "work")
    config = replace(config, cwd=config.cwd or work, keys=config.keys and os.path.join(node, config.keys))
    # Some variables count only for a process that starts with them; those of Python would change the daemon, too.
    early = {name: value for name, value in config.env.items() if not name.startswith("PYTHON")}
    return Daemon((work,), os.environ | early, partial(replace, config), log=log)


def _watch(node: str, daemon: Daemon, wishes: _Wishes, near: socket.socket) -> bool:
    """Return when the node shall end or has ended: whether it did so by a failure."""
    said = daemon.wait_ready(LONGEST, wishes.over)
    with open(os.path.join(node, "daemon"), "w", encoding="ascii") as file:
        file.write(f"{daemon.pid}\n")
    _tell(near, {**said, "pid": daemon.pid})
    threading.Thread(target=sweep.sweep, args=(cache(), os.path.dirname(node)), daemon=True).start()
    select.select([daemon.pidfd, wishes.read], [], [])
    return not wishes.over.is_set() and daemon.exit_code() != 0


def _tell(near: socket.socket, line: dict[str, Any]) -> None:
    with suppress(OSError):
        near.sendall(json.dumps(line).encode() + b"\n")


def _clear(node: str, *, keep_log: bool) -> None:
    if not keep_log:
        shutil.rmtree(node, ignore_errors=True)
        return
    shutil.rmtree(os.path.join(node, "work"), ignore_errors=True)
    for name in ("pid", "daemon"):
        with suppress(OSError):
            os.unlink(os.path.join(node, name))
