"""The life of a node as its pool sees it, and the one table of the moves its state can make.

A rank is *free* (None) until a node is launched for it. The node is `STARTING` until it has answered our hello, `READY`
while it takes tasks, and `DRAINING` once it shall go. Until it has gone it may be taken back, to where it was. Whatever
ends it, its rank is free then.

PURE: no nodes, no clock.
"""

from __future__ import annotations

from typing import Final

from skyward.model import NodeState
from skyward.moves import IllegalMove

State = NodeState | None
Moves = dict[State, State]

# event -> state before -> state after. What is not here cannot happen.
LAUNCH: Final = "launch"
JOIN: Final = "join"
RETIRE: Final = "retire"
KEEP: Final = "keep"
EXPECT: Final = "expect"
GONE: Final = "gone"
TABLE: Final[dict[str, Moves]] = {
    LAUNCH: {None: NodeState.STARTING},
    # One that was let go before it had come leaves as soon as it has.
    JOIN: {NodeState.STARTING: NodeState.READY, NodeState.DRAINING: NodeState.DRAINING},
    RETIRE: {NodeState.STARTING: NodeState.DRAINING, NodeState.READY: NodeState.DRAINING},
    # Taken back, because there shall be more nodes again: one that has come, and one that is still on its way.
    KEEP: {NodeState.DRAINING: NodeState.READY},
    EXPECT: {NodeState.DRAINING: NodeState.STARTING},
    # Lost, refused, not launched, or gone as it should be. Said twice, only the first counts.
    GONE: {NodeState.STARTING: None, NodeState.READY: None, NodeState.DRAINING: None, None: None},
}


def move(states: dict[int, NodeState], rank: int, event: str) -> State:
    """Move a node as the table says, and return what it was before; raises `IllegalMove` where it says nothing."""
    before = states.get(rank)
    try:
        after = TABLE[event][before]
    except KeyError:
        state = before.value if before is not None else "not there"
        raise IllegalMove(f"node {rank}, which is {state},", event) from None
    if after is None:
        states.pop(rank, None)
    else:
        states[rank] = after
    return before
