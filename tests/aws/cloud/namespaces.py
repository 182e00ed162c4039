"""Sockets inside the network of another process, and what is served there: metadata, and the way to S3."""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CLONE_NEWNET = 0x40000000
METADATA = ("169.254.169.254", 80)
TOKEN = "token-of-the-metadata-service"  # noqa: S105 - of a service that was made up
CHUNK = 65_536


def listen_in(pid: int, address: tuple[str, int]) -> socket.socket:
    """Return a socket that listens in the network of a process; a thread goes there and ends."""
    made: list[socket.socket] = []

    def go() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(fd, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.create_server(address))
        finally:
            os.close(fd)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if not made:
        raise OSError(f"cannot listen at {address} in the network of process {pid}")
    return made[0]


class Metadata(ThreadingHTTPServer):
    """The metadata service of one machine, version 2 alone. ``notice`` is a file with what is about to happen."""

    daemon_threads = True

    def __init__(self, pid: int, facts: dict[str, str], notice: Path) -> None:
        super().__init__(METADATA, _Asked, bind_and_activate=False)
        self.socket.close()
        self.socket = listen_in(pid, METADATA)
        self.facts = facts
        self.notice = notice
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    def server_bind(self) -> None:
        """Do nothing: it is bound."""


class _Asked(BaseHTTPRequestHandler):
    @property
    def _service(self) -> Metadata:
        assert isinstance(self.server, Metadata)
        return self.server

    def do_PUT(self) -> None:
        """Give out a token."""
        good = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
        self._answer(200 if good else 400, TOKEN)

    def do_GET(self) -> None:
        """Answer a question that carries the token."""
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self._answer(401, "")
            return
        what = self.path.removeprefix("/latest/meta-data/")
        if what == "spot/instance-action" and self._service.notice.exists():
            self._answer(200, self._service.notice.read_text())
        elif what in self._service.facts:
            self._answer(200, self._service.facts[what])
        else:
            self._answer(404, "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Relay:
    """The way from a machine to S3, and to nothing else: a port of its loopback leads to one of ours."""

    def __init__(self, pid: int, port: int) -> None:
        self._port = port
        self._listener = listen_in(pid, ("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._pass, args=[near], daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(("127.0.0.1", self._port)) as far:
            other = {near: far, far: near}
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(CHUNK)
                    if not data:
                        return
                    other[source].sendall(data)

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def notice(action: str, at: str = "2030-01-01T00:00:00Z") -> str:
    """Return what AWS says of a spot instance that it is about to take."""
    return json.dumps({"action": action, "time": at})
