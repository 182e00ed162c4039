"""How many CPUs this process may really use: affinity and cgroup quotas count, not what the machine has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

CGROUPS: Final = "/sys/fs/cgroup"


def usable_cpus() -> int:
    """Return the number of CPUs, at least 1; a quota of one and a half counts as two."""
    return cpus_within(len(os.sched_getaffinity(0)), _read("/proc/self/cgroup"), CGROUPS)


def cpus_within(affinity: int, membership: str, mount: str) -> int:
    """Return ``affinity``, or less if a quota of the cgroups named in ``membership`` is tighter.

    ``membership`` is the text of ``/proc/self/cgroup``. In a container it may name the host's path, of which
    only the root is mounted: folders that do not exist are passed over, and the root always counts.
    """
    quotas = [quota for folder in _folders(membership, mount) if (quota := _quota(folder)) is not None]
    # Rounded up: with one worker too many the quota is used up, with one too few a part is never used.
    return max(1, min([affinity, *(int(-(-quota // 1)) for quota in quotas)]))


def _folders(membership: str, mount: str) -> Iterator[str]:
    """Yield the folders that hold this process's CPU quotas, from its own up to the root."""
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":  # version 2
            roots = [mount, f"{mount}/unified"]
        elif "cpu" in controllers.split(","):
            roots = [f"{mount}/{controllers}", f"{mount}/cpu"]
        else:
            continue
        for root in roots:
            parts = [part for part in path.split("/") if part]
            for depth in range(len(parts), -1, -1):
                yield "/".join([root, *parts[:depth]])


def _quota(folder: str) -> float | None:
    """Return the quota set in one folder, in CPUs; None if there is none."""
    words = _read(f"{folder}/cpu.max").split() or [
        _read(f"{folder}/cpu.cfs_quota_us").strip(),
        _read(f"{folder}/cpu.cfs_period_us").strip(),
    ]
    try:
        quota, period = int(words[0]), int(words[1])
    except (IndexError, ValueError):  # "max": no quota; or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
