"""The files of the project, read and parsed once, for tests about how they are written.

They are a million objects, which would make every garbage collection of tests that come later slow: modules of such
tests have the fixture `forget_sources`.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[1]
PACKAGES = {"skyward": ROOT, "skyward_node": ROOT / "node", "skyward_scripts": ROOT / "scripts"}


@cache
def sources() -> dict[str, tuple[str, ast.Module]]:
    """Return the text and the tree of every source file, by its path in the checkout."""
    return parsed(path for package, folder in PACKAGES.items() for path in (folder / package).rglob("*.py"))


@cache
def sources_of_tests() -> dict[str, tuple[str, ast.Module]]:
    """Return the same of the tests and examples."""
    return parsed(path for folder in ("tests", "docs/examples") for path in (ROOT / folder).rglob("*.py"))


def parsed(paths: Iterable[Path]) -> dict[str, tuple[str, ast.Module]]:
    """Return text and tree of files."""
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(paths)}
    return {name: (text, ast.parse(text)) for name, text in texts.items()}


def forget() -> None:
    """Let go of all trees."""
    sources.cache_clear()
    sources_of_tests.cache_clear()
