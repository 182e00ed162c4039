"""The workers of a node: how many there are, whom they serve, and when they come and go.

A worker serves one session for its life, so that two sessions never share a process. Workers that
have no session yet are kept ready. Those that idle stay for a while, because a new process costs
more than an idle one; when there are too many, the one that idled longest goes first.

PURE: no processes; the clock is a number.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from skyward_node.core.actions import Kill, Retire, Spawn
from skyward_node.core.node import LEAVE
from skyward_node.core.workers import Worker

if TYPE_CHECKING:
    from skyward_node.core.node import Node
    from skyward_node.core.sessions import Session

IDLE: Final = 5.0  # seconds a worker above the node's concurrency may idle: longer than between two batches
LEAVING: Final = 2.0  # seconds a retired worker may take to end (atexit handlers, threads that finish)
EXTRA: Final = 256  # workers for lent slots: a bound against recursion without end
FIRST_PAUSE: Final = 0.05  # seconds before a worker is started again after one did not come up
LONGEST_PAUSE: Final = 5.0  # seconds; doubles up to here, so that a full process table is not hammered


def spawn(node: Node) -> Worker:
    """Start a worker without a session."""
    taken = {other.place for other in node.workers.values() if not other.leaving}
    place = next(place for place in range(len(taken) + 1) if place not in taken)
    threads = node.limits.threads
    worker = Worker(node.next_worker, node.limits.concurrency if threads else 1, place, node.now, threads=threads)
    node.next_worker += 1
    node.workers[worker.id] = worker
    node.unbound[worker.id] = worker
    node.actions.append(Spawn(worker.id, worker.slots, place))
    return worker


def staying(node: Node) -> int:
    """Return how many workers there are that will get work."""
    return sum(not worker.leaving for worker in node.workers.values())


def replenish(node: Node) -> None:
    """Keep as many workers as the node has slots, so that no task waits for a process to start."""
    if node.draining or node.now < node.spawn_after:
        return
    wanted = 1 if node.limits.threads else node.limits.concurrency
    for _ in range(wanted - staying(node)):
        spawn(node)


def prepare(node: Node) -> None:
    """Have workers ready for a session that has just come."""
    wanted = 1 if node.limits.threads else node.limits.concurrency
    if not node.draining and node.now >= node.spawn_after:
        for _ in range(min(wanted - len(node.unbound), 2 * wanted - staying(node))):
            spawn(node)


def free_worker(node: Node, session: Session, *, fresh: bool) -> Worker | None:
    """Return a worker of the session that can start a task now; with ``fresh`` one that never ran any."""
    if node.limits.threads:
        for worker in session.workers.values():
            if not worker.leaving:
                return worker if worker.load < worker.slots else None
    elif session.idle and not fresh:
        return session.idle[next(reversed(session.idle))]
    if not node.unbound:
        if not _make_room(node):
            return None
        spawn(node)
    return bind(node, session)


def _make_room(node: Node) -> bool:
    """Return whether one more worker may start; lets an idle one go if there are too many."""
    if node.now < node.spawn_after:
        return False
    most = 2 * node.limits.concurrency + node.lent
    if staying(node) >= most:
        idle = [worker for session in node.sessions.values() for worker in session.idle.values()]
        if idle:
            retire(node, min(idle, key=lambda worker: (worker.idle_since, worker.id)))
    return True


def bind(node: Node, session: Session) -> Worker:
    """Let the session have a worker that has none yet."""
    worker = next((worker for worker in node.unbound.values() if worker.spawned), None)
    if worker is None:
        worker = next(iter(node.unbound.values()))
    del node.unbound[worker.id]
    worker.session = session
    session.workers[worker.id] = worker
    session.idle[worker.id] = worker
    return worker


def seat(session: Session, worker: Worker) -> None:
    """Say which slot of the node an idle worker takes: the one it had if that is free, else the lowest.

    There are more workers than slots while slots are lent, and for some time afterwards.
    """
    seats = session.seats

    def is_free(index: int) -> bool:
        holder = seats.get(index)
        return holder is None or holder is worker or not holder.load

    if not is_free(worker.index):
        worker.index = next(filter(is_free, itertools.count()))
    seats[worker.index] = worker


def account(node: Node, worker: Worker) -> None:
    """Bring the books up to date after the worker's tasks have changed."""
    node.running += worker.measure()
    session = worker.session
    if session is None or worker.leaving:
        return
    if worker.tasks:
        session.idle.pop(worker.id, None)
    elif worker.id not in session.idle:
        session.idle[worker.id] = worker
        worker.idle_since = node.now
        if worker.spent or (worker.used and not node.limits.reuse):
            retire(node, worker)
            replenish(node)


def spend(node: Node, worker: Worker) -> None:
    """Let a worker end when what it runs has ended; another takes its place then."""
    worker.spent = True
    if not worker.tasks:
        retire(node, worker)
        replenish(node)


def retire(node: Node, worker: Worker) -> None:
    """Let an idle worker end; kill it if it does not."""
    worker.retiring = True
    _withdraw(node, worker)
    node.actions.append(Retire(worker.id))
    node.at(node.now + LEAVING, LEAVE, worker)


def kill(node: Node, worker: Worker) -> None:
    """Kill a worker. Its slot is free at once; what it held is decided when its end is reported."""
    if worker.dying:
        return
    worker.dying = True
    _withdraw(node, worker)
    node.running += worker.measure()
    node.actions.append(Kill(worker.id))


def _withdraw(node: Node, worker: Worker) -> None:
    node.unbound.pop(worker.id, None)
    node.stuck.pop(worker.id, None)
    if worker.session is not None:
        worker.session.idle.pop(worker.id, None)


def remove(node: Node, worker: Worker) -> None:
    """Forget a worker that has ended."""
    del node.workers[worker.id]
    _withdraw(node, worker)
    if worker.session is not None:
        worker.session.workers.pop(worker.id, None)
    if worker.spawned:
        node.dead_starts = 0
    else:
        pause = min(FIRST_PAUSE * 2.0**node.dead_starts, LONGEST_PAUSE)
        node.dead_starts += 1
        node.spawn_after = node.now + pause


def trim(node: Node) -> None:
    """Let workers go that idled for long, down to the node's concurrency."""
    surplus = staying(node) - (1 if node.limits.threads else node.limits.concurrency)
    if surplus <= 0:
        return
    idle = [*node.unbound.values(), *(w for session in node.sessions.values() for w in session.idle.values())]
    idle.sort(key=lambda worker: (worker.idle_since, worker.id))
    for worker in idle[:surplus]:
        if node.now - worker.idle_since >= IDLE:
            retire(node, worker)
