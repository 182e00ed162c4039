"""What tests of nodes on this machine share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward.providers.local import Local

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def provider() -> Iterator[Local]:
    """Return a provider that has been prepared."""
    local = Local()
    local.prepare()
    yield local
    local.close()
