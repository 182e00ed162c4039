"""Versions of the packages that decide whether one end can unpickle what the other has sent."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PACKAGES: Final = frozenset({"skyward", "cloudpickle", "msgspec", "numpy", "pandas", "torch"})
_METADATA: Final = re.compile(r"(?P<name>[A-Za-z0-9_.]+)-(?P<version>[^-]+)\.dist-info")


def package_versions(paths: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of `PACKAGES`, by the names of their metadata directories.

    ``importlib.metadata`` would say the same, but costs some 20 ms before the first result.
    """
    found: dict[str, str] = {}
    for path in paths:
        try:
            names = os.listdir(path or ".")
        except OSError:  # not a directory, or gone
            continue
        for name in names:
            match = _METADATA.fullmatch(name)
            if match and match["name"].lower() in PACKAGES:
                found.setdefault(match["name"].lower(), match["version"])
    return found


def differences(client: Mapping[str, str], node: Mapping[str, str]) -> list[str]:
    """Return a line for each package whose first two numbers differ: formats change with these. PURE."""
    return [
        f"{name} differs: client has {client[name]}, node has {node[name]}; what one pickles the other may not read"
        for name in sorted(client.keys() & node.keys())
        if client[name].split(".")[:2] != node[name].split(".")[:2]
    ]
