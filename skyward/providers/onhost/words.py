"""What is said to whoever started a bootstrap, and whether he still wants the node.

What is said is described in `skyward.providers.bootstrap`. stdin is a lifeline: until the line ``keep`` has come, its
end means that nobody wants the node any more.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Generator

FULL: Final = {errno.ENOSPC, errno.EDQUOT}
KEEP: Final = b"keep"
STDIN: Final = 0


class Failure(Exception):
    """The bootstrap ends here."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def step(text: str) -> None:
    """Say what is done now."""
    sys.stderr.write(f"skyward: step {text}\n")
    sys.stderr.flush()


def die(kind: str, text: str) -> NoReturn:
    """Say why it ends, in one line, and end."""
    try:
        sys.stderr.write(f"skyward: error {kind} {' '.join(text.split())}\n")
        sys.stderr.flush()
    finally:
        os._exit(1)


@contextmanager
def reported() -> Generator[None]:
    """Say why what runs here fails, and end."""
    try:
        yield
    except Failure as failure:
        die(failure.kind, str(failure))
    except OSError as error:
        die("disk-full" if error.errno in FULL else "bootstrap", str(error))
    except Exception as error:
        die("bootstrap", f"{type(error).__name__}: {error}")


class Lifeline:
    """stdin, once the configuration was read from it."""

    def __init__(self, *, kept: bool = False) -> None:
        self.kept = kept  # the node stays, whatever becomes of stdin
        self._text = b""

    def read_line(self) -> bytes:
        """Return the first line."""
        while b"\n" not in self._text:
            chunk = os.read(STDIN, 65_536)
            if not chunk:
                raise Failure("bootstrap", "no configuration came on stdin")
            self._text += chunk
        line, _, self._text = self._text.partition(b"\n")
        self._look()
        return line

    def _look(self) -> None:
        self.kept = self.kept or KEEP in self._text.split(b"\n")

    def wait(self, *fds: int, timeout: float | None = None) -> list[int]:
        """Return which of the descriptors are ready, as soon as one is; raises `Failure` if nobody wants the node."""
        watched = [*fds] if self.kept else [*fds, STDIN]
        ready = select.select(watched, [], [], timeout)[0]
        if STDIN in ready:
            chunk = os.read(STDIN, 4096)
            self._text += chunk
            self._look()
            if not chunk and not self.kept:
                raise Failure("bootstrap", "it was not wanted any more")
        return [fd for fd in ready if fd != STDIN]
