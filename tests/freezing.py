"""Standing still without a signal: a cgroup that freezes a process, as a suspended machine freezes all of them."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from typing import Self

CGROUPS: Final = Path("/sys/fs/cgroup")
PATIENCE: Final = 10.0  # seconds for what takes milliseconds


class Kind(NamedTuple):
    """How one version of cgroups freezes: what is written where, and what is then read where."""

    parent: Path
    file: str
    freeze: str
    thaw: str
    status: str
    frozen: str


KINDS: Final = (
    Kind(CGROUPS / "freezer", "freezer.state", "FROZEN", "THAWED", "freezer.state", "FROZEN"),  # version 1
    Kind(CGROUPS, "cgroup.freeze", "1", "0", "cgroup.events", "frozen 1"),  # version 2
)


class Freezer:
    """Freezes a process until `thaw`; where there is no freezer, by a signal."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._kind: Kind | None = None

    @property
    def way(self) -> str:
        """Return how it is done here."""
        return self._kind.file if self._kind is not None else "SIGSTOP"

    def __enter__(self) -> Self:
        for kind in KINDS:
            if (kind.parent / "cgroup.procs").exists() and self._freeze(kind):
                self._kind = kind
                return self
        os.kill(self._pid, signal.SIGSTOP)
        return self

    def _freeze(self, kind: Kind) -> bool:
        group = self._group(kind)
        try:
            group.mkdir()
        except OSError:  # not root, or a container that may not
            return False
        try:
            (group / "cgroup.procs").write_text(str(self._pid))
            (group / kind.file).write_text(kind.freeze)
        except OSError:
            self._leave(kind)
            return False
        deadline = time.monotonic() + PATIENCE
        while kind.frozen not in (group / kind.status).read_text():
            assert time.monotonic() < deadline, "it does not freeze"
            time.sleep(0.001)
        return True

    def _group(self, kind: Kind) -> Path:
        return kind.parent / f"skyward-{os.getpid()}-{self._pid}"

    def thaw(self) -> None:
        """Let it go on."""
        if self._kind is None:
            os.kill(self._pid, signal.SIGCONT)
        else:
            (self._group(self._kind) / self._kind.file).write_text(self._kind.thaw)

    def _leave(self, kind: Kind) -> None:
        with suppress(OSError):  # it may have ended
            (kind.parent / "cgroup.procs").write_text(str(self._pid))
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._group(kind).rmdir()
                return
            except OSError:  # it is still on its way out
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.thaw()
        if self._kind is not None:
            self._leave(self._kind)
