"""Hello and what follows from it: sessions opened, bound to new connections, refused, and resumed after a break."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Any, Final

from skyward.dispatch.assignment import split
from skyward.errors import AuthError, ProtocolError, VersionMismatchError
from skyward.machine.versions import differences, package_versions
from skyward.wire.codec import encode
from skyward.wire.messages import PROTOCOL, Hello, Message, Pulse, Refused, Welcome

if TYPE_CHECKING:
    from skyward.mesh.engine import Engine
    from skyward.mesh.mate import Mate
    from skyward.transport.links import Link

REFUSALS: Final = 5  # times that a node may ask for a hello before it answers one; it has to once per connection


class Greeting:
    """Greets for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._versions = package_versions(sys.path)

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
            lease=options.lease_time(),
            heartbeat=options.heartbeat,
            cancel_grace=options.cancel_grace,
            max_payload=self._engine.max_payload,
            label=f"{platform.node()}:{self._engine.pid}",
            channel="control" if link is mate.control else "data",
            retries=options.retries,
            timeout=options.timeout or 0.0,
            heard=link.heard,
            shared=self._engine.sharing is not None,
            replies=True,
        )
        link.greet([encode(hello)])

    def welcomed(self, mate: Mate, message: Welcome) -> None:
        """Begin to use a node, or go on where a connection has broken."""
        link, engine = mate.link, self._engine
        assert link is not None
        if link.cutter is not None and link.greeted:  # else this answers a hello that was said before anything was kept
            link.cutter.begin(message.max_payload if message.keeps else 0)
        link.greeted = link.refusals = link.shown = link.said = 0
        engine.crew.welcomed(mate, link)
        engine.hub.close_lane(link)
        if message.lane:
            engine.hub.open_lane(link, message.lane)
        if not link.ready:
            link.epoch = message.epoch
            link.ready = True
            mate.threads = message.executor == "thread"
            mate.max_payload = message.max_payload
            link.calls = message.calls
            link.bundles = message.bundles
            engine.bundling.welcomed(message)
            engine.console.tell(mate.rank, differences(self._versions, message.versions))
            engine.crew.ready(mate, message.slots)
        elif message.epoch != link.epoch:
            engine.crew.lose(mate, "it was restarted")
        elif not message.resumed:
            engine.crew.lose(mate, "it has given up our session")
        else:
            self._resume(mate, message.heard)
            engine.perform(engine.scheduler.on_node_slots(mate.rank, message.slots))

    def _resume(self, mate: Mate, heard: int) -> None:
        """Send again what may have been lost with the connection; the node knows what it has."""
        assert mate.link is not None
        talk = self._engine.talk
        mate.confirm(heard)
        for message, body in mate.link.unconfirmed:
            talk.send(mate, message, body)
        talk.roster()
        node = self._engine.scheduler.nodes.get(mate.rank)
        if node is not None and node.in_flight:
            tasks = list(node.in_flight.values())
            for batch in split(tasks):
                talk.tasks(mate, batch)
            mate.link.note_repeats()
            if cancelled := [task.id for task in tasks if task.cancelled]:
                talk.cancel(mate, cancelled, running=True)

    def control(self, mate: Mate, link: Link, message: Message) -> None:
        """Act on what comes over the second link: signs of life, which have been noted, and whether it hears our beats.

        Nothing holds those up there.
        """
        match message:
            case Welcome(epoch=epoch):
                self._engine.crew.welcomed(mate, link)
                link.greeted = 0
                link.epoch = epoch
                link.ready = True
            case Pulse(epoch=epoch, heard=heard, echo=echo) if epoch == link.epoch:
                self._engine.crew.echoed(mate, echo)
                mate.confirm(heard)
            case Pulse():
                pass  # from another life of the node
            case _:
                raise ProtocolError(f"{type(message).__name__} does not belong on a control channel")

    def refused(self, mate: Mate, link: Link, message: Refused) -> None:
        """Greet again where the node does not know the connection; else take no for an answer."""
        link.refusals += 1
        if link is mate.control:
            self._engine.crew.forget_control(mate)  # the next heartbeat opens another
        elif message.code != "session" or link.refusals > REFUSALS:
            self._engine.crew.refused(mate, refusal(message))
        elif not link.greeted and not link.linger:  # else a hello is on its way already, behind what this refuses
            link.fresh = True


def refusal(message: Refused) -> Any:
    """Return the error that a refusal stands for."""
    if message.code == "version":
        client = f"Python {platform.python_version()}, protocol {PROTOCOL}"
        return VersionMismatchError("version", client, f"Python {message.python}, protocol {message.protocol}")
    if message.code == "auth":
        return AuthError(f"the node refused us: {message.reason}")
    return ProtocolError(f"the node refused us ({message.code}): {message.reason}")
