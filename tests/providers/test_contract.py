"""Every provider keeps the contract of `skyward.providers.base`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from skyward.providers import persisting
from skyward.providers.local import Local
from skyward.testing import PROVIDER_CHECKS
from tests.leaks import end_marked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from skyward.providers.base import Provider


@pytest.mark.parametrize("make", [Local, partial(Local, "tcp")], ids=["ipc", "tcp"])
@pytest.mark.parametrize("check", PROVIDER_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_provider_keeps_the_contract(
    check: Callable[..., None], make: Callable[[], Provider], short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes come up, are told apart, die, and are gone when they should be."""
    monkeypatch.setenv("XDG_STATE_HOME", str(short_path))
    try:
        check(make)
    finally:
        end_marked(persisting.MARK, str(short_path))
