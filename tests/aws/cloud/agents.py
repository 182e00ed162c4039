"""What an instance does that is not really started: it reports as its user data says, and has a port that answers.

For tests of what happens to resources, where hundreds of instances come and go and nobody runs a task.
"""

from __future__ import annotations

import re
import shlex
import socket
import threading
import urllib.error
import urllib.request
from contextlib import suppress

PUBLIC_KEY = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"  # from ZeroMQ's RFC 32, whose secret everybody knows
REPORT = re.compile(r"put (\S+) report 'If-None-Match: \*'")
NONCE = re.compile(r"nonce=(\w+)")


class Agent:
    """Plays one instance."""

    def __init__(self, instance: str, user_data: str, port: int) -> None:
        found = REPORT.search(user_data)
        assert found is not None
        nonce = NONCE.search(user_data)
        assert nonce is not None
        [self._url] = shlex.split(found[1])
        ready = f'{{"endpoint": "tcp://0.0.0.0:{port}", "public_key": "{PUBLIC_KEY}", "pid": 1}}'
        self._report = f"skyward-report 1\nnonce {nonce[1]}\ninstance {instance}\nserves {ready}\n"
        threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        headers = {"If-None-Match": "*", "Content-Type": "text/plain"}
        request = urllib.request.Request(self._url, self._report.encode(), headers, method="PUT")  # noqa: S310 - it is ours
        with suppress(urllib.error.URLError), urllib.request.urlopen(request, timeout=10):  # noqa: S310 - the same
            pass


def answering_port() -> socket.socket:
    """Return a socket whose connections are taken and closed: where nobody takes them, a few hundred fill it."""
    door = socket.create_server(("127.0.0.1", 0), backlog=512)

    def answer() -> None:
        while True:
            door.accept()[0].close()

    threading.Thread(target=answer, daemon=True).start()
    return door
