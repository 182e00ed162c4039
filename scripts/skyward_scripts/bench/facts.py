"""Where figures were measured: the machine, the versions, the commit, and how busy it was."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from skyward.machine.cpus import usable_cpus
from skyward.transport.library import describe

PACKAGES: Final = ("skyward", "cloudpickle", "msgspec", "pyzmq", "numpy")
BUSY: Final = 0.3  # runnable tasks per CPU before the run: above it, others have taken part


def gather_facts() -> dict[str, Any]:
    """Return everything that a figure depends on and that is known before the run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cpus": usable_cpus(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libzmq": ".".join(map(str, describe().libzmq)),
        "versions": {name: _installed(name) for name in PACKAGES},
        "commit": _commit(),
        "load": os.getloadavg()[0],
    }


def warnings(facts: dict[str, Any]) -> list[str]:
    """Return why figures measured here and now are not to be trusted, if so."""
    found: list[str] = []
    if facts["load"] > BUSY * facts["cpus"]:
        found.append(
            f"the machine was busy when the run began (load {facts['load']:.1f} on {facts['cpus']} CPUs): "
            "absolute figures say nothing, and ratios little"
        )
    if facts["commit"].endswith("+"):
        found.append("the checkout has changes that are in no commit")
    return found


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """Return the commit that is checked out, with a plus sign if files differ; "" outside a checkout."""
    commit = _git("rev-parse", "HEAD")
    return commit + ("+" if commit and _git("status", "--porcelain") else "")


def _git(*arguments: str) -> str:
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        done = subprocess.run(["git", "-C", here, *arguments], capture_output=True, text=True, check=False)  # noqa: S607 - the user's git
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
