"""What client and node say to each other, from the client's end: messages to and from engine events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skyward.config import frame_limit
from skyward.errors import ProtocolError
from skyward.machine.mapped_files import tidy
from skyward.mesh.outcomes import Outcomes
from skyward.mesh.spares import Spares
from skyward.wire.bundles import Interim
from skyward.wire.codec import Decoder, check_body, encode, pack_body
from skyward.wire.frames import Repeated, shared_among
from skyward.wire.functions import FunctionBlob
from skyward.wire.kinds import NODE_MESSAGES
from skyward.wire.lone import MAX_SMALL, Call, Reply
from skyward.wire.messages import (
    MAX_BATCH,
    Answer,
    Beat,
    Bye,
    Cancel,
    Credit,
    Draining,
    Function,
    Items,
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
from skyward.wire.sources import ModuleBlob
from skyward.wire.unconfirmed import is_new

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skyward.dispatch.tasks import Task
    from skyward.mesh.engine import Engine
    from skyward.mesh.mate import Mate
    from skyward.transport.links import Link
    from skyward.wire.frames import Buffer

_PIECES: Final = (Part, Parcels)
KNOWN: Final = 65_536  # keys of code that we know a node to have; what we forget is sent once more
ACK_EVERY: Final = 4 * 2**20  # bytes of results after which we acknowledge without waiting for the next beat
SHOWN_EVERY: Final = 256 * 1024  # bytes of lines after which the node is told: a quarter of what may be on the way


class Talk:
    """Speaks for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._outcomes = Outcomes(engine)
        self._decode = Decoder(NODE_MESSAGES).decode
        self.spares = Spares()
        self._gathering: Link | None = None  # over which the last piece of a large frame came

    # --- to the node -----------------------------------------------------------------------

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
                self.spares.trim(now)
                tidy()
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

    # --- from the node ---------------------------------------------------------------------

    def handle(self, mate: Mate, link: Link, frames: list[Buffer]) -> None:
        """Act on one message; raises `ProtocolError` on nonsense."""
        message = self._decode(frames[0])
        if message is None:
            return  # a hint we do not know
        alone = len(frames) == 1 and link.joiner is None  # there is nothing to check, or to put together
        if alone and type(message) is Reply and link is mate.link and message.epoch == link.epoch:
            self._outcomes.on_reply(mate, link, message)
            return
        body = frames[1:]
        if link.joiner is not None:
            link.joiner.join(message, body)
        if body or type(message) is not Reply:
            check_body(message, body)
        if link is mate.link and isinstance(message, Results):  # first, for there are many
            if message.epoch == link.epoch:  # else it is from another life of the node
                self._outcomes.on_results(mate, link, message, body)
        elif link is mate.link and isinstance(message, Reply):
            if message.epoch == link.epoch:
                self._outcomes.on_reply(mate, link, message)
        elif isinstance(message, _PIECES):
            self._join(link, message, body)
        elif isinstance(message, Refused):
            self._engine.greeting.refused(mate, link, message)
        elif link is mate.control:
            self._engine.greeting.control(mate, link, message)
        elif isinstance(message, Welcome):
            self._engine.greeting.welcomed(mate, message)
        elif getattr(message, "epoch", link.epoch) == link.epoch:
            self._handle(mate, message, body)

    def _handle(self, mate: Mate, message: Message, body: list[Buffer]) -> None:
        engine = self._engine
        scheduler = engine.scheduler
        rank = mate.rank
        match message:
            case Pulse(heard=heard, echo=echo):
                engine.crew.echoed(mate, echo)
                self.confirmed(mate, heard)  # that it lives was noted by whoever read the message
            case Output():
                engine.console.show(rank, message, body[0])
                self._shown(mate, len(body[0]) + 1)
            case Progress(started=started):
                engine.started(rank, started)
            case Interim(id=id, data=data):
                engine.bundling.interim(rank, id, data)
            case Returned(ids=ids):
                engine.perform(scheduler.on_returned(rank, ids))
            case Slots(slots=slots):
                engine.perform(scheduler.on_node_slots(rank, slots))
            case Submit() | Revoke() | Items() | Credit():
                self._numbered(mate, message, body)
            case Function():
                self._learn(mate, message, body)
            case Module(key=key, name=name):
                assert mate.link is not None
                mate.link.brought[key] = ModuleBlob(key, name, bytes(body[0]))
            case Need(functions=functions):
                self._resend(mate, functions)
            case Draining():
                engine.perform(scheduler.on_node_draining(rank))
            case Bye(reason=reason):
                self.goodbye(mate, "so be it")
                engine.crew.lose(mate, f"it said goodbye: {reason}")
            case _:
                raise ProtocolError(f"a node does not send {type(message).__name__}")

    def answer(self, mate: Mate, message: Answer, body: Sequence[Buffer]) -> None:
        """Tell a task what became of its calls."""
        if mate.link is not None:
            self.send(mate, mate.link.unconfirmed.add(message, body), body)

    def _numbered(self, mate: Mate, message: Submit | Revoke | Items | Credit, body: list[Buffer]) -> None:
        link, engine, rank = mate.link, self._engine, mate.rank
        assert link is not None
        # Also of what was heard before: the node counts on it that we keep what it has named last.
        functions = self._functions_of(link, message) if isinstance(message, Submit) else []
        if not is_new(message.seq, link.heard):
            return  # said again: we have heard it
        link.heard = message.seq
        match message:
            case Items():
                engine.streaming.on_items(mate, message, body)
            case Credit():
                engine.streaming.on_credit(mate, message)
            case Revoke(parent=parent, calls=calls):
                engine.cancel(engine.nesting.revoke(rank, parent, calls))
            case Submit(parent=parent):
                if engine.scheduler.holds(rank, parent):  # else it has ended: nobody waits for its calls
                    engine.submit(engine.nesting.submit(rank, message, body, functions), urgent=True)

    @staticmethod
    def confirmed(mate: Mate, heard: int) -> None:
        """Forget what the node has heard."""
        if mate.link is not None:
            mate.link.unconfirmed.confirm(heard)

    def _join(self, link: Link, message: Part | Parcels, body: list[Buffer]) -> None:
        """Take in a piece of a large frame, or where such frames belong."""
        if link.joiner is None:
            link.joiner = Joiner(frame_limit(self._engine.max_payload), allocate=self.spares.allocate)
        if isinstance(message, Part):
            link.joiner.add(message, body[0])
            self._gathering = link
        else:
            link.joiner.expect(message)

    @property
    def gathers(self) -> bool:
        """Return whether more pieces of a large frame are about to come."""
        link = self._gathering
        return link is not None and link.joiner is not None and link.joiner.held > 0

    def took(self, mate: Mate, size: int) -> None:
        """Count bytes that the node keeps until it knows that we have them; tell it when they are many."""
        link = mate.link
        if link is not None:
            link.unacked += size
            if link.unacked > ACK_EVERY:
                self.beat(mate, 0.0)

    def _shown(self, mate: Mate, size: int) -> None:
        """Count lines that have come; the node sends no more than some before it knows that they have."""
        link = mate.link
        assert link is not None
        link.shown += size
        if link.shown - link.said > SHOWN_EVERY:
            self.beat(mate, 0.0)

    def _learn(self, mate: Mate, message: Function, body: list[Buffer]) -> None:
        """Take in code that a task on the node has sent for its nested calls."""
        link = mate.link
        assert link is not None
        try:
            modules = tuple(_source(link, key) for key in message.modules)
        except KeyError as error:
            raise ProtocolError("a function needs a module that was never sent") from error
        link.brought.clear()
        blob = self._shared(FunctionBlob(message.key, message.name, bytes(body[0]), modules))
        link.learned.put(blob.key, blob, len(blob.body), [(module.key, len(module.body)) for module in blob.modules])
        link.functions.add(message.key)
        link.modules.update(message.modules)
        self.took(mate, len(blob.body))

    def _shared(self, blob: FunctionBlob) -> FunctionBlob:
        """Return the same code as another node has sent it, so that a mesh costs no more than a node."""
        for mate in self._engine.crew.mates.values():
            known = mate.link.learned.peek(blob.key) if mate.link is not None else None
            if known is not None and known == blob:
                return known
        return blob

    @staticmethod
    def _functions_of(link: Link, message: Submit) -> list[FunctionBlob]:
        """Return the functions that calls name, and give up what the node does not count on any more."""
        functions = [blob for key in message.functions if (blob := link.learned.use(key)) is not None]
        if len(functions) < len(message.functions):
            raise ProtocolError("nested calls of a function that was never sent")
        link.learned.trim()
        return functions

    def _resend(self, mate: Mate, functions: Iterable[bytes]) -> None:
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


def _source(link: Link, key: bytes) -> ModuleBlob:
    """Return a module that has just come, or came with a function that we keep; raises `KeyError`."""
    if key in link.brought:
        return link.brought[key]
    if link.learned.has_module(key):
        return next(module for blob in link.learned.newest() for module in blob.modules if module.key == key)
    raise KeyError(key)
