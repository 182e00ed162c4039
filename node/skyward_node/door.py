"""How a node is reached: a socket on a private path, or a TCP port behind CURVE. Opened once, at start.

The order on TCP is what makes it safe: keys, then the handler that admits clients, then the port, then the
proof that a stranger is refused; only then is the endpoint told to anyone.

This is a driver: who is admitted is decided in `zap` and `access`.
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
from skyward_node.zap import Zap, refuses_strangers

if TYPE_CHECKING:
    from contextlib import ExitStack

    from skyward.model import NodeConfig
    from skyward.transport.keys import Client
    from skyward.transport.sockets import Context, Socket

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
        self.crowded = False  # no connection can be taken: there are no descriptors left
        self._next_look = 0.0

    @property
    def guarded(self) -> bool:
        """Return whether the handler is there that admits clients."""
        return not self.zap.socket.closed

    def change(self, add: str, label: str, remove: str) -> tuple[tuple[Client, ...], str]:
        """Change the list of clients; return it, and why it was not changed. It counts from the next look on."""
        self._next_look = 0.0
        try:
            return self.access.change(add, label, remove), ""
        except ConfigError as error:
            return (), str(error)

    def look(self, now: float) -> bool:
        """Look at the file of admitted keys now and then; return whether it has changed."""
        if now < self._next_look:
            return False
        self._next_look = now + LOOK
        changed = self.access.look()
        self.zap.admitted = self.access.keys
        self.crowded = _out_of_descriptors()
        return changed


def _out_of_descriptors() -> bool:
    try:
        os.close(os.eventfd(0, os.EFD_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False
