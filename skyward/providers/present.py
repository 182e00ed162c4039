"""What of an image this machine has: for nodes that run in the client's own environment, where nothing is installed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from skyward.errors import ProvisionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packaging.requirements import Requirement

    from skyward.image import Image

PATIENCE: Final = 30.0  # seconds for dpkg to answer from its own files


def require(image: Image) -> None:
    """Raise `ProvisionError`, which names all that is missing and what to do, unless this machine has everything."""
    problems: list[str] = []
    running = ".".join(map(str, sys.version_info[:3]))
    if image.python and not f"{running}.".startswith(f"{image.python}."):
        problems.append(f"Python {image.python}, and this is {running}: run your program with that one")
    wanted = [(entry, reason) for entry in image.pip if (reason := _lack(entry))]
    if wanted:
        command = shlex.join([*_installer(), *[entry for entry, _ in wanted]])
        problems.append(", ".join(f"{entry} ({reason})" for entry, reason in wanted) + f": {command}")
    if absent := _absent_debs(image.apt):
        problems.append(f"{', '.join(absent)}: {shlex.join(['sudo', 'apt-get', 'install', *absent])}")
    if problems:
        raise ProvisionError(
            "nodes of this machine have what this machine has, and the image needs more:\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )


def _installer() -> list[str]:
    """Return the command that installs into this environment; those that uv has made bring no pip."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install"]
    return ["uv", "pip", "install", "--python", sys.executable]


def _lack(entry: str) -> str:
    """Return why a requirement is not met here; "" if it is."""
    from packaging.requirements import Requirement

    return next(_lacks(Requirement(entry), ("",), set()), "")


def _lacks(requirement: Requirement, extras: Sequence[str], seen: set[str]) -> Iterator[str]:
    marker = requirement.marker
    if str(requirement) in seen or (marker and not any(marker.evaluate({"extra": extra}) for extra in extras)):
        return
    seen.add(str(requirement))
    try:
        found = distribution(requirement.name)
    except PackageNotFoundError:
        yield f"{requirement.name} is not installed"
        return
    if not requirement.specifier.contains(found.version, prereleases=True):
        yield f"{found.version} is installed"
    if requirement.extras:  # what it needs without them was installed with it
        yield from _lacks_of_extras(found.requires or [], sorted(requirement.extras), seen)


def _lacks_of_extras(requires: list[str], extras: Sequence[str], seen: set[str]) -> Iterator[str]:
    from packaging.requirements import Requirement

    for text in requires:
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            yield from _lacks(needed, extras, seen)


def _absent_debs(names: Sequence[str]) -> list[str]:
    query = shutil.which("dpkg-query")
    return [name for name in names if query is None or not _is_installed(query, name)]


def _is_installed(query: str, name: str) -> bool:
    package, _, version = name.partition("=")
    command = [query, "--show", "--showformat=${db:Status-Status} ${Version}\n", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    return any(status == "installed" and version in ("", present) for status, present in lines)
