"""Whether nodes can be reached: handshakes that succeed or fail, connections that break, and what that means.

A key that is refused ends a node's opening at once, and so does a port where nobody speaks CURVE; a handshake that
the other side ends does the second time, because one can be an accident. One that nobody answers tells nothing of keys:
the node may be stopped, and is lost if it stays silent. A connection that breaks is probed at once: a closed port means
that the node is gone, an open one that it may be back, which it has to show by its epoch before it has been silent for
too long. A control channel that breaks or fails is given up: the next heartbeat opens another.

A connection that stalls is dialled again when the node's port answers meanwhile; see `dispatch.stalls`. Whatever a
port is asked for, a closed one means that the node is gone.
"""

from __future__ import annotations

import errno
import logging
import time
from _socket import AF_INET, AF_INET6, SOCK_NONBLOCK, SOCK_STREAM, socket
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, assert_never

from skyward.dispatch.stalls import Stalls, pause
from skyward.errors import AuthError
from skyward.transport.links import Connection

if TYPE_CHECKING:
    from skyward.dispatch.stalls import Flow
    from skyward.mesh.engine import Engine
    from skyward.mesh.mate import Mate
    from skyward.transport.links import Link

FAILURES: Final = 2  # handshakes in a row after which it is no accident
AGAIN: Final = 0.02  # seconds before a port is asked again that has hung up: how long a process takes to end
LONGEST: Final = 1.0  # seconds between such questions, which take twice as long each time
MOST: Final = 4  # questions about a node's stalls that may be under way
LASTS: Final = 1.0  # seconds; then the system would ask again, and so may we, at a moment of our own

_logger: Final = logging.getLogger("skyward")

NOT_ADMITTED: Final = "it does not admit our key; on the node, run: skyward-node keys add '{ours}'"
NOT_CURVE: Final = "whoever listens there does not speak CURVE, as every node does over TCP"
NOT_PROVEN: Final = (
    "it cannot prove to own the key that we were given for it, {its}; `skyward-node keys show` prints the node's"
)


class About(Enum):
    """Why a port is asked."""

    BREAK = "its connection broke"
    STALL = "its connection does not get on"


class Probe(NamedTuple):
    """A question that is under way."""

    asking: socket
    mate: Mate
    about: About
    asked: float  # `time.monotonic`
    wait: float = 0.0  # seconds until it is asked again if the port hangs up


class Reach:
    """The connections of one engine's nodes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._probes: dict[int, Probe] = {}  # by descriptor, in the order in which they were asked
        self._stalls = Stalls()
        self._looks = pause(engine.options.heartbeat)
        self._look_at = 0.0

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
                if link.broken and not link.linger:
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
            case Connection.UNANSWERED:
                pass  # silence will tell
            case Connection.CUT:
                self._go_on(mate, link)
            case _:
                assert_never(what)

    def _go_on(self, mate: Mate, link: Link) -> None:
        """Say again what may have been lost with a lane, as if the connection had broken."""
        node = self._engine.scheduler.nodes.get(mate.rank)
        if link.asked and link.is_open and not link.linger and node is not None and node.in_flight:
            link.fresh = True
            self._engine.read(link)

    def _refuse(self, mate: Mate, reason: str) -> None:
        launched, keys = mate.launched, self._engine.hub.keys
        public = "" if keys is None else keys.public
        text = reason.format(ours=public, its=launched.public_key)
        self._engine.crew.refused(mate, AuthError(f"node {mate.rank} at {launched.endpoint}: {text}"))

    # --- stalls ----------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """See whose connections get on, if it is time to."""
        if now < self._look_at:
            return
        self._look_at = now + self._looks
        for mate in list(self._engine.crew.mates.values()):
            stalls = [self._stalls.note(_key(mate, link), link.flow(), now) for link in _watched(mate)]
            if any(stalls):
                self._ask_again(mate, now)

    def next_look(self, now: float) -> float:
        """Return when to look again."""
        mates = self._engine.crew.mates.values()
        return max(now, self._look_at) if any(_watched(mate) for mate in mates) else inf

    def answers(self, mate: Mate, link: Link) -> None:
        """The node has answered over a connection."""
        self._stalls.forget(_key(mate, link))

    def _ask_again(self, mate: Mate, now: float) -> None:
        """Ask about a stall, unless enough is asked; what is answered far away takes its time."""
        asked = self._asked(mate, About.STALL)
        if len(asked) >= MOST and now < self._probes[asked[0]].asked + LASTS:
            return
        for fd in asked[: max(0, len(asked) + 1 - MOST)]:
            self._drop(fd)
        self._ask(mate, About.STALL)

    def _listens(self, mate: Mate, asked: float) -> None:
        now = time.monotonic()
        again = False
        for link in _watched(mate):
            key, flow = _key(mate, link), link.flow()
            stalls = self._stalls.note(key, flow, now)  # it may have got on meanwhile
            if self._stalls.answered(key, asked, now):
                self._dial_again(mate, link, flow)
            else:
                again |= stalls
        if again:
            self._ask_again(mate, now)

    def _dial_again(self, mate: Mate, link: Link, flow: Flow) -> None:
        _logger.info("node %d is dialled again: its port answers, and a connection to it %s", mate.rank, flow.value)
        if link is mate.control:
            self._engine.crew.renew_control(mate)
        else:
            link.redial()

    # --- probes ----------------------------------------------------------------------------

    def probe(self, mate: Mate, wait: float = AGAIN) -> None:
        """Ask whether somebody still listens where the node did, unless that is being asked already."""
        if self._engine.crew.mates.get(mate.rank) is mate and not self._asked(mate, About.BREAK):
            self._ask(mate, About.BREAK, wait)

    def _asked(self, mate: Mate, about: About) -> list[int]:
        """Return the questions that are under way, the oldest first."""
        return [fd for fd, probe in self._probes.items() if probe.mate is mate and probe.about is about]

    def _ask(self, mate: Mate, about: About, wait: float = 0.0) -> None:
        host, port = mate.launched.address, int(mate.launched.endpoint.rpartition(":")[2])
        try:
            asking = socket(_family(host), SOCK_STREAM | SOCK_NONBLOCK)
        except OSError:
            return  # out of descriptors: silence will tell
        probe = Probe(asking, mate, about, time.monotonic(), wait)
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
        mate, wait = probe.mate, probe.wait
        if code == 0:
            self._listens(mate, probe.asked)
        elif code == errno.ECONNREFUSED:
            self._engine.crew.lose(mate, f"{probe.about.value}, and nobody listens there any more")
        elif code == errno.ECONNRESET and probe.about is About.BREAK:
            # By a process that is just ending: its port is closed in a moment. About a stall the next look asks.
            self._engine.call_later(wait, lambda: self.probe(mate, min(2 * wait, LONGEST)))
        # Any other error may be the network's, and a node that lives says something: silence will tell.

    def forget(self, mate: Mate) -> None:
        """Give up the probes of a node, and what is known of its connections."""
        for fd in [fd for fd, probe in self._probes.items() if probe.mate is mate]:
            self._drop(fd)
        for channel in ("data", "control"):
            self._stalls.forget((mate, channel))

    def _drop(self, fd: int) -> None:
        self._engine.hub.unwatch(fd)
        self._probes.pop(fd).asking.close()


def _key(mate: Mate, link: Link) -> tuple[Mate, str]:
    """Return what stands for a connection, however often it is made again."""
    return mate, "control" if link is mate.control else "data"


def _watched(mate: Mate) -> list[Link]:
    """Return the links whose connections have been up, and of which something can be told."""
    return [link for link in (mate.link, mate.control) if link is not None and link.ready and link.monitor is not None]


def _family(address: str) -> int:
    return AF_INET6 if ":" in address else AF_INET
