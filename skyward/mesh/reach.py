"""Whether nodes can be reached: handshakes that succeed or fail, connections that break, and what that means.

A key that is refused ends a node's opening at once, and so does a port where nobody speaks CURVE; a handshake that
comes to nothing does the second time, because one can be an accident. A connection that breaks is probed at once: a
closed port means that the node is gone, an open one that it may be back, which it has to show by its epoch before it
has been silent for too long. A control channel that breaks or fails is given up: the next heartbeat opens another.

A connection that stalls is dialled again when the node's port answers meanwhile; see `dispatch.stalls`.
"""

from __future__ import annotations

import errno
import logging
import socket
import time
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, assert_never

from skyward.dispatch.stalls import Stalls, pause
from skyward.errors import AuthError
from skyward.transport.links import Connection

if TYPE_CHECKING:
    from skyward.mesh.engine import Engine
    from skyward.mesh.mate import Mate
    from skyward.transport.links import Link

FAILURES: Final = 2  # handshakes in a row after which it is no accident
AGAIN: Final = 0.02  # seconds before a port is asked again that has hung up: how long a process takes to end
LONGEST: Final = 1.0  # seconds between such questions, which take twice as long each time
MOST: Final = 4  # questions about a stall that may be under way: the last of them leaves before the network heals

_logger: Final = logging.getLogger("skyward")

NOT_ADMITTED: Final = "it does not admit our key; on the node, run: skyward-node keys add '{ours}'"
NOT_CURVE: Final = "whoever listens there does not speak CURVE, as every node does over TCP"
NOT_PROVEN: Final = (
    "it cannot prove to own the key that we were given for it, {its}; `skyward-node keys show` prints the node's"
)


class Probe(NamedTuple):
    """A question that is under way."""

    asking: socket.socket
    mate: Mate
    pause: float  # seconds until it is asked again if the answer says nothing; 0: it is about a stall
    asked: float  # `time.monotonic`


class Reach:
    """The connections of one engine's nodes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._probes: dict[int, Probe] = {}  # by descriptor, in the order in which they were asked
        self._stalls = Stalls()
        self._looks = pause(engine.options.heartbeat)

    def on_news(self, link: Link, what: Connection) -> None:
        """Something has become of a link's connection."""
        mate = self._engine.crew.of(link)
        if mate is None:
            return
        if link is mate.control:
            if what is not Connection.UP:
                self._engine.crew.forget_control(mate)
            if what is Connection.DOWN:
                self.probe(mate)
            return
        match what:
            case Connection.UP:
                link.failures = 0
                if link.broken:
                    link.fresh = True
                    self._engine.read(link)
            case Connection.DOWN:
                link.broken = True
                if link.ready:
                    self.probe(mate)
            case Connection.REFUSED:
                self._refuse(mate, NOT_ADMITTED)
            case Connection.STRANGE:
                self._refuse(mate, NOT_CURVE)
            case Connection.FAILED:
                link.failures += 1
                if link.failures >= FAILURES and not link.ready:
                    self._refuse(mate, NOT_PROVEN)
            case _:
                assert_never(what)

    def _refuse(self, mate: Mate, reason: str) -> None:
        launched, keys = mate.launched, self._engine.hub.keys
        public = "" if keys is None else keys.public
        text = reason.format(ours=public, its=launched.public_key)
        self._engine.crew.refused(mate, AuthError(f"node {mate.rank} at {launched.endpoint}: {text}"))

    # --- stalls ----------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """See whose connections get on."""
        for mate in self._engine.crew.mates.values():
            stalls = [self._stalls.note(link, link.flow(), now) for link in _watched(mate)]
            if any(stalls):
                self._ask_again(mate)

    def next_look(self, now: float) -> float:
        """Return when to look again."""
        mates = self._engine.crew.mates.values()
        return now + self._looks if any(_watched(mate) for mate in mates) else inf

    def _ask_again(self, mate: Mate) -> None:
        asked = [fd for fd, probe in self._probes.items() if probe.mate is mate]
        for fd in asked[: max(0, len(asked) + 1 - MOST)]:
            self._drop(fd)
        self._ask(mate, 0.0)

    def _listens(self, mate: Mate, asked: float) -> None:
        now = time.monotonic()
        again = False
        for link in _watched(mate):
            stalls = self._stalls.note(link, link.flow(), now)  # it may have got on meanwhile
            if self._stalls.answered(link, asked, now):
                self._dial_again(mate, link)
            else:
                again |= stalls
        if again:
            self._ask_again(mate)

    def _dial_again(self, mate: Mate, link: Link) -> None:
        _logger.info("node %d is dialled again: its port answers, and a connection to it stalls", mate.rank)
        if link is mate.control:
            self._engine.crew.renew_control(mate)
        else:
            link.redial()

    # --- probes ----------------------------------------------------------------------------

    def probe(self, mate: Mate, pause: float = AGAIN) -> None:
        """Ask whether somebody still listens where the node did, unless that is being asked already."""
        if self._engine.crew.mates.get(mate.rank) is not mate:
            return
        if not any(probe.mate is mate for probe in self._probes.values()):
            self._ask(mate, pause)

    def _ask(self, mate: Mate, pause: float) -> None:
        host, port = mate.launched.address, int(mate.launched.endpoint.rpartition(":")[2])
        try:
            asking = socket.socket(_family(host), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:
            return  # out of descriptors: silence will tell
        probe = Probe(asking, mate, pause, time.monotonic())
        code = asking.connect_ex((host, port))
        if code in (0, errno.EINPROGRESS):
            self._probes[asking.fileno()] = probe
            self._engine.hub.watch(asking.fileno())
        else:
            asking.close()
            self._judge(probe, code)

    def answered(self, fd: int) -> bool:
        """Judge by the answer to a probe; return whether the descriptor was one."""
        if fd not in self._probes:
            return False
        probe = self._probes[fd]
        try:
            code = 0 if probe.asking.recv(1) else errno.ECONNRESET
        except OSError as error:
            code = error.errno or errno.EIO
        self._drop(fd)
        self._judge(probe, code)
        return True

    def _judge(self, probe: Probe, code: int) -> None:
        mate, pause = probe.mate, probe.pause
        if code == 0:
            self._listens(mate, probe.asked)
        elif not pause:
            pass  # the connection stands: silence will tell
        elif code == errno.ECONNREFUSED:
            self._engine.crew.lose(mate, "its connection broke, and nobody listens there any more")
        elif code == errno.ECONNRESET:  # by a process that is just ending: its port is closed in a moment
            self._engine.call_later(pause, lambda: self.probe(mate, min(2 * pause, LONGEST)))
        # Any other error may be the network's, and a node that lives says something: silence will tell.

    def forget(self, mate: Mate) -> None:
        """Give up the probes of a node."""
        for fd in [fd for fd, probe in self._probes.items() if probe.mate is mate]:
            self._drop(fd)

    def forget_link(self, link: Link) -> None:
        """Look at a link no more."""
        self._stalls.forget(link)

    def _drop(self, fd: int) -> None:
        self._engine.hub.unwatch(fd)
        self._probes.pop(fd).asking.close()


def _watched(mate: Mate) -> list[Link]:
    """Return the links whose connections have been up, and of which something can be told."""
    return [link for link in (mate.link, mate.control) if link is not None and link.ready and link.monitor is not None]


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
