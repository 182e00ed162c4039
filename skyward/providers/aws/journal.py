"""What this client has in EC2, and what it is about to ask for: on disk before the call is made.

Teardown does not need it: tags say the same. It tells whoever comes later on this machine where to look: the region
and the bucket of a pool whose client was killed, and how many of its calls never had an answer. `skyward-mesh gc` goes
there, and `doctor` says so. As long as the client lives it holds a lock on the file, so that nobody has to wait for a
sign of life to be too old.

One file per pool, in ``~/.local/state/skyward/aws``: a line that says where, then what becomes of each ``ClientToken``.
It goes when the pool has left nothing behind, or when `gc` has removed what it has left.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from skyward.machine.private import state_home

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SUFFIX: Final = ".jsonl"
BOOT: Final = "/proc/sys/kernel/random/boot_id"


def home() -> str:
    """Return where journals are kept."""
    return os.path.join(state_home(), "aws")


class Journal:
    """The journal of one pool. A machine that cannot keep one does without: tags are what counts."""

    def __init__(self, pool: str, region: str, bucket: str = "") -> None:
        self._path = os.path.join(home(), f"{pool}{SUFFIX}")
        self._lock = threading.Lock()
        self._fd = -1
        self.tokens: dict[str, str] = {}  # what became of each: "asked", an instance id, or "none"
        with suppress(OSError):
            os.makedirs(home(), mode=0o700, exist_ok=True)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            # Before the first line: a file without any is nobody's yet. Clients of one mesh share it.
            fcntl.flock(self._fd, fcntl.LOCK_SH)
            self._append({"pool": pool, "region": region, "bucket": bucket, "boot": _boot()})

    def note(self, token: str, state: str) -> None:
        """Write what is about to happen, or has happened, to a token; it is on disk when this returns."""
        with self._lock:
            self.tokens[token] = state
            with suppress(OSError):
                self._append({"token": token, "state": state})

    def _append(self, entry: dict[str, Any]) -> None:
        os.write(self._fd, json.dumps(entry).encode() + b"\n")
        os.fsync(self._fd)

    def touch(self) -> None:
        """Show that the client lives to those who do not see its lock: on another machine with the same home."""
        with self._lock, suppress(OSError):
            os.utime(self._fd)

    def close(self, *, keep: bool = False) -> None:
        """Remove it: nothing that it names exists any more; or ``keep`` it for whoever comes later."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd < 0:
                return
            if not keep and _is_alone(fd):
                _remove(self._path)
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Left:
    """What the journal of another client says."""

    path: str
    pool: str
    region: str
    bucket: str
    unanswered: tuple[str, ...]  # tokens of calls that never had an answer
    gone: bool  # its process is: it ran on this machine, since that was started
    silent: float  # seconds since its last sign of life


def left_behind() -> tuple[Left, ...]:
    """Return the journals of clients that are not seen to live."""
    try:
        names = sorted(name for name in os.listdir(home()) if name.endswith(SUFFIX))
    except OSError:
        return ()
    found = (_look(os.path.join(home(), name)) for name in names)
    return tuple(left for left in found if left is not None)


def _look(path: str) -> Left | None:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        entries = list(_entries(file))
        first = next((entry for entry in entries if "region" in entry), None)
        if first is None:
            return None
        states = {str(entry["token"]): entry.get("state") for entry in entries if "token" in entry}
        return Left(
            path=path,
            pool=os.path.basename(path).removesuffix(SUFFIX),
            region=str(first["region"]),
            bucket=str(first.get("bucket", "")),
            unanswered=tuple(token for token, state in states.items() if state == "asked"),
            gone=first.get("boot") == _boot() != "",
            silent=time.time() - os.fstat(file.fileno()).st_mtime,
        )
    return None


def _entries(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield what makes sense: a machine that lost power may have written a part of a line."""
    for line in lines:
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                yield cast("dict[str, Any]", entry)


def forget(left: Left) -> None:
    """Remove the journal of a pool of which nothing is left."""
    _remove(left.path)


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
    with suppress(OSError):
        os.rmdir(os.path.dirname(path))  # if that was the last


def _is_alone(fd: int) -> bool:
    """Return whether no other client has this journal."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _boot() -> str:
    """Return which run of which machine this is; "" if nobody knows."""
    with suppress(OSError), open(BOOT, encoding="ascii") as file:
        return file.read().strip()
    return ""
