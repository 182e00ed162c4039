"""Compiled sources, for runs in whose environment none may lie beside them (``PYTHONDONTWRITEBYTECODE``).

Without any, each node that a test starts compiles all that it imports, which takes longer than the rest of its start.
They are kept with pytest's own cache.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest

PREFIX: Final = "PYTHONPYCACHEPREFIX"
TEMPORARY: Final = ("skyt-*", "pytest-of-*")  # directories of runs, in which no source is seen twice


def keep(config: pytest.Config) -> None:
    """Let this process, and all that it starts, find compiled sources, and leave them."""
    if sys.dont_write_bytecode and config.pluginmanager.has_plugin("cacheprovider"):
        sys.pycache_prefix = os.environ[PREFIX] = str(_place(config))
        sys.dont_write_bytecode = False
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def forget_temporary(config: pytest.Config, *parents: str) -> None:
    """Remove those whose sources lay in temporary directories of runs below these."""
    if sys.pycache_prefix is not None and config.pluginmanager.has_plugin("cacheprovider"):
        for parent in parents:
            for name in TEMPORARY:
                for path in (_place(config) / parent.lstrip("/")).glob(name):
                    shutil.rmtree(path, ignore_errors=True)


def _place(config: pytest.Config) -> Path:
    return Path(str(config.cache.mkdir("bytecode")))
