"""What `sky.instance_info()` says in a worker, from what the daemon has told it and its environment."""

from __future__ import annotations

import os
from _socket import gethostname
from typing import TYPE_CHECKING

from skyward import runtime
from skyward.runtime import InstanceInfo, Peer
from skyward_node.executors.environment import ACCELERATORS

if TYPE_CHECKING:
    from skyward_node.pipe_messages import Context


def instance_of(context: Context, slot: int) -> InstanceInfo:
    """Return the place of a slot of a worker in the mesh."""
    members = sorted(zip(context.members, context.slots, strict=True), key=lambda pair: pair[0].rank)
    head = members[0][0]
    worker = context.index + slot
    mine = os.environ.get(ACCELERATORS)  # this worker's share
    return InstanceInfo(
        node=context.rank,
        worker=worker,
        total_nodes=members[-1][0].rank + 1,  # also while a rank between is vacant: every rank is less than this
        workers_per_node=next((slots for member, slots in members if member.rank == context.rank), 1),
        job_id=context.job,
        head_addr=head.private_address,
        head_port=context.head_port,
        peers=tuple(
            Peer(member.rank, private_address=member.private_address, public_address=member.address)
            for member, _ in members
        ),
        hostname=gethostname(),
        global_worker_index=sum(slots for member, slots in members if member.rank < context.rank) + worker,
        total_workers=sum(context.slots),
        accelerators=tuple(mine.split(",") if context.accelerators and mine else context.accelerators),
    )


def enter(context: Context | None, slot: int) -> None:
    """Tell the tasks of this thread where they run, once the daemon has told us."""
    if context is not None:
        runtime.set_instance(instance_of(context, slot))
