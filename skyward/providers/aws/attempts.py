"""Where an instance is asked for, in which order, and when to give up.

EC2 says at once that a zone has no room: then the next subnet is tried, in another zone. With ``spot-if-available``
all zones are asked for a spot instance first.

PURE: what went wrong goes in, the next place comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from skyward.providers.aws.failures import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.providers.aws.settings import Allocation

Market = Literal["spot", "on-demand"]


@dataclass(frozen=True, slots=True)
class Subnet:
    """A part of a network, in one zone."""

    id: str
    zone: str
    vpc: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where, and how, an instance is asked for."""

    subnet: Subnet
    market: Market

    def __str__(self) -> str:
        return f"{self.market} in {self.subnet.zone}"


def places(subnets: Sequence[Subnet], allocation: Allocation) -> tuple[Place, ...]:
    """Return where to try, best first. All nodes start with the same zone: between zones traffic is slow, and costs."""
    markets: tuple[Market, ...] = ("spot", "on-demand") if allocation == "spot-if-available" else (allocation,)
    return tuple(Place(subnet, market) for market in markets for subnet in subnets)


class Attempts:
    """The places that are left for one node."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._left = list(places)
        self.refusals: list[str] = []  # what was said where

    @property
    def place(self) -> Place | None:
        """Return where to try now; None if nowhere is left."""
        return self._left[0] if self._left else None

    def refused(self, kind: Kind, said: str) -> bool:
        """Note that the present place has failed; return whether it is worth while to go on to the next."""
        place = self._left.pop(0)
        self.refusals.append(f"{place}: {said}")
        if kind is Kind.QUOTA:  # it is the same in all zones, but each market has its own
            self._left = [other for other in self._left if other.market != place.market]
        return kind is Kind.CAPACITY or (kind is Kind.QUOTA and bool(self._left))
