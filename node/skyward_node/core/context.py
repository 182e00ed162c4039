"""What a worker is told about whom it serves and where it stands in the mesh. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyward.wire.messages import Member
from skyward_node.pipe_messages import Context

if TYPE_CHECKING:
    from skyward_node.core.node import Node
    from skyward_node.core.sessions import Session
    from skyward_node.core.workers import Worker


def make_context(session: Session, worker: Worker, node: Node) -> Context:
    """Return the message; before the first roster the node stands alone."""
    me = node.identity
    roster = session.roster
    return Context(
        session=session.key,
        rank=roster.rank if roster else 0,
        job=roster.job if roster else session.key.hex(),
        members=roster.members if roster else [Member(0, me.address, me.address)],
        slots=roster.slots if roster else [node.limits.concurrency],
        head_port=roster.head_port if roster else 0,
        index=worker.index,
        cancel_grace=session.grace,
        max_payload=session.max_payload,
        accelerators=me.accelerators,
        retries=session.retries,
        timeout=session.timeout,
        shared=session.shared,
    )
