"""Leaving in good order: hand back what has not started, finish what runs, keep results until they are seen.

A client may ask it of its own session; SIGTERM asks it of the whole node. Either way there is a
deadline, and at the end a goodbye.

PURE: the clock is a number.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from skyward.wire.messages import Draining
from skyward_node.core import admission, stopping
from skyward_node.core.actions import Exit

if TYPE_CHECKING:
    from skyward_node.core.node import Node
    from skyward_node.core.sessions import Session

PARTING: Final = 0.5  # seconds for the answers to BYE: a client drops what it has not read when we hang up


def drain_session(node: Node, session: Session, grace: float, reason: str) -> None:
    """Take no more tasks of the session; it ends when all it has is done and seen, or after ``grace`` seconds."""
    session.draining = min(node.now + grace, session.draining)
    node.say(session, Draining(node.epoch, grace, reason))
    stopping.take_back(node, session, list(session.tasks.values()))


def drain_node(node: Node, grace: float, reason: str) -> None:
    """Do so for all sessions, and then end the daemon."""
    node.log("info", "draining", reason=reason, seconds=grace)
    node.draining = True
    for session in node.sessions.values():
        drain_session(node, session, grace, reason)


def check(node: Node) -> None:
    """End what is drained or has had its time."""
    ready = [session for session in node.sessions.values() if session.draining < inf and _may_end(node, session)]
    for session in ready:
        if session.peer is not None:
            node.parting.add(session.peer)
        admission.end(node, session, "drained")
    if node.draining and not node.sessions and not node.over:
        node.parts_at = min(node.parts_at, node.now + PARTING)
        if not node.parting or node.now >= node.parts_at:
            node.over = True
            node.actions.append(Exit(0))


def _may_end(node: Node, session: Session) -> bool:
    done = not session.tasks and not session.outbox and not session.returned
    return done or node.now >= session.draining
