"""One connection to a host by the OpenSSH client, which everything shares that is done there.

The connection is a process that we hold the lifeline of: it runs ``cat`` on the host, which ends with its stdin, so
that nothing of it is left when this process is killed. Scripts run in sessions of that connection. When it breaks it
is made again for the next script; what was started over it and is detached lives on.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, cast

from skyward.errors import HostUnreachableError, ProvisionError
from skyward.machine.passing import LONGEST_PATH
from skyward.providers import openssh_words as words
from skyward.providers.bundle import cache
from skyward.providers.daemon import GLANCE, close_lifeline, open_lifeline
from skyward.providers.directory import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from skyward.providers.openssh_words import Trust
    from skyward.providers.ssh_hosts import Host

LINES: Final = 2_000  # of a session's stderr that are kept: its end is what counts, and errors stand there
SESSIONS: Final = 8  # at once over one connection: servers allow 10 unless told otherwise, one is the connection's own
SUFFIX: Final = len(".0123456789abcdef")  # what ssh appends to the path of its socket while it makes it
ENDING: Final = 3.0  # seconds an ssh client may take to end: after that it is killed
READ: Final = 65_536
TRIES: Final = 5  # ports of this machine to forward


class Patience:
    """How long somebody waits, whether he still does, and for what: ``step`` changes as things go on."""

    def __init__(
        self,
        seconds: float,
        step: str,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        on_look: Callable[[], None] = lambda: None,
        option: str = "",
    ) -> None:
        self.step = step
        self._seconds = seconds
        self._cancelled = cancelled
        self._on_look = on_look
        self._option = option  # that sets the time
        self._deadline = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Return the seconds that are left."""
        return max(0.0, self._deadline - time.monotonic())

    def look(self) -> None:
        """Raise `ProvisionError` if it is over; called a few times a second."""
        self._on_look()
        if self._cancelled():
            raise ProvisionError(f"{self.step}: it was not wanted any more")
        if not self.left:
            option = f"{self._option}=" if self._option else ""
            raise ProvisionError(f"{self.step}: not done within {option}{self._seconds:g} s")

    @contextmanager
    def holding(self, lock: threading.Lock | threading.Semaphore) -> Generator[None]:
        """Hold a lock, as soon as it is free."""
        while not lock.acquire(timeout=GLANCE):
            self.look()
        try:
            yield
        finally:
            lock.release()


class Pipes:
    """A child process, in a session of its own, whose lines are taken as they come."""

    def __init__(self, command: Sequence[str], on_line: Callable[[str], None] = lambda _: None) -> None:
        self.lines: deque[str] = deque(maxlen=LINES)  # of its stderr
        self._on_line = on_line
        self._said: deque[bytes] = deque()  # lines of its stdout that nobody has taken
        self._partial = {1: b"", 2: b""}
        self._stdin, theirs = open_lifeline()
        try:
            self._process = subprocess.Popen(
                command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            close_lifeline(self._stdin)
            raise ProvisionError(f"cannot run ssh: {error}; install OpenSSH's (Debian: openssh-client)") from error
        finally:
            os.close(theirs)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._open = {self._process.stdout.fileno(): 1, self._process.stderr.fileno(): 2}
        os.set_blocking(self._stdin, False)

    @property
    def code(self) -> int | None:
        """Return its exit code, once it has ended."""
        return self._process.poll()

    def send(self, data: bytes, patience: Patience) -> bool:
        """Write to its stdin, and read meanwhile; return whether it has taken all of it."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._stdin, rest[:READ]) :]
            except BlockingIOError:
                self.pump(patience, writing=True)
            except OSError:  # it has ended, or does not listen: what it said tells why
                return False
        return True

    def hear(self, patience: Patience) -> bytes | None:
        """Return the next line of its stdout; None when there is no more."""
        while not self._said:
            if not self._open:
                return None
            self.pump(patience)
        return self._said.popleft()

    def hear_about(self, key: str, patience: Patience) -> Any:
        """Return what the next JSON line has under ``key``; None when none comes. Noise of login shells is skipped."""
        while (line := self.hear(patience)) is not None:
            with suppress(ValueError):
                said: Any = json.loads(line)
                if isinstance(said, dict) and key in said:
                    return cast("dict[str, Any]", said)[key]
        return None

    def drain(self, patience: Patience) -> None:
        """Read until it has said everything."""
        while self._open:
            self.pump(patience)

    def pump(self, patience: Patience, *, writing: bool = False) -> None:
        """Take what it has said, or wait a moment for it."""
        patience.look()
        poller = select.poll()  # not `select`, which takes no descriptor beyond 1023
        for fd in self._open:
            poller.register(fd, select.POLLIN)
        if writing:
            poller.register(self._stdin, select.POLLOUT)
        for fd, _ in poller.poll(GLANCE * 1000):
            if fd == self._stdin:
                continue
            chunk = os.read(fd, READ)
            which = self._open[fd]
            *lines, self._partial[which] = (self._partial[which] + chunk).split(b"\n")
            if not chunk:
                del self._open[fd]
                lines = [self._partial[which]] if self._partial[which] else []
            for line in lines:
                self._take(which, line)

    def _take(self, which: int, line: bytes) -> None:
        if which == 1:
            self._said.append(line)
            return
        text = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]
        self.lines.append(text)
        self._on_line(text)

    def hang_up(self) -> None:
        """Close its stdin."""
        stdin, self._stdin = self._stdin, -1
        if stdin >= 0:
            close_lifeline(stdin)

    def ends_within(self, seconds: float) -> bool:
        """Return whether it ends by itself in that time; what it says meanwhile is taken."""
        patience = Patience(seconds, "")
        with suppress(ProvisionError):
            self.drain(patience)
        try:
            self._process.wait(patience.left)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, grace: float = ENDING) -> None:
        """Return when it is gone."""
        self.hang_up()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._open.clear()


class Connection:
    """All that is done on one host. Threads may use it side by side."""

    def __init__(self, host: Host, trust: Trust) -> None:
        self.host = host
        self._trust = trust
        self._lock = threading.Lock()  # held while it is made or ended
        self._master: Pipes | None = None
        self._control = ""
        self._room = threading.BoundedSemaphore(SESSIONS)
        self._closed = False
        self._routes: dict[str, str] = {}  # forwarded ports, by the endpoint here
        self.taking_in = threading.Lock()  # held by the session that sends a bundle: the next one finds it there

    def session(self, script: str, patience: Patience, on_line: Callable[[str], None] = lambda _: None) -> Session:
        """Return a session that runs a script of ``sh``; raises `ProvisionError` if the host cannot be reached."""
        while not self._room.acquire(timeout=GLANCE):
            patience.look()
        try:
            return Session(self._connected(patience), script.encode(), patience, on_line, self._room.release)
        except BaseException:
            self._room.release()
            raise

    def run(self, script: str, patience: Patience) -> str:
        """Return what a script prints; raises `ProvisionError`."""
        session = self.session(script, patience)
        try:
            lines: list[bytes] = []
            session.hang_up()
            while (line := session.hear(patience)) is not None:
                lines.append(line)
            session.drain(patience)
        finally:
            session.end()
        if session.code:
            raise HostUnreachableError(f"{self.host}: a command failed with code {session.code}", tuple(session.lines))
        return b"\n".join(lines).decode(errors="replace")

    def forward(self, port: int, patience: Patience) -> str:
        """Return the endpoint on this machine's loopback interface that leads to a port of the host's."""
        control = self._connected(patience)
        for _ in range(TRIES):  # somebody else may take the port first
            with _free_port() as probe:
                near = f"127.0.0.1:{probe.getsockname()[1]}"
            route = f"{near}:127.0.0.1:{port}"
            if self._order(control, "forward", "-L", route):
                with self._lock:
                    self._routes[f"tcp://{near}"] = route
                return f"tcp://{near}"
        raise HostUnreachableError(f"{self.host}: ssh cannot forward a port to it; does its server forbid that?")

    def forget(self, endpoint: str) -> None:
        """Give up a forwarded port."""
        with self._lock:
            route = self._routes.pop(endpoint, None)
            if route is not None and self._master is not None and self._master.code is None:
                self._order(self._control, "cancel", "-L", route)

    def _order(self, control: str, what: str, *arguments: str) -> bool:
        command = words.order(control, what, *arguments)
        try:
            done = subprocess.run(
                command, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=words.CONNECT
            )
        except subprocess.TimeoutExpired:  # the connection hangs, and its own end will tell
            return False
        return done.returncode == 0

    def _connected(self, patience: Patience) -> str:
        """Return the socket of the connection, which is made if there is none."""
        with patience.holding(self._lock):
            if self._closed:
                raise ProvisionError("this provider was closed with its pool; make another one")
            if self._master is not None and self._master.code is None and os.path.exists(self._control):
                return self._control
            if self._master is not None:
                self._master.end(0.0)
                self._master = None
            self._master = self._connect(patience)
            return self._control

    def _connect(self, patience: Patience) -> Pipes:
        self._control = os.path.join(control_directory(), os.urandom(6).hex())
        master = Pipes(words.connect(self.host, self._trust, self._control))
        try:
            while (line := master.hear(patience)) is not None:
                if line.strip() == words.CONNECTED.encode():
                    return master
            master.drain(patience)
        except BaseException:
            master.end(0.0)
            raise
        master.end()
        raise words.explain(self.host, list(master.lines), master.code, self._trust)

    def close(self) -> None:
        """End the connection. Doing it again does nothing; no other is made."""
        with self._lock:
            self._closed = True
            if self._master is not None:
                self._master.end()
                self._master = None


class Session(Pipes):
    """A script that runs on a host."""

    def __init__(
        self,
        control: str,
        script: bytes,
        patience: Patience,
        on_line: Callable[[str], None],
        on_end: Callable[[], Any],
    ) -> None:
        super().__init__(words.run(control, len(script)), on_line)
        self._on_end: Callable[[], Any] | None = on_end
        try:
            self.send(script, patience)
        except BaseException:
            super().end(0.0)
            raise

    def end(self, grace: float = ENDING) -> None:
        """Return when it is gone."""
        on_end, self._on_end = self._on_end, None
        super().end(grace)
        if on_end is not None:
            on_end()


def _free_port() -> Any:
    import socket

    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    probe.bind(("127.0.0.1", 0))
    return probe


def control_directory() -> str:
    """Return a directory that is ours alone, with a path short enough for the sockets of connections."""
    for parent in (cache(), f"/tmp/{PREFIX}{os.getuid()}"):  # noqa: S108 - ours alone, which is checked
        path = os.path.join(parent, "ssh")
        if len(os.fsencode(path)) + 1 + 12 + SUFFIX > LONGEST_PATH:
            continue
        with suppress(OSError):
            os.makedirs(parent, mode=0o700, exist_ok=True)
            os.makedirs(path, mode=0o700, exist_ok=True)
            status = os.lstat(path)
            if status.st_uid == os.getuid() and not status.st_mode & 0o077:
                return path
    raise ProvisionError(f"found no place for the sockets of ssh: make {cache()}/ssh, with mode 0700")
