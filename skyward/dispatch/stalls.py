"""Whether a connection that does not get on is to be dialled again.

A connection stalls when what was sent over it had to be sent again, and is unconfirmed still. That alone says little:
the network may be gone, or lose a packet, or be slow, and then a new connection does no better and begins anew what was
under way. So the node's port is asked meanwhile, again and again. As soon as answers come to what was asked later than
the stall began, the network passes: it is this connection that does not, because it was forgotten on the way, or
because the system's next try lies seconds ahead. Then, and only then, another one is worth more than the old one.
Nothing more is thought of while that is being made, nor soon after, until the node answers over it.

PURE: the clock is a number.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

ANSWERS: Final = 2  # after which a stall is not the loss of one packet more
PATIENCE: Final = 0.5  # seconds that ZeroMQ has to replace a broken connection by itself: it takes two tenths
GRACE: Final = 3.0  # seconds that a dial may take, and a handshake far away, before another is thought of
LONGEST: Final = 60.0  # seconds: each dial without an answer is given twice the time of the one before, up to this
LOOKS: Final = (0.05, 0.2)  # seconds between two looks: bounds on a third of a heartbeat


class Flow(Enum):
    """How a connection gets on."""

    FLOWS = "flows"  # what is sent is confirmed, as far as we know
    STALLS = "stalls"  # it had to be sent again, and is not
    DOWN = "is down"  # there is none at present


class _Stall:
    __slots__ = ("answers", "flow", "grace", "since")

    def __init__(self, now: float) -> None:
        self.flow = Flow.FLOWS
        self.since = now  # in the future: it has just been dialled
        self.answers = 0
        self.grace = GRACE  # of the next dial


class Stalls:
    """How connections get on, by what stands for them; one that is dialled again is the same one."""

    def __init__(self) -> None:
        self._stalls: dict[Hashable, _Stall] = {}

    def note(self, link: Hashable, flow: Flow, now: float) -> bool:
        """Take in how a connection gets on; return whether the node's port is to be asked."""
        stall = self._stalls.get(link)
        if stall is None:
            stall = self._stalls[link] = _Stall(now)
        if now < stall.since:
            return False
        if stall.flow is not flow:
            stall.flow, stall.since, stall.answers = flow, now, 0
        return flow is Flow.STALLS or (flow is Flow.DOWN and now >= stall.since + PATIENCE)

    def answered(self, link: Hashable, asked: float, now: float) -> bool:
        """The port has answered what was asked at that moment; return whether to dial the connection again."""
        stall = self._stalls.get(link)
        if stall is None or stall.flow is Flow.FLOWS or asked < stall.since:
            return False
        stall.answers += 1
        if stall.flow is Flow.DOWN:
            if now < stall.since + PATIENCE:
                return False
        elif stall.answers < ANSWERS:
            return False
        stall.since, stall.answers = now + stall.grace, 0
        stall.grace = min(2 * stall.grace, LONGEST)
        return True

    def forget(self, link: Hashable) -> None:
        """Begin anew: the connection is gone for good, or the node has answered over it."""
        self._stalls.pop(link, None)


def pause(heartbeat: float) -> float:
    """Return the seconds between two looks at connections: what is forgotten is replaced within three heartbeats."""
    least, most = LOOKS
    return min(max(heartbeat / 3, least), most)
