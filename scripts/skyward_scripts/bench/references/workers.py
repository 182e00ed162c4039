"""Worker processes of a reference: forked before any thread exists, killed at the end."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import zmq

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

Socket = zmq.Socket[bytes]
Transport = Literal["ipc", "tcp", "curve"]


def fork(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Run a function in a process of its own."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def kill(processes: list[BaseProcess]) -> None:
    """End processes and wait until they are gone."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
        process.close()


class Keys(NamedTuple):
    """The one pair that both ends of a reference use."""

    public: bytes
    secret: bytes


def make_keys() -> Keys:
    """Return a new pair."""
    return Keys(*zmq.curve_keypair())


def secure(socket: Socket, keys: Keys | None, *, server: bool) -> Socket:
    """Put a socket behind CURVE, if there are keys."""
    socket.setsockopt(zmq.LINGER, 0)
    if keys is not None:
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        if server:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
        else:
            socket.setsockopt(zmq.CURVE_SERVERKEY, keys.public)
    return socket
