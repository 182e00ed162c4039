"""A real daemon in a process of its own, and a client that speaks the protocol by hand."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from skyward.calls import function as mark
from skyward.model import NodeConfig
from skyward.transport.sockets import make_dealer, receive_frames, send_frames
from skyward.wire import failures, payload
from skyward.wire.codec import Decoder, encode, pack_body, split_body
from skyward.wire.functions import FunctionStore
from skyward.wire.kinds import NODE_MESSAGES
from skyward.wire.lone import Call, Reply
from skyward.wire.messages import (
    PROTOCOL,
    Beat,
    Bye,
    Cancel,
    Function,
    Hello,
    Module,
    Progress,
    Results,
    Returned,
    Tasks,
    Welcome,
)
from skyward.wire.statuses import OK
from skyward_node.worker.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from skyward.wire.messages import Message

PATIENCE = 20.0  # seconds for what should take milliseconds, on a machine that is busy


class Daemon:
    """A daemon started as a launcher starts it."""

    def __init__(self, directory: Path, **config: Any) -> None:
        self.path = directory / "node.sock"
        ready, ready_theirs = os.pipe()
        lifeline_theirs, self.lifeline = os.pipe()
        config_theirs, config_fd = os.pipe()
        fields: dict[str, Any] = {"bind": f"ipc://{self.path}", "parent": os.getpid(), "sys_path": tuple(sys.path)}
        fields |= {"ready_fd": ready_theirs, "lifeline_fd": lifeline_theirs} | config
        node_config = NodeConfig(**fields)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "skyward_node", "--config-fd", str(config_theirs)],
            pass_fds=(ready_theirs, lifeline_theirs, config_theirs),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for fd in (ready_theirs, lifeline_theirs, config_theirs):
            os.close(fd)
        os.write(config_fd, node_config.to_json())
        os.close(config_fd)
        self._ready = ready
        self.endpoint = f"ipc://{self.path}"
        self.line = b""  # what it said when it served, to whom it interests

    def ready_line(self) -> bytes:
        """Return what the daemon says when it serves, or cannot."""
        with os.fdopen(os.dup(self._ready), "rb") as file:
            assert select.select([file], [], [], PATIENCE)[0], "the daemon says nothing"
            return file.readline()

    def descendants(self) -> set[int]:
        """Return the pids of all processes below the daemon."""
        from skyward_node.testing import descendants

        return descendants(self.process.pid)

    def hang_up(self) -> None:
        """Close the lifeline."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1

    def end(self) -> bytes:
        """Wait for the end; return what was logged."""
        _, stderr = self.process.communicate(timeout=PATIENCE)
        return stderr

    def close(self) -> None:
        """End the daemon if it lives."""
        self.hang_up()
        os.close(self._ready)
        if self.process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
            self.process.kill()
        self.process.communicate()


class Client:
    """A session with a node, driven by hand."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.socket = make_dealer(context)
        self.socket.connect(endpoint)
        self.session = os.urandom(16)
        self.epoch = 0
        self.seen = 0
        self.log: list[tuple[Message, list[Any]]] = []
        self.outcomes: dict[int, tuple[int, Any]] = {}
        self.deliveries: list[int] = []
        self.started: list[int] = []
        self.returned: list[int] = []
        self.known: set[bytes] = set()
        self.next_id = 1
        self._decoder = Decoder(NODE_MESSAGES)
        self._store = FunctionStore()

    def send(self, message: Message, body: Sequence[Any] = ()) -> None:
        """Send one message."""
        self.send_frames([encode(message), *body])

    def send_frames(self, frames: Sequence[Any]) -> None:
        """Send any frames, once the socket takes them."""
        assert self.socket.poll(int(PATIENCE * 1000), zmq.POLLOUT), "no connection"
        send_frames(self.socket, frames)

    def hello(self, **changes: Any) -> Welcome:
        """Say hello, and return the node's answer."""
        self.greet(**changes)
        welcome: Welcome = self.wait_for(Welcome)
        self.epoch = welcome.epoch
        return welcome

    def greet(self, **changes: Any) -> None:
        """Say hello."""
        fields: dict[str, Any] = {
            "protocol": PROTOCOL,
            "python": ".".join(map(str, sys.version_info[:3])),
            "versions": {},
            "session": self.session,
            "epoch": self.epoch,
            "ack": self.seen,
            "lease": 0.0,
            "heartbeat": 0.25,
            "cancel_grace": 0.3,
            "max_payload": 0,
            "label": "test:1",
        }
        self.send(Hello(**(fields | changes)))

    def submit(self, function: Callable[..., Any], *args: Any, retries: int = 3, timeout: float = 0.0) -> int:
        """Send one call; return its task id."""
        return self.submit_all(function, [args], retries=retries, timeout=timeout)[0]

    def submit_all(
        self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], retries: int = 3, timeout: float = 0.0
    ) -> list[int]:
        """Send calls as one batch; return the task ids."""
        key = self._send_code(function)
        ids = list(range(self.next_id, self.next_id + len(arguments)))
        self.next_id += len(ids)
        sizes, buffers, body = pack_body([payload.dumps_call(args, {}, names=())[0] for args in arguments])
        count = len(ids)
        self.send(
            Tasks(
                self.epoch,
                self.seen,
                [key],
                ids,
                [0] * count,
                sizes,
                buffers,
                [retries] * count,
                [timeout] * count,
            ),
            body,
        )
        return ids

    def call(self, function: Callable[..., Any], *args: Any) -> int:
        """Send one call in one frame; return its task id."""
        key, id = self._send_code(function), self.next_id
        self.next_id += 1
        self.send(Call(self.epoch, self.seen, key, id, bytes(payload.dumps_call(args, {}, names=())[0].data), 3))
        return id

    def _send_code(self, function: Callable[..., Any]) -> bytes:
        blob = self._store.resolve(mark(function), frozenset())
        if blob.key not in self.known:
            self.known.add(blob.key)
            for module in blob.modules:
                self.send(Module(self.epoch, module.key, module.name), [module.body])
            self.send(Function(self.epoch, blob.key, [module.key for module in blob.modules], blob.name), [blob.body])
        return blob.key

    def cancel(self, *ids: int, running: bool = True) -> None:
        """Cancel tasks."""
        self.send(Cancel(self.epoch, list(ids), running))

    def outcome(self, id: int) -> tuple[int, Any]:
        """Wait for a task's status, and value or failure."""
        self.until(lambda: id in self.outcomes)
        return self.outcomes[id]

    def value(self, id: int) -> Any:
        """Wait for a task's value."""
        status, value = self.outcome(id)
        assert status == OK, value
        return value

    def wait_for(self, type: type[Any], patience: float = PATIENCE) -> Any:
        """Wait for a message of a type; return the newest."""
        start = len(self.log)
        self.until(lambda: any(isinstance(message, type) for message, _ in self.log[start:]), patience)
        return next(message for message, _ in reversed(self.log) if isinstance(message, type))

    def until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Take in messages until the condition holds."""
        deadline = time.monotonic() + patience
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"nothing came of it; last messages: {self.log[-5:]}")
            if self.socket.poll(int(min(left, 0.2) * 1000) + 1):
                self._take(receive_frames(self.socket, copied=1))
            elif self.epoch and self.socket.poll(0, zmq.POLLOUT):
                self.send(Beat(self.epoch, self.seen, time.monotonic()))

    def _take(self, frames: list[Any]) -> None:
        message = self._decoder.decode(frames[0])
        assert message is not None
        self.log.append((message, frames[1:]))
        match message:
            case Results(seq=seq) if seq > self.seen:
                assert seq == self.seen + 1
                self.seen = seq
                rows = split_body(message.sizes, message.buffers, frames[1:])
                for id, status, (data, buffers) in zip(message.ids, message.statuses, rows, strict=True):
                    value = payload.loads_value(data, buffers) if status == OK else failures.decode(data)
                    self.outcomes[id] = status, value
                    self.deliveries.append(id)
            case Reply(seq=seq, id=id, status=status, data=data) if seq > self.seen:
                assert seq == self.seen + 1
                self.seen = seq
                self.outcomes[id] = status, payload.loads_value(data) if status == OK else failures.decode(data)
                self.deliveries.append(id)
            case Progress(started=started):
                self.started += started
            case Returned(ids=ids):
                self.returned += ids
            case Bye():
                self.send(Bye(self.epoch, self.seen, "so be it"))
            case _:
                pass


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a private directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="sky") as path:
        yield Path(path)


@pytest.fixture
def start_daemon(directory: Path) -> Iterator[Callable[..., Daemon]]:
    """Return a function that starts a daemon; all are gone at the end, with everything below them."""
    daemons: list[Daemon] = []

    def start(**config: Any) -> Daemon:
        daemon = Daemon(directory, **config)
        daemons.append(daemon)
        return daemon

    yield start
    for daemon in daemons:
        below = daemon.descendants()
        daemon.close()
        assert_gone(below)


@pytest.fixture
def serve(start_daemon: Callable[..., Daemon], context: Any) -> Callable[..., tuple[Daemon, Client]]:
    """Return a function that starts a daemon and says hello to it."""

    def start(**config: Any) -> tuple[Daemon, Client]:
        daemon = start_daemon(**config)
        daemon.line = daemon.ready_line()
        client = context(daemon)
        client.hello()
        return daemon, client

    return start


@pytest.fixture
def context() -> Iterator[Callable[[Daemon], Client]]:
    """Return a function that makes a client of a daemon, which has not said hello."""
    zmq_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    clients: list[Client] = []

    def connect(daemon: Daemon) -> Client:
        clients.append(Client(zmq_context, daemon.endpoint))
        return clients[-1]

    yield connect
    for client in clients:
        client.socket.close(0)
    zmq_context.term()


@pytest.fixture(name="assert_gone")
def assert_gone_fixture() -> Callable[..., None]:
    """Return `assert_gone`."""
    return assert_gone


def assert_gone(pids: set[int], patience: float = PATIENCE) -> None:
    """Wait until none of the processes exists."""
    deadline = time.monotonic() + patience
    left = set(pids)
    while left and time.monotonic() < deadline:
        left = {pid for pid in left if _lives(pid)}
        time.sleep(0.005)  # the kernel offers no event for a process that is not our child and has no pidfd
    assert not left, f"still there: {left}"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    """Interrupts that are installed for the test."""
    before = signal.getsignal(signal.SIGINT)
    interrupts = Interrupts()
    interrupts.install()
    yield interrupts
    signal.signal(signal.SIGINT, before)
