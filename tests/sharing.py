"""Which tests have to run on one worker of a parallel run: those that share what is dear to make.

With ``--dist loadgroup`` every other test goes to whichever worker is free, so that none is idle while another has a
long file before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OURS: Final = "tests"  # where fixtures of ours are made; pytest has some for a whole run, too, which cost nothing
CHEAP: Final = {"machine_will_do", "commands"}  # looks that both workers may take


def mark_groups(items: Sequence[pytest.Item]) -> None:
    """Say of each test that shares something to which group it belongs."""
    for item in items:
        names = sorted(set(_shared(item)))
        if names:
            item.add_marker(pytest.mark.xdist_group(names[0]))


def _shared(item: pytest.Item) -> Iterator[str]:
    """Yield the fixtures of ours that a test uses and others may use too."""
    definitions = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    for name, (*_, last) in definitions.items():
        if last.scope != "function" and name not in CHEAP and last.baseid.startswith(OURS):
            yield name if last.scope == "session" else f"{item.path.stem}-{name}"
