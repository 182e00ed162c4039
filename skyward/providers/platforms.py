"""Kinds of machines, and which wheels run on them. Pure, but for `Platform.here`."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass
from typing import Any, Final

_OLD_NAMES: Final = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}  # PEP 513, 571, 599
_LIBC: Final = re.compile(r"(many|musl)linux_(\d+)_(\d+)_(\w+)")  # PEP 600, 656
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What has to be known of a machine to send it wheels."""

    machine: str  # as `uname -m` has it: "x86_64", "aarch64"
    libc: str = "glibc"  # or "musl"
    libc_version: tuple[int, int] = (2, 17)  # the oldest that anybody makes wheels for
    python: str = f"{sys.version_info[0]}.{sys.version_info[1]}"  # nodes have the client's, by the first two numbers
    system: str = "Linux"

    @classmethod
    def here(cls) -> Platform:
        """Return this machine's."""
        return cls.of({"system": platform.system(), "machine": platform.machine(), "libc": platform.libc_ver()})

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Platform:
        """Return that of a machine which has said its ``system``, ``machine`` and ``libc``, a (name, version)."""
        libc, version = facts["libc"]
        found = _VERSION.match(version)
        # Python cannot tell which musl there is; it names none, and 1.1 is the oldest with wheels.
        known = (libc, (int(found[1]), int(found[2]))) if libc and found else ("musl", (1, 1))
        return cls(system=facts["system"], machine=facts["machine"], libc=known[0], libc_version=known[1])

    def __str__(self) -> str:
        return f"{self.system} on {self.machine}"

    def runs(self, tag: str, built: Platform) -> bool:
        """Return whether wheels with this tag run there; those for one kind alone were built on ``built``."""
        place = tag.rpartition("-")[2]
        if place == "any":
            return True
        name, _, machine = place.partition("_")
        if name in _OLD_NAMES:
            return (self.libc, self.machine) == ("glibc", machine) and self.libc_version >= _OLD_NAMES[name]
        if (found := _LIBC.fullmatch(place)) is not None:
            libc = "glibc" if found[1] == "many" else "musl"
            least = int(found[2]), int(found[3])
            return (self.libc, self.machine) == (libc, found[4]) and self.libc_version >= least
        return name == "linux" and machine == self.machine and self._is_like(built)

    def _is_like(self, built: Platform) -> bool:
        same = (self.system, self.machine, self.libc) == (built.system, built.machine, built.libc)
        return same and self.libc_version >= built.libc_version

    @property
    def wheel_tag(self) -> str:
        """Return the newest kind of wheels that installers know by name and that runs there."""
        if self.libc == "musl":
            return "musllinux_1_1"
        return "manylinux_2_28" if self.libc_version >= (2, 28) else "manylinux_2_17"
