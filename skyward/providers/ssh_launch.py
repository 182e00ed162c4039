"""One launch: what client and host say to each other until there is a node. See `onhost.receive` and `bootstrap`.

The node stays only when it was told to, which happens when everything else is done: whatever fails before that, this
process being killed included, ends it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ArchitectureError, HostUnreachableError, ProvisionError
from skyward.providers import bootstrap, openssh_words, ssh_scripts
from skyward.providers.base import Launched
from skyward.providers.openssh import Patience
from skyward.providers.platforms import Platform
from skyward.providers.ssh_scripts import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward.model import NodeConfig
    from skyward.providers.bundle import Bundle
    from skyward.providers.openssh import Connection, Session
    from skyward.providers.openssh_words import Trust

QUIET: Final = 2.0  # seconds a launch may take before anybody is told what it does: most have nothing to tell
KNOCK: Final = 5.0  # seconds a port may take to answer: what runs answers at once, also far away
UNDOING: Final = 6.0  # seconds a host may take to end what it has begun, a daemon by force included
UNDOING_SHELL: Final = 0.5  # the same for a shell that runs the user's command
KILLING: Final = 10.0  # seconds to end what does not end by itself


class Progress:
    """What a host says while it becomes a node, for whoever waits."""

    def __init__(self, host: str, tell: Callable[[str], None]) -> None:
        self._host = host
        self._tell = tell
        self._start = time.monotonic()
        self._pending: deque[str] = deque(maxlen=bootstrap.LOG_LINES)
        self.step = ""

    def hear(self, line: str) -> None:
        """Take a line of its stderr."""
        said = bootstrap.understand(line)
        if said.kind == "step":
            self.step = said.text
            self._pending.append(f"{self._host}: {said.text}")
        elif not said.kind:
            self._pending.append(f"{self._host}: | {said.text}")

    def look(self) -> None:
        """Tell what is new, if it is time to."""
        if self._pending and time.monotonic() - self._start > QUIET:
            self._tell("\n".join(self._pending))
            self._pending.clear()


class Launch:
    """Makes one host a node."""

    def __init__(
        self,
        connection: Connection,
        trust: Trust,
        config: NodeConfig,
        bundle: Callable[[Platform], Bundle],
        *,
        python: str,
        mesh: str,
        port: int,
        tunnel: bool,
        tell: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._host = connection.host
        self._trust = trust
        self._config = config
        self._bundle = bundle
        self._python = python  # its version
        self._mesh = mesh
        self._port = port
        self._tunnel = tunnel
        self._progress = Progress(str(self._host), tell)
        self.entered = False  # what is sent has been read: from now on it heeds the end of its stdin

    def run(self, seconds: float, cancelled: Callable[[], bool]) -> Launched:
        """Return the node when it serves; raises `ProvisionError`, and nothing of it is left."""
        patience = Patience(
            seconds,
            f"{self._host}: connecting by ssh",
            cancelled=cancelled,
            on_look=self._progress.look,
            option="start_timeout",
        )
        session = self._connection.session(self._script(), patience, lambda line: self._hear(line, patience))
        try:
            launched = self._talk(session, patience)
        except ProvisionError as error:
            self._undo(session)
            if not error.log:
                output = [line for line in session.lines if not bootstrap.understand(line).kind]
                error.log = tuple(output[-bootstrap.LOG_LINES :])
            raise
        except BaseException:
            self._undo(session)
            raise
        return launched

    def _undo(self, session: Session) -> None:
        """End what was begun: mostly it ends with its stdin, but a command of the user knows nothing of that."""
        session.hang_up()
        shell = next((said.text for said in map(bootstrap.understand, session.lines) if said.kind == "shell"), "")
        if not session.ends_within(UNDOING if self.entered else UNDOING_SHELL) and shell.isdigit():
            with suppress(ProvisionError):  # the host is out of reach: what it has begun ends when it looks
                self._connection.run(ssh_scripts.kill(shell), Patience(KILLING, f"{self._host}: ending a session"))
        session.end()

    def _hear(self, line: str, patience: Patience) -> None:
        self._progress.hear(line)
        patience.step = f"{self._host}: {self._progress.step or 'starting'}"

    def _script(self) -> str:
        spec = find_spec("skyward.providers.onhost.receive")
        assert spec is not None
        assert spec.origin is not None
        with open(spec.origin, encoding="utf-8") as file:
            source = file.read()
        return bootstrap.enter(source, version=self._python, python=self._host.python, setup=self._host.setup)

    def _talk(self, session: Session, patience: Patience) -> Launched:
        patience.step = f"{self._host}: waiting for its shell"
        facts = self._hear_about("facts", session, patience)
        self.entered = True
        near = self._address(facts)
        self._send_bundle(session, patience, facts)
        bind = f"tcp://{'127.0.0.1' if self._tunnel else _bracketed(near)}:{self._port}"
        config = replace(self._config, bind=bind)
        said = asdict(config) | {"mesh": self._mesh}
        session.send(json.dumps(said).encode() + b"\n", patience)
        ready = self._hear_about("ready", session, patience)
        port = int(ready["endpoint"].rpartition(":")[2])
        if self._tunnel:
            endpoint, address = self._connection.forward(port, patience), "127.0.0.1"
        else:
            address = self._reach(near, port, patience)
            endpoint = f"tcp://{_bracketed(address)}:{port}"
        self._keep(ready["node"], session, patience)
        return Launched(
            ident=str(Place(str(self._host), ready["node"])),
            endpoint=endpoint,
            public_key=ready["public_key"],
            address=address,
            private_address=near or address,
        )

    def _keep(self, node: str, session: Session, patience: Patience) -> None:
        """Tell the node to stay, and make sure that it has heard, or is gone."""
        try:
            session.send(bootstrap.KEEP, patience)
            session.hang_up()
            session.drain(patience)
            session.end()
            if session.code != 0:
                raise self._failure(session)
        except BaseException:  # it may have heard
            with suppress(ProvisionError):
                self._connection.run(ssh_scripts.end(node), Patience(KILLING, f"{self._host}: ending a node"))
            raise

    def _hear_about(self, key: str, session: Session, patience: Patience) -> Any:
        said = session.hear_about(key, patience)
        if said is None:
            session.drain(patience)
            session.end()
            raise self._failure(session)
        return said

    def _failure(self, session: Session) -> ProvisionError:
        lines = list(session.lines)
        if session.code == openssh_words.BROKEN and not any(
            bootstrap.understand(line).kind == "error" for line in lines
        ):
            return HostUnreachableError(
                f"{self._host}: the connection broke, while {self._progress.step}", tuple(lines)
            )
        return bootstrap.failure(str(self._host), lines, why=f"the bootstrap ended with code {session.code}")

    def _send_bundle(self, session: Session, patience: Patience, facts: dict[str, Any]) -> None:
        patience.step = f"{self._host}: packing what it needs"
        try:
            bundle = self._bundle(Platform.of(facts))
        except ArchitectureError as error:
            advice = bootstrap.ADVICE["architecture"]
            raise ArchitectureError(f"{self._host}: {error.message}; {advice}", error.log) from error
        with patience.holding(self._connection.taking_in):
            header = json.dumps({"bundle": bundle.sha256, "size": len(bundle.data)})
            session.send(header.encode() + b"\n", patience)
            if self._hear_about("bundle", session, patience) == "absent":
                session.send(bundle.data, patience)
                self._hear_about("bundle", session, patience)

    # --- where it is -------------------------------------------------------------------------

    def _address(self, facts: dict[str, Any]) -> str:
        """Return the address at which the host was reached, as it knows it."""
        words = str(facts["connection"]).split()
        if len(words) == 4:
            return words[2]
        if self._tunnel:
            return ""
        raise ProvisionError(
            f"{self._host}: its SSH server does not say how it was reached (SSH_CONNECTION): say tunnel=True"
        )

    def _reach(self, near: str, port: int, patience: Patience) -> str:
        """Return the numeric address at which the node's port answers from here."""
        patience.step = f"{self._host}: dialling port {port} of its node"
        places = dict.fromkeys([*_addresses(self._name()), near])
        reasons: list[str] = []
        for place in places:
            patience.look()
            try:
                with socket.create_connection((place, port), min(KNOCK, patience.left + 0.1)) as probe:
                    return str(probe.getpeername()[0])
            except OSError as error:
                reasons.append(f"{place}: {error.strerror or error}")
        raise HostUnreachableError(
            f"{self._host}: its node listens at port {port}, which does not answer from here ({'; '.join(reasons)}): "
            "open the port in its firewall (node_port= chooses it), or say tunnel=True"
        )

    def _name(self) -> str:
        """Return where ssh goes for this host."""
        command = openssh_words.resolve(self._host, self._trust)
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        return openssh_words.hostname(done.stdout) or self._host.name


def _addresses(name: str) -> list[str]:
    found: list[str] = []
    with suppress(OSError):
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    return found


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
