"""How pools are reached that a test opens without saying so: ``pytest --transport tcp`` has them behind CURVE."""

from __future__ import annotations

import re

import pytest

from skyward.providers.local import Local

OPTION = "--transport"
CHOICES = ("ipc", "tcp")  # the first is what users get


def add_option(parser: pytest.Parser) -> None:
    """Let a run choose."""
    parser.addoption(OPTION, choices=CHOICES, default=CHOICES[0], help="of the pools in tests/rules and tests/chaos")


def choose(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the run's choice the default of `sky.Local`, for one test of this process, and return it."""
    chosen = str(request.config.getoption(OPTION))
    marker = request.node.get_closest_marker("ipc_only")
    if marker is not None and chosen != "ipc":
        pytest.skip(marker.args[0])
    monkeypatch.setattr(Local.__init__, "__defaults__", (chosen,))
    return chosen


def chosen_in(source: str) -> str:
    """Return a program whose pools are reached in this way, too, where it does not say how."""
    default = Local().transport
    if default == "ipc":
        return source
    return re.sub(r"sky\.Compute\((?!sky\.|provider)", f"sky.Compute(sky.Local({default!r}), ", source)
