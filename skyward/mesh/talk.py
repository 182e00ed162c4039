"""What the client says to its nodes: messages made of what the engine wants. `hearing` has what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skyward.errors import ProtocolError
from skyward.wire.codec import encode, pack_body
from skyward.wire.frames import Repeated, shared_among
from skyward.wire.lone import MAX_SMALL, Call
from skyward.wire.messages import (
    MAX_BATCH,
    Answer,
    Beat,
    Bye,
    Cancel,
    Function,
    Member,
    Message,
    Module,
    Release,
    Roster,
    Tasks,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skyward.dispatch.tasks import Task
    from skyward.mesh.engine import Engine
    from skyward.mesh.mate import Mate
    from skyward.wire.frames import Buffer
    from skyward.wire.functions import FunctionBlob

KNOWN: Final = 65_536  # keys of code that we know a node to have; what we forget is sent once more
ACK_EVERY: Final = 4 * 2**20  # bytes of results after which we acknowledge without waiting for the next beat
SHOWN_EVERY: Final = 256 * 1024  # bytes of lines after which the node is told: a quarter of what may be on the way


class Talk:
    """Speaks for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def send(self, mate: Mate, message: Message, body: Sequence[Buffer] = (), *, repeated: bool = False) -> None:
        """Send one message; if it is ``repeated``, others with the same large frames are about to follow."""
        link = mate.link
        if link is None:
            return
        if link.cutter is None or not body:
            link.send([encode(message), *body])
            return
        for frames in link.cutter.cut(link.epoch, message, body, repeated=repeated):
            link.send(frames)

    def tasks(self, mate: Mate, tasks: Sequence[Task]) -> None:
        """Send a batch of tasks, with the code that the node lacks before it."""
        if len(tasks) == 1 and self.call(mate, tasks[0]):
            return
        link = mate.link
        assert link is not None
        index: dict[bytes, int] = {}
        fns: list[int] = []
        for task in tasks:
            key = task.function.key
            if key not in index:
                index[key] = len(index)
                if key not in link.functions:
                    self.function(mate, task.function)
            fns.append(index[key])
        sizes, buffers, body = pack_body([(task.data, task.buffers) for task in tasks])
        retries = [task.retries - task.losses for task in tasks]
        timeouts = [task.timeout for task in tasks]
        counts = [task.count for task in tasks]
        crashes = [task.crashes for task in tasks]
        message = Tasks(
            link.epoch,
            link.seen,
            list(index),
            [task.id for task in tasks],
            fns,
            sizes,
            buffers,
            retries if any(retries) else [],
            timeouts if any(timeouts) else [],
            shared_among(body),
            counts if max(counts) > 1 else [],
            crashes if any(crashes) else [],
        )
        self.release(mate)  # first, so that what these tasks return finds room
        link.unacked = 0
        repeated = link.cutter is not None and any(type(task.buffers) is Repeated for task in tasks)
        self.send(mate, message, body, repeated=repeated)

    def call(self, mate: Mate, task: Task, *, alone: bool = False) -> bool:
        """Send a task in one frame, if it is small enough; return whether it is. ``alone``: nothing is under way."""
        link, data = mate.link, task.data
        if link is None or not link.calls or not 0 < len(data) <= (mate.max_payload or MAX_SMALL):
            return False
        if task.buffers or task.count > 1 or task.crashes or len(data) > MAX_SMALL:
            return False
        key = task.function.key
        if key not in link.functions:
            self.function(mate, task.function)
        sharing = self._engine.sharing
        if sharing is not None and sharing.waiting.get(mate.rank):
            self.release(mate)
        link.unacked = 0
        id, data = task.id, data if type(data) is bytes else bytes(data)
        frame = encode(Call(link.epoch, link.seen, key, id, data, task.retries - task.losses, task.timeout))
        if not (alone and link.send_by_lane(frame)):
            link.send_task(frame, id)
        return True

    def function(self, mate: Mate, blob: FunctionBlob) -> None:
        """Send a function's code and the module sources it needs, once per node, unless it asks for them."""
        link = mate.link
        assert link is not None
        if len(link.functions) + len(link.modules) >= KNOWN:
            link.functions.clear()
            link.modules.clear()
        for module in blob.modules:
            if module.key not in link.modules:
                link.modules.add(module.key)
                self.send(mate, Module(link.epoch, module.key, module.name), [module.body])
        link.functions.add(blob.key)
        keys = [module.key for module in blob.modules]
        self.send(mate, Function(link.epoch, blob.key, keys, blob.name), [blob.body])

    def resend(self, mate: Mate, functions: Iterable[bytes]) -> None:
        """Send code that the node lacks: tasks that it has been sent hold it."""
        link, engine = mate.link, self._engine
        assert link is not None
        node = engine.scheduler.nodes.get(mate.rank)
        tasks = node.in_flight.values() if node is not None else ()
        blobs = {task.function.key: task.function for task in tasks}
        for key in functions:
            blob = blobs.get(key)
            if blob is not None:
                link.modules.difference_update(module.key for module in blob.modules)
                self.function(mate, blob)
            elif not engine.closing:  # else its tasks have been cancelled
                raise ProtocolError("the node asks for code of which it has no task")

    def cancel(self, mate: Mate, ids: list[int], *, running: bool) -> None:
        """Ask the node to stop tasks."""
        assert mate.link is not None
        for start in range(0, len(ids), MAX_BATCH):
            self.send(mate, Cancel(mate.link.epoch, ids[start : start + MAX_BATCH], running))

    def beat(self, mate: Mate, now: float) -> None:
        """Show that we live, and acknowledge results."""
        link, control = mate.link, mate.control
        if link is not None and link.ready:
            link.unacked = 0
            link.said = link.shown
            if now:
                self._engine.hearing.tidy(now)
            self.release(mate)
            if link.cutter is not None and (parcels := link.cutter.drop(link.epoch)) is not None:
                self.send(mate, parcels)
            frame = encode(Beat(link.epoch, link.seen, now, link.heard, link.shown))
            link.send([frame])  # also to find out if the node knows this connection
            if control is not None and control.ready:
                control.send([frame])

    def release(self, mate: Mate) -> None:
        """Say which results in shared memory nobody reads any more."""
        sharing, link = self._engine.sharing, mate.link
        if sharing is not None and link is not None and link.is_open:  # else it would be dropped
            while regions := sharing.released(mate.rank):
                self.send(mate, Release(link.epoch, regions))

    def goodbye(self, mate: Mate, reason: str = "the pool is closed") -> None:
        """End the session, or answer the node that has: over both links, for the first may be full for long."""
        if (link := mate.link) is not None and link.ready:
            for each in mate.ready_links():
                each.send_last([encode(Bye(link.epoch, link.seen, reason))])

    def roster(self) -> None:
        """Tell every ready node who the nodes are now."""
        engine = self._engine
        ready = engine.crew.ready_mates()
        members = [
            Member(mate.rank, mate.launched.address, mate.launched.private_address, mate.launched.public_key)
            for mate in ready
        ]
        slots = [mate.slots for mate in ready]
        for mate in ready:
            assert mate.link is not None
            job = engine.session.hex()
            self.send(mate, Roster(mate.link.epoch, mate.rank, job, members, slots, engine.head_port))

    def answer(self, mate: Mate, message: Answer, body: Sequence[Buffer]) -> None:
        """Tell a task what became of its calls."""
        if mate.link is not None:
            self.send(mate, mate.link.unconfirmed.add(message, body), body)

    def took(self, mate: Mate, size: int) -> None:
        """Count bytes that the node keeps until it knows that we have them; tell it when they are many."""
        link = mate.link
        if link is not None:
            link.unacked += size
            if link.unacked > ACK_EVERY:
                self.beat(mate, 0.0)

    def shown(self, mate: Mate, size: int) -> None:
        """Count lines that have come; the node sends no more than some before it knows that they have."""
        link = mate.link
        assert link is not None
        link.shown += size
        if link.shown - link.said > SHOWN_EVERY:
            self.beat(mate, 0.0)
