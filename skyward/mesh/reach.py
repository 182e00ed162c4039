"""Whether nodes can be reached: handshakes that succeed or fail, connections that break, and what that means.

A key that is refused ends a node's opening at once, and so does an answer that is no handshake of ours; a handshake
that comes to nothing does the second time, because one can be an accident. A connection that breaks is probed at
once: a closed port means that the node is gone, an open one that it may be back, which it has to show by its epoch
before it has been silent for too long.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Final, assert_never

from skyward.errors import AuthError
from skyward.transport.links import Connection

if TYPE_CHECKING:
    from skyward.mesh.engine import Engine
    from skyward.mesh.mate import Mate
    from skyward.transport.links import Link

FAILURES: Final = 2  # handshakes in a row after which it is no accident

NOT_ADMITTED: Final = "it does not admit our key; on the node, run: skyward-node keys add '{ours}'"
NOT_PROVEN: Final = (
    "it cannot prove to own the key that we were given for it, {its}; `skyward-node keys show` prints the node's"
)


class Reach:
    """The connections of one engine's nodes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._probes: dict[int, tuple[socket.socket, Mate]] = {}  # by descriptor

    def on_news(self, link: Link, what: Connection) -> None:
        """Something has become of a link's connection."""
        mate = self._engine.crew.of(link)
        if mate is None:
            return
        match what:
            case Connection.UP:
                link.failures = 0
                if link.broken:  # it is a new connection, which knows nothing of us yet
                    self._engine.talk.hello(mate, link)
            case Connection.DOWN:
                link.broken = True
                if link.ready:
                    self.probe(mate)
            case Connection.REFUSED:
                self._refuse(mate, link, NOT_ADMITTED)
            case Connection.FAILED:
                link.failures += 1
                if link.failures >= FAILURES and not link.ready:
                    self._refuse(mate, link, NOT_PROVEN)
            case Connection.FOREIGN:
                if not link.ready:
                    self._refuse(mate, link, NOT_PROVEN)
            case _:
                assert_never(what)

    def _refuse(self, mate: Mate, link: Link, reason: str) -> None:
        if link is mate.control:  # the data link decides; this one is opened anew with the next beat
            self._engine.crew.forget_control(mate)
            return
        launched, keys = mate.launched, self._engine.hub.keys
        public = "" if keys is None else keys.public
        text = reason.format(ours=public, its=launched.public_key)
        self._engine.crew.refused(mate, AuthError(f"node {mate.rank} at {launched.endpoint}: {text}"))

    # --- probes ----------------------------------------------------------------------------

    def probe(self, mate: Mate) -> None:
        """Ask whether somebody still listens where the node did, unless that is being asked already."""
        if any(probed is mate for _, probed in self._probes.values()):
            return
        host, _, port = mate.launched.endpoint.removeprefix("tcp://").rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        try:
            probe = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:  # no descriptors: silence will tell
            return
        code = probe.connect_ex((host.strip("[]"), int(port)))
        if code == errno.EINPROGRESS:
            self._probes[probe.fileno()] = probe, mate
            self._engine.hub.watch(probe.fileno())
        else:
            probe.close()
            self._judge(mate, code)

    def answered(self, fd: int) -> bool:
        """Judge by the answer to a probe; return whether the descriptor was one."""
        if fd not in self._probes:
            return False
        probe, mate = self._probes.pop(fd)
        self._engine.hub.unwatch(fd)
        code = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        probe.close()
        self._judge(mate, code)
        return True

    def _judge(self, mate: Mate, code: int) -> None:
        # Any other error may be the network's: silence will tell.
        if code == errno.ECONNREFUSED:
            self._engine.crew.lose(mate, "its connection broke, and nobody listens there any more")

    def close(self) -> None:
        """Forget all probes."""
        for fd, (probe, _) in self._probes.items():
            self._engine.hub.unwatch(fd)
            probe.close()
        self._probes.clear()
