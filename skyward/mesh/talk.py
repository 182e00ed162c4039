"""What client and node say to each other, from the client's end: messages to and from engine events."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Any, Final

from skyward.dispatch.assignment import split
from skyward.errors import AuthError, ProtocolError, VersionMismatchError
from skyward.versions import differences, package_versions
from skyward.wire.codec import Decoder, check_body, encode, mark_refs, pack_body, split_body
from skyward.wire.frames import Payload, shared_among, size_of
from skyward.wire.functions import FunctionBlob, ModuleBlob
from skyward.wire.messages import (
    MAX_BATCH,
    NODE_MESSAGES,
    OK,
    PROTOCOL,
    Answer,
    Beat,
    Bye,
    Cancel,
    Draining,
    Function,
    Hello,
    Member,
    Message,
    Module,
    Need,
    Output,
    Parcels,
    Part,
    Progress,
    Pulse,
    Refused,
    Release,
    Results,
    Returned,
    Revoke,
    Roster,
    Slots,
    Submit,
    Tasks,
    Welcome,
)
from skyward.wire.parcels import Joiner

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skyward.dispatch.tasks import Task
    from skyward.mesh.engine import Engine
    from skyward.mesh.mate import Mate
    from skyward.transport.links import Link
    from skyward.wire.frames import Buffer

HELLOS: Final = 5  # unanswered hellos after which a node does not want us
ACK_EVERY: Final = 4 * 2**20  # bytes of results after which we acknowledge without waiting for the next beat


class Talk:
    """Speaks for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._decode = Decoder(NODE_MESSAGES).decode
        self._versions = package_versions(sys.path)
        self._sources: dict[bytes, ModuleBlob] = {}  # module sources that came from nodes

    # --- to the node -----------------------------------------------------------------------

    def send(self, mate: Mate, message: Message, body: Sequence[Buffer] = ()) -> None:
        """Send one message."""
        link = mate.link
        if link is None:
            return
        if link.cutter is None or not body:
            link.send([encode(message), *body])
            return
        for frames in link.cutter.cut(link.epoch, message, body):
            link.send(frames)

    def hello(self, mate: Mate, link: Link) -> None:
        """Open the session on a fresh connection."""
        options = self._engine.options
        hello = Hello(
            protocol=PROTOCOL,
            python=platform.python_version(),
            versions=self._versions,
            session=self._engine.session,
            epoch=link.epoch,
            ack=link.seen,
            lease=options.lease,
            heartbeat=options.heartbeat,
            cancel_grace=options.cancel_grace,
            max_payload=self._engine.max_payload,
            label=f"{platform.node()}:{self._engine.pid}",
            channel="control" if link is mate.control else "data",
            retries=options.retries,
            timeout=options.timeout or 0.0,
            heard=link.heard,
            shared=self._engine.sharing is not None,
        )
        link.greet([encode(hello)])

    def tasks(self, mate: Mate, tasks: Sequence[Task]) -> None:
        """Send a batch of tasks, with the code that the node lacks before it."""
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
        sizes, buffers, body = pack_body([Payload(task.data, task.buffers) for task in tasks])
        retries = [task.retries - task.losses for task in tasks]
        timeouts = [task.timeout for task in tasks]
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
        )
        self.release(mate)  # first, so that what these tasks return finds room
        link.unacked = 0
        self.send(mate, message, body)

    def function(self, mate: Mate, blob: FunctionBlob) -> None:
        """Send a function's code and the module sources it needs, once per node."""
        link = mate.link
        assert link is not None
        self._engine.blobs[blob.key] = blob
        for module in blob.modules:
            if module.key not in link.modules:
                link.modules.add(module.key)
                self.send(mate, Module(link.epoch, module.key, module.name), [module.body])
        link.functions.add(blob.key)
        keys = [module.key for module in blob.modules]
        self.send(mate, Function(link.epoch, blob.key, keys, blob.name), [blob.body])

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
            self.release(mate)
            frame = encode(Beat(link.epoch, link.seen, now, link.heard))
            link.send([frame])  # also to find out if the node knows this connection
            if control is not None and control.ready:
                control.send([frame])

    def release(self, mate: Mate) -> None:
        """Say which results in shared memory nobody reads any more."""
        sharing, link = self._engine.sharing, mate.link
        if sharing is not None and link is not None:
            while regions := sharing.released(mate.rank):
                self.send(mate, Release(link.epoch, regions))

    def goodbye(self, mate: Mate) -> None:
        """End the session."""
        link = mate.link
        if link is not None and link.ready:
            self.send(mate, Bye(link.epoch, link.seen, "the pool is closed"))

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

    # --- from the node ---------------------------------------------------------------------

    def handle(self, mate: Mate, link: Link, frames: list[Buffer]) -> None:
        """Act on one message; raises `ProtocolError` on nonsense."""
        message = self._decode(frames[0])
        if message is None:
            return  # a hint we do not know
        body = frames[1:]
        if link.joiner is not None:
            link.joiner.join(body)
        check_body(message, body)
        if isinstance(message, Part | Parcels):
            self._join(link, message, body)
            return
        if isinstance(message, Refused):
            self._refused(mate, link, message)
            return
        if link is mate.control:
            self._control(mate, link, message)
            return
        if isinstance(message, Welcome):
            self._welcomed(mate, message)
            return
        if getattr(message, "epoch", link.epoch) != link.epoch:
            return  # from another life of the node
        self._handle(mate, message, body)

    def _handle(self, mate: Mate, message: Message, body: list[Buffer]) -> None:
        engine = self._engine
        scheduler = engine.scheduler
        rank = mate.rank
        match message:
            case Results():
                self._results(mate, message, body)
            case Pulse(heard=heard):
                self._confirmed(mate, heard)  # that it lives was noted by whoever read the message
            case Output():
                engine.console.show(rank, message, body)
            case Progress(started=started):
                engine.started(rank, started)
            case Returned(ids=ids):
                engine.perform(scheduler.on_returned(rank, ids))
            case Slots(slots=slots):
                engine.perform(scheduler.on_node_slots(rank, slots))
            case Submit():
                self._count(mate)
                engine.submit(engine.nesting.submit(rank, message, body, engine.blobs), urgent=True)
            case Revoke(parent=parent, calls=calls):
                self._count(mate)
                engine.cancel(engine.nesting.revoke(rank, parent, calls))
            case Function():
                self._learn(mate, message, body)
            case Module(key=key, name=name):
                self._sources[key] = ModuleBlob(key, name, bytes(body[0]))
            case Need(functions=functions):
                self._resend(mate, functions)
            case Draining():
                engine.perform(scheduler.on_node_draining(rank))
            case Bye(reason=reason):
                engine.crew.lose(mate, f"it said goodbye: {reason}")
            case _:
                self._count(mate)
                engine.streaming.handle(mate, message, body)

    def _welcomed(self, mate: Mate, message: Welcome) -> None:
        link, engine = mate.link, self._engine
        assert link is not None
        link.greeted = 0
        if not link.ready:
            link.epoch = message.epoch
            link.ready = True
            mate.threads = message.executor == "thread"
            engine.console.tell(mate.rank, differences(self._versions, message.versions))
            engine.crew.ready(mate, message.slots)
        elif message.epoch != link.epoch:
            engine.crew.lose(mate, "it was restarted")
        elif not message.resumed:
            engine.crew.lose(mate, "it has given up our session")
        else:
            self._resume(mate, message.heard)
            engine.perform(engine.scheduler.on_node_slots(mate.rank, message.slots))

    def answer(self, mate: Mate, message: Answer, body: Sequence[Buffer]) -> None:
        """Tell a task what became of its calls."""
        if mate.link is not None:
            mate.link.unconfirmed.add(message, body)
            self.send(mate, message, body)

    @staticmethod
    def _count(mate: Mate) -> None:
        if mate.link is not None:
            mate.link.heard += 1

    @staticmethod
    def _confirmed(mate: Mate, heard: int) -> None:
        if mate.link is not None:
            mate.link.unconfirmed.confirm(heard)

    def _resume(self, mate: Mate, heard: int) -> None:
        """Send again what may have been lost with the connection; the node knows what it has."""
        assert mate.link is not None
        mate.link.unconfirmed.confirm(heard)
        for message, body in mate.link.unconfirmed:
            self.send(mate, message, body)
        self.roster()
        node = self._engine.scheduler.nodes.get(mate.rank)
        if node is not None and node.in_flight:
            tasks = list(node.in_flight.values())
            for batch in split(tasks):
                self.tasks(mate, batch)
            if cancelled := [task.id for task in tasks if task.cancelled]:
                self.cancel(mate, cancelled, running=True)

    def _join(self, link: Link, message: Part | Parcels, body: list[Buffer]) -> None:
        """Take in a piece of a large frame, or where such frames belong."""
        if link.joiner is None:
            link.joiner = Joiner(2 * self._engine.max_payload)
        if isinstance(message, Part):
            link.joiner.add(message, body[0])
        else:
            link.joiner.expect(message)

    def _control(self, mate: Mate, link: Link, message: Message) -> None:
        """Act on what comes over the second link: signs of life, which have been noted."""
        match message:
            case Welcome(epoch=epoch):
                link.greeted = 0
                link.epoch = epoch
                link.ready = True
            case Pulse(epoch=epoch, heard=heard) if epoch == link.epoch:
                self._confirmed(mate, heard)
            case Pulse():
                pass  # from another life of the node
            case _:
                raise ProtocolError(f"{type(message).__name__} does not belong on a control channel")

    def _refused(self, mate: Mate, link: Link, message: Refused) -> None:
        if message.code == "session" and link.greeted < HELLOS:
            self.hello(mate, link)  # the connection is a new one, and does not know us yet
        elif link is mate.control:
            self._engine.crew.forget_control(mate)
        else:
            self._engine.crew.refused(mate, refusal(message))

    def _results(self, mate: Mate, message: Results, body: list[Buffer]) -> None:
        link = mate.link
        assert link is not None
        if message.seq != link.seen + 1:
            if message.seq > link.seen:
                raise ProtocolError(f"results {link.seen + 1} to {message.seq - 1} are missing")
            return  # sent again: we have them
        link.seen = message.seq
        engine = self._engine
        rank = mate.rank
        if message.shared:
            if engine.sharing is None:
                raise ProtocolError("shared memory that was not agreed upon")
            engine.sharing.receive(rank, mark_refs(message, body))
        tasks = engine.scheduler.on_results(rank, message.ids, message.elapsed)
        rows = split_body(message.sizes, message.buffers, body)
        try:
            for task, status, (data, buffers) in zip(tasks, message.statuses, rows, strict=True):
                if task is not None:  # else it was cancelled, or is none of this node's
                    if status != OK:
                        engine.failed += 1
                    engine.settled(task, (status, data, buffers, rank, task.id, task.function.name))
                    engine.ended(rank, task.id)
        except Exception:
            engine.strand(tasks)
            raise
        engine.after_settling()
        self.took(mate, size_of(body))

    def took(self, mate: Mate, size: int) -> None:
        """Count bytes that the node keeps until it knows that we have them; tell it when they are many."""
        link = mate.link
        if link is not None:
            link.unacked += size
            if link.unacked > ACK_EVERY:
                self.beat(mate, 0.0)

    def _learn(self, mate: Mate, message: Function, body: list[Buffer]) -> None:
        """Take in code that a task on the node has sent for its nested calls."""
        try:
            modules = tuple(self._source(key) for key in message.modules)
        except KeyError as error:
            raise ProtocolError("a function needs a module that was never sent") from error
        blob = FunctionBlob(message.key, message.name, bytes(body[0]), modules)
        self._engine.blobs[message.key] = blob
        assert mate.link is not None
        mate.link.functions.add(message.key)
        mate.link.modules.update(message.modules)

    def _source(self, key: bytes) -> ModuleBlob:
        if key in self._sources:
            return self._sources[key]
        for blob in self._engine.blobs.values():
            for module in blob.modules:
                self._sources[module.key] = module
        return self._sources[key]

    def _resend(self, mate: Mate, functions: Iterable[bytes]) -> None:
        link = mate.link
        assert link is not None
        for key in functions:
            blob = self._engine.blobs.get(key)
            if blob is None:
                raise ProtocolError("the node asks for code that it was never sent")
            link.modules.difference_update(module.key for module in blob.modules)
            self.function(mate, blob)


def refusal(message: Refused) -> Any:
    """Return the error that a refusal stands for."""
    if message.code == "version":
        client = f"Python {platform.python_version()}, protocol {PROTOCOL}"
        return VersionMismatchError("version", client, f"Python {message.python}, protocol {message.protocol}")
    if message.code == "auth":
        return AuthError(f"the node refused us: {message.reason}")
    return ProtocolError(f"the node refused us ({message.code}): {message.reason}")
