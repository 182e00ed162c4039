"""What tests need of the system, and do not find: installed by the session that needs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

LIMIT = 300  # seconds that an installation may take


def install(packages: Mapping[str, str]) -> None:
    """Install the packages whose commands, the keys, are missing; raises `RuntimeError` that names what to run."""
    missing = sorted({package for command, package in packages.items() if not _is_there(command)})
    if not missing:
        return
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=120", "install", "-y", "-q", "--no-install-recommends", *missing]
    said = ""
    for before in ([], ["apt-get", "update", "-q"]):
        try:
            if before:
                subprocess.run(before, capture_output=True, check=False, timeout=LIMIT)
            with _no_services():
                env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT, env=env)
        except OSError as error:  # no Debian, or not root
            said = str(error)
            break
        if done.returncode == 0:
            return
        said = done.stdout + done.stderr
    raise RuntimeError(f"these tests need {', '.join(missing)}: {' '.join(command)}\n{said}")


def _is_there(command: str) -> bool:
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return shutil.which(command, path=places) is not None


@contextmanager
def _no_services() -> Generator[None]:
    """Keep packages that are installed from starting servers."""
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
        policy.chmod(0o700)
    try:
        yield
    finally:
        if ours:
            policy.unlink()
