"""How a node is reached: a socket on a private path, or a TCP port behind CURVE. Opened once, at start.

The order on TCP is what makes it safe: keys, then the handler that admits clients, then the port, then the
proof that a stranger is refused; only then is the endpoint told to anyone.

This is a driver: who is admitted is decided in `zap` and `access`, and what follows from that in the core.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

import zmq

from skyward.errors import ConfigError
from skyward.transport.sockets import secure_router, use_family
from skyward_node import endpoint
from skyward_node.access import Access, begin_list, own_pair
from skyward_node.core.actions import Admitted, Crowded, Unguarded
from skyward_node.zap import Zap, refuses_strangers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from skyward.model import NodeConfig
    from skyward.transport.keys import Client
    from skyward.transport.sockets import Context, Socket
    from skyward_node.core.actions import Event

LOOK: Final = 0.5  # seconds between looks at the file of admitted keys: a key that leaked is out within a second


class Door:
    """A TCP port, and who may come in."""

    def __init__(self, context: Context, socket: Socket, config: NodeConfig, stack: ExitStack) -> None:
        """Open it; raises `ConfigError` if it would not keep strangers out."""
        keys = own_pair(config.keys)
        self.public_key = keys.public
        begin_list(config.keys, config.clients)
        self.access = Access(config.client_keys, config.keys)
        self.zap = Zap(context, self.access.keys)
        stack.callback(self.zap.close)
        secure_router(socket, keys)
        use_family(socket, config.bind)
        try:
            socket.bind(endpoint.wildcard(config.bind))
        except zmq.ZMQError as error:
            raise ConfigError(f"cannot bind {config.bind}: {error.strerror}") from error
        self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        refuses_strangers(context, self.endpoint, keys.public, self.zap)
        self._crowded = False  # no connection can be taken in
        self._next_look = 0.0

    def change(self, add: str, label: str, remove: str) -> tuple[tuple[Client, ...], str]:
        """Change the list of clients; return it, and why it was not changed. It counts from the next look on."""
        self._next_look = 0.0
        try:
            return self.access.change(add, label, remove), ""
        except ConfigError as error:
            return (), str(error)

    def look(self, now: float) -> Sequence[Event]:
        """Look now and then at the file of admitted keys, and for descriptors; always whether the handler is there."""
        if self.zap.socket.closed:
            return [Unguarded()]
        if now < self._next_look:
            return ()
        self._next_look = now + LOOK
        found: list[Event] = []
        if self.access.look():
            found.append(Admitted(self.access.keys, self.access.problem))
        self.zap.admitted = self.access.keys
        crowded, self._crowded = self._crowded, _out_of_descriptors()
        if self._crowded and not crowded:
            found.append(Crowded())
        return found


def _out_of_descriptors() -> bool:
    try:
        os.close(os.eventfd(0, os.EFD_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False
