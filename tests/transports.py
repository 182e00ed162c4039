"""How pools are reached that a test opens without saying so: ``pytest --transport tcp`` has them behind CURVE."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from skyward.providers.local import Local

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTION = "--transport"
CHOICES = ("ipc", "tcp")  # the first is what users get


def add_option(parser: pytest.Parser) -> None:
    """Let a run choose."""
    parser.addoption(OPTION, choices=CHOICES, default=CHOICES[0], help="of the pools in tests/rules and tests/chaos")


@pytest.fixture
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make it the default of `sky.Local`, for one test of this process."""
    chosen: str = request.config.getoption(OPTION)
    marker = request.node.get_closest_marker("ipc_only")
    if marker is not None and chosen != "ipc":
        pytest.skip(marker.args[0])
    monkeypatch.setattr(Local.__init__, "__defaults__", (chosen,))
    yield chosen
    assert Local().transport == chosen


def chosen_in(source: str) -> str:
    """Return a program whose pools are reached in this way, too, where it does not say how."""
    (default,) = Local.__init__.__defaults__ or ()
    if default == "ipc":
        return source
    return re.sub(r"sky\.Compute\((?!sky\.|provider)", f"sky.Compute(sky.Local({default!r}), ", source)
