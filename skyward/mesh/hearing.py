"""What nodes say to the client: their messages made into what happens to the engine. `talk` has what goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skyward.config import frame_limit
from skyward.errors import ProtocolError
from skyward.machine import mapped_files
from skyward.mesh import learning
from skyward.mesh.outcomes import Outcomes
from skyward.mesh.spares import Spares
from skyward.wire.bundles import Interim
from skyward.wire.codec import Decoder, check_body
from skyward.wire.kinds import NODE_MESSAGES
from skyward.wire.lone import Reply
from skyward.wire.messages import (
    Bye,
    Credit,
    Draining,
    Function,
    Items,
    Message,
    Module,
    Need,
    Output,
    Parcels,
    Part,
    Progress,
    Pulse,
    Refused,
    Results,
    Returned,
    Revoke,
    Slots,
    Submit,
    Welcome,
)
from skyward.wire.parcels import Joiner
from skyward.wire.sources import ModuleBlob
from skyward.wire.unconfirmed import is_new

if TYPE_CHECKING:
    from skyward.mesh.engine import Engine
    from skyward.mesh.mate import Mate
    from skyward.transport.links import Link
    from skyward.wire.frames import Buffer

_PIECES: Final = (Part, Parcels)


class Hearing:
    """Listens for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._outcomes = Outcomes(engine)
        self._decode = Decoder(NODE_MESSAGES).decode
        self._spares = Spares()
        self._gathering: Link | None = None  # over which the last piece of a large frame came

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

    @property
    def gathers(self) -> bool:
        """Return whether more pieces of a large frame are about to come."""
        link = self._gathering
        return link is not None and link.joiner is not None and link.joiner.held > 0

    def tidy(self, now: float) -> None:
        """Give memory back that large results have left."""
        self._spares.trim(now)
        mapped_files.tidy()

    def close(self) -> None:
        """Give back all of it."""
        self._spares.close()

    def _handle(self, mate: Mate, message: Message, body: list[Buffer]) -> None:
        engine = self._engine
        scheduler = engine.scheduler
        rank = mate.rank
        match message:
            case Pulse(heard=heard, echo=echo):
                engine.crew.echoed(mate, echo)
                mate.confirm(heard)  # that it lives was noted by whoever read the message
            case Output():
                engine.console.show(rank, message, body[0])
                engine.talk.shown(mate, len(body[0]) + 1)
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
                learning.learn(mate, message, body[0], engine.crew.mates.values())
                engine.talk.took(mate, len(body[0]))
            case Module(key=key, name=name):
                assert mate.link is not None
                mate.link.brought[key] = ModuleBlob(key, name, bytes(body[0]))
            case Need(functions=functions):
                engine.talk.resend(mate, functions)
            case Draining():
                engine.perform(scheduler.on_node_draining(rank))
            case Bye(reason=reason):
                engine.talk.goodbye(mate, "so be it")
                engine.crew.lose(mate, f"it said goodbye: {reason}")
            case _:
                raise ProtocolError(f"a node does not send {type(message).__name__}")

    def _numbered(self, mate: Mate, message: Submit | Revoke | Items | Credit, body: list[Buffer]) -> None:
        link, engine, rank = mate.link, self._engine, mate.rank
        assert link is not None
        # Also of what was heard before: the node counts on it that we keep what it has named last.
        functions = learning.named(link, message) if isinstance(message, Submit) else []
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

    def _join(self, link: Link, message: Part | Parcels, body: list[Buffer]) -> None:
        """Take in a piece of a large frame, or where such frames belong."""
        if link.joiner is None:
            link.joiner = Joiner(frame_limit(self._engine.max_payload), allocate=self._spares.allocate)
        if isinstance(message, Part):
            link.joiner.add(message, body[0])
            self._gathering = link
        else:
            link.joiner.expect(message)
