"""What messages and tasks cost, in seconds.

The defaults were measured by `skyward-mesh simulate --calibrate`: see docs/scaling.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """The time that everything takes but the tasks themselves."""

    link: float = 80e-6  # one way between client and node, wake-up included
    pipe: float = 25e-6  # one way between daemon and worker, wake-up included
    client_message: float = 60e-6  # of the client's thread for a message, in either direction
    client_task: float = 4.2e-6  # of the same for a task: encoded, sent, its result delivered
    node_message: float = 28e-6  # of the daemon's thread for a message of a client or a worker, in either direction
    node_task: float = 1.6e-6  # of the same for a task, from its coming to its result
    worker_task: float = 15e-6  # of a worker for a task: unpickle, call, pickle
    heartbeat: float = 0.25  # between two looks of the client at what waits; an option of the pool
