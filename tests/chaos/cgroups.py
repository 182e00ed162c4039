"""Groups of processes that can be frozen, or have only so much memory, under version 1 of cgroups and under 2."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skyward_node.testing import alive, descendants

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Literal, Self

ROOT: Final = Path("/sys/fs/cgroup")
SECOND: Final = (ROOT / "cgroup.controllers").exists()
PATIENCE: Final = 20.0  # seconds in which a group is complete, or empty
PAUSE: Final = 0.005  # seconds between looks: the kernel tells nobody


class Group:
    """A process and all below it, now and later. At its end they are thawed, and may have all memory."""

    def __init__(self, controller: Literal["freezer", "memory"], root: int) -> None:
        """Raises `OSError` where such groups cannot be made."""
        self._home = ROOT if SECOND else ROOT / controller
        self._path = self._home / f"skyward-chaos-{os.getpid()}"
        self._path.mkdir()
        self._freezer = controller == "freezer"
        deadline = time.monotonic() + PATIENCE
        while missing := {pid for pid in {root, *descendants(root)} - self._members() if alive(pid)}:
            self._move(self._path, missing)  # and look again: some may have been forked meanwhile
            if time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise OSError(f"processes {missing} cannot be moved into {self._path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._freezer:
            self.thaw()
        self._move(self._home, self._members())
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._path.rmdir()
                return
            except OSError:  # somebody is still on the way out
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE)

    def _members(self) -> set[int]:
        return set(map(int, (self._path / "cgroup.procs").read_text().split()))

    def _move(self, target: Path, pids: Iterable[int]) -> None:
        for pid in pids:
            try:
                (target / "cgroup.procs").write_text(str(pid))
            except ProcessLookupError:  # it has ended
                continue

    def freeze(self) -> None:
        """Stop the clock for all of them, and return when it stands still."""
        if SECOND:
            (self._path / "cgroup.freeze").write_text("1")
        else:
            (self._path / "freezer.state").write_text("FROZEN")
        deadline = time.monotonic() + PATIENCE
        while not self._is_frozen():
            assert time.monotonic() < deadline, "it does not freeze"
            time.sleep(PAUSE)

    def _is_frozen(self) -> bool:
        if SECOND:
            return "frozen 1" in (self._path / "cgroup.events").read_text()
        return "FROZEN" in (self._path / "freezer.state").read_text()

    def thaw(self) -> None:
        """Let them go on."""
        if SECOND:
            (self._path / "cgroup.freeze").write_text("0")
        else:
            (self._path / "freezer.state").write_text("THAWED")

    def limit(self, size: int) -> None:
        """Let them have so many bytes of memory together, and no swap beside it."""
        (self._path / ("memory.max" if SECOND else "memory.limit_in_bytes")).write_text(str(size))
        swap = self._path / ("memory.swap.max" if SECOND else "memory.memsw.limit_in_bytes")
        if swap.exists():  # where the kernel counts it
            swap.write_text("0" if SECOND else str(size))
