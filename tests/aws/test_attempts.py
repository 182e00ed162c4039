"""Where instances are asked for, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from skyward.providers.aws.attempts import Attempts, Subnet, places
from skyward.providers.aws.failures import Kind

A, B = Subnet("subnet-a", "eu-central-1a", "vpc-1"), Subnet("subnet-b", "eu-central-1b", "vpc-1")


def walk(attempts: Attempts, kind: Kind) -> list[str]:
    """Return all places that are tried if each fails in this way."""
    tried: list[str] = []
    while (place := attempts.place) is not None:
        tried.append(str(place))
        if not attempts.refused(kind, "no"):
            break
    return tried


@pytest.mark.parametrize(
    ("allocation", "order"),
    [
        ("on-demand", ["on-demand in eu-central-1a", "on-demand in eu-central-1b"]),
        ("spot", ["spot in eu-central-1a", "spot in eu-central-1b"]),
        (
            "spot-if-available",
            [
                "spot in eu-central-1a",
                "spot in eu-central-1b",
                "on-demand in eu-central-1a",
                "on-demand in eu-central-1b",
            ],
        ),
    ],
)
def test_zones_are_tried_in_turn(allocation: Any, order: list[str]) -> None:
    """Where there is no capacity the next subnet is tried; spot instances come first if either will do."""
    assert walk(Attempts(places([A, B], allocation)), Kind.CAPACITY) == order


def test_quota_is_the_same_everywhere() -> None:
    """A quota ends a market, not only a zone; the other market has its own."""
    assert walk(Attempts(places([A, B], "on-demand")), Kind.QUOTA) == ["on-demand in eu-central-1a"]
    tried = walk(Attempts(places([A, B], "spot-if-available")), Kind.QUOTA)
    assert tried == ["spot in eu-central-1a", "on-demand in eu-central-1a"]


@pytest.mark.parametrize("kind", [Kind.ACCESS, Kind.CREDENTIALS, Kind.OTHER, Kind.UNSURE, Kind.TYPE])
def test_other_errors_end_it_at_once(kind: Kind) -> None:
    """What would fail everywhere, or may have succeeded, is not tried elsewhere."""
    assert walk(Attempts(places([A, B], "spot-if-available")), kind) == ["spot in eu-central-1a"]
