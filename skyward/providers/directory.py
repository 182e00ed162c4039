"""The private directory that a pool's local sockets live in.

Only its owner may enter it, and its path is short enough for a Unix socket. The name starts with
``skyward-``: a daemon whose client was killed removes such a directory when it is the last to leave. The
first daemon makes it: one that the client had made would stay if the client were killed before it has a daemon.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from skyward.errors import ProvisionError
from skyward.machine.passing import LONGEST_PATH

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX: Final = "skyward-"
RANDOM: Final = 6  # bytes in the name: enough that nobody guesses or repeats it
ROOM: Final = len("/" + PREFIX) + 2 * RANDOM + len("/n99999.sock")  # bytes after the parent's path


def temporary_directories() -> list[str]:
    """Return where to try, best first: what the user says, what every system has, and the shortest."""
    said = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP", "XDG_RUNTIME_DIR")]
    return [os.path.abspath(path) for path in said[:3] if path] + ["/tmp", "/var/tmp", *filter(None, said[3:]), "/run"]  # noqa: S108 - the directory made there is private


def find_private(parents: Iterable[str]) -> str:
    """Return a path for a new directory in the first of ``parents`` that will do; raises `ProvisionError`."""
    reasons: dict[str, str] = {}
    for parent in parents:
        if len(os.fsencode(parent)) + ROOM > LONGEST_PATH:
            reasons[parent] = "too long for the path of a socket"
            continue
        path = f"{parent}/{PREFIX}{os.urandom(RANDOM).hex()}"
        try:
            os.mkdir(path, 0o700)  # nothing else tells for sure
            os.rmdir(path)
        except OSError as error:
            reasons[parent] = error.strerror or str(error)
        else:
            return path
    text = "; ".join(f"{parent}: {reason}" for parent, reason in reasons.items())
    raise ProvisionError(
        f"found no place for the sockets of local nodes ({text}); set TMPDIR to a writable directory with a short path"
    )


def remove(path: str) -> None:
    """Remove the directory and the sockets in it, as far as they are still there."""
    with suppress(OSError):
        for name in os.listdir(path):
            with suppress(OSError):
                os.unlink(f"{path}/{name}")
        os.rmdir(path)
