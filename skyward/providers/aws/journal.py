"""What this client is about to ask EC2 for: one line per ``ClientToken``, on disk before the call is made.

A call whose answer is lost may have started an instance. Its token finds it, by tag, and the journal knows the token
even if the process that made it is dead. Teardown does not need the journal: tags say the same. It tells a person,
and `sweeping`, which calls of this machine never had an answer.

One file per pool, in ``~/.local/state/skyward/aws``; removed when the pool has left nothing behind.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from typing import Any, Final

FOLDER: Final = os.path.join("skyward", "aws")


def home() -> str:
    """Return where journals are kept."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, FOLDER)


class Journal:
    """The journal of one pool. A machine that cannot keep one does without: tags are what counts."""

    def __init__(self, pool: str, region: str) -> None:
        self._path = os.path.join(home(), f"{pool}.jsonl")
        self._region = region
        self._lock = threading.Lock()
        self.tokens: dict[str, str] = {}  # what became of each: "asked", an instance id, or "none"

    def note(self, token: str, state: str) -> None:
        """Write what is about to happen, or has happened, to a token; it is on disk when this returns."""
        with self._lock:
            self.tokens[token] = state
            with suppress(OSError):
                self._append({"token": token, "state": state, "region": self._region})

    def _append(self, entry: dict[str, Any]) -> None:
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps(entry).encode() + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Remove it: nothing that it names exists any more."""
        forget(self._path)


def forget(path: str) -> None:
    """Remove a journal, and its directory if that was the last."""
    with suppress(OSError):
        os.unlink(path)
    with suppress(OSError):
        os.rmdir(os.path.dirname(path))


def unanswered(path: str) -> tuple[str, ...]:
    """Return the tokens of a journal whose calls never had an answer."""
    states: dict[str, str] = {}
    with suppress(OSError), open(path, encoding="utf-8") as file:
        for line in file:
            with suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                states[str(entry["token"])] = str(entry["state"])
    return tuple(token for token, state in states.items() if state == "asked")
