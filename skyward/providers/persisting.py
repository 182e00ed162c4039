"""Nodes of this machine that outlive whoever started them: found, and ended, by what they are marked with.

Each has a private directory of its own, below the user's state home: its key, the keys that it admits, its log, and
the name of its mesh. The daemon carries the path of that directory in its environment, which is its mark: no list of
nodes is needed to find it, and a process that was given the same pid later does not have it. Two state homes know
nothing of each other.
"""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from skyward.errors import ConfigError, ProvisionError
from skyward.machine.private import make_directory, state_home, write_text
from skyward.providers.daemon import gone, kill, last_lines, parent_of, wake

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK: Final = "SKYWARD_NODE"  # environment variable: the node's directory
LOG: Final = "log"  # names of files in it
MESH: Final = "mesh"
RANDOM: Final = 8  # bytes in its name: no two are the same
WHAT: Final = "nodes"  # in what is said of a directory that others could read
ENDING: Final = 1.5  # seconds to end after SIGTERM: a pool's nodes have as long
KILLED: Final = 5.0  # seconds that the system may take to end a process that it was told to kill
START_TIME: Final = 19  # field of /proc/PID/stat after the command, from 0; see proc(5)


class Ident(NamedTuple):
    """A node: its process, which the start time tells from a later one of the same pid, and its directory."""

    pid: int
    start: int  # clock ticks since boot
    token: str  # the name of its directory

    def __str__(self) -> str:
        return f"local-{self.pid}-{self.start}-{self.token}"

    @classmethod
    def parse(cls, text: str) -> Ident | None:
        """Return the ident that the text is; None if it is none of a node that persists."""
        words = text.split("-")
        if len(words) != 4 or words[0] != "local" or not words[1].isdigit() or not words[2].isdigit():
            return None
        return cls(int(words[1]), int(words[2]), words[3])

    @property
    def directory(self) -> str:
        """Return the path of its directory."""
        return os.path.join(home(), self.token)


def home() -> str:
    """Return the directory of the nodes' directories."""
    return os.path.join(state_home(), "nodes")


def make_place(mesh: str) -> str:
    """Make the directory of a new node; raises `ProvisionError`."""
    directory = os.path.join(home(), os.urandom(RANDOM).hex())
    try:
        make_directory(home(), WHAT)
        write_text(os.path.join(directory, MESH), f"{mesh}\n", WHAT, replace=True)
    except (ConfigError, OSError) as error:
        raise ProvisionError(f"found no place for a node that persists: {error}") from error
    return directory


def identify(pid: int, directory: str) -> Ident:
    """Return the ident of a node that has just been started."""
    return Ident(pid, start_time(pid), os.path.basename(directory))


def start_time(pid: int) -> int:
    """Return when a process was started; -1 if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command stands in parentheses and may hold anything.
            return int(file.read().rpartition(b")")[2].split()[START_TIME])
    except (OSError, IndexError, ValueError):
        return -1


def tail(ident: Ident) -> tuple[str, ...]:
    """Return the last lines of a node's log; none once it has been ended."""
    try:
        return read_log(ident)
    except ProvisionError:
        return ()


def read_log(ident: Ident) -> tuple[str, ...]:
    """Return the last lines of a node's log; raises `ProvisionError`."""
    path = os.path.join(ident.directory, LOG)
    try:
        log = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ProvisionError(f"{path}: {error.strerror}") from error
    try:
        return last_lines(log)
    finally:
        os.close(log)


def end(ident: Ident) -> None:
    """Return when the node is gone, with all below it and its directory; raises `ProvisionError` if it cannot end."""
    try:
        pidfd = os.pidfd_open(ident.pid) if ident.pid > 0 else -1
    except ProcessLookupError:
        pidfd = -1
    if pidfd >= 0:
        try:
            # Only now: from here on the pid cannot become another's without us noticing.
            if start_time(ident.pid) == ident.start:
                _end(ident, pidfd)
        except PermissionError as error:
            raise ProvisionError(f"cannot end the local node {ident}: {error.strerror}") from error
        finally:
            os.close(pidfd)
    shutil.rmtree(ident.directory, ignore_errors=True)


def _end(ident: Ident, pidfd: int) -> None:
    if mark_of(ident.pid) == ident.directory:  # else it has ended, or is none of ours
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        wake(pidfd)
        if not gone(pidfd, ENDING):
            kill(ident.pid, pidfd)
            if not gone(pidfd, KILLED):
                raise ProvisionError(f"the local node {ident} does not end, not even when it is killed")
    with suppress(ChildProcessError):  # it may be a child of ours
        os.waitpid(ident.pid, os.WNOHANG)


def mark_of(pid: int) -> str:
    """Return which node's directory a process carries in its environment; "" if none that can be seen."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return ""
    prefix = f"{MARK}=".encode()
    return next((os.fsdecode(word[len(prefix) :]) for word in words if word.startswith(prefix)), "")


class Found(NamedTuple):
    """A node that was found; without a pid only its directory is left."""

    mesh: str
    ident: Ident

    @property
    def lives(self) -> bool:
        """Return whether there is a daemon."""
        return self.ident.pid > 0


def find() -> Iterator[Found]:
    """Yield all nodes of this state home, and what is left of others."""
    daemons = dict(_daemons())
    try:
        tokens = sorted(os.listdir(home()))
    except OSError:
        tokens = []
    for token in dict.fromkeys([*tokens, *map(os.path.basename, daemons)]):
        directory = os.path.join(home(), token)
        pid = daemons.get(directory, 0)
        yield Found(_mesh_of(directory), Ident(pid, start_time(pid) if pid else -1, token))


def _mesh_of(directory: str) -> str:
    try:
        with open(os.path.join(directory, MESH), encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _daemons() -> Iterator[tuple[str, int]]:
    """Yield directory and pid of every daemon: the process with a mark that its parent does not have."""
    marks = {pid: mark for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if (mark := mark_of(pid))}
    for pid, mark in marks.items():
        if os.path.dirname(mark) == home() and marks.get(parent_of(pid)) != mark:
            yield mark, pid
