"""A node that does what a test says: a ROUTER in the test itself, and the provider that "launches" it.

Nothing here runs by itself: a test reads what the client sent, and sends what it wants to. The heartbeat is
an hour unless a test says otherwise, so that nothing comes between.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import zmq

from skyward.config import Options
from skyward.dispatch.tasks import ANY, Task
from skyward.errors import ProvisionError
from skyward.mesh.engine import Engine
from skyward.model import Nodes
from skyward.providers.base import Launched, LaunchSpec, Provider
from skyward.results import Single, unwrap_in_place
from skyward.wire import payload
from skyward.wire.codec import Decoder, check_body, encode, pack_body, split_body
from skyward.wire.frames import Payload
from skyward.wire.functions import FunctionBlob, ModuleBlob
from skyward.wire.messages import (
    CLIENT_MESSAGES,
    OK,
    PROTOCOL,
    Beat,
    Function,
    Hello,
    Message,
    Module,
    Pulse,
    Refused,
    Results,
    Roster,
    Tasks,
    Welcome,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from typing import Self

    from skyward.wire.frames import Buffer

LONG = 20.0  # seconds that nothing here takes
QUIET = 3600.0  # heartbeat of which none comes during a test

M = TypeVar("M", bound=Message)


class Node:
    """One scripted node."""

    def __init__(self, context: zmq.Context[Any], path: str, *, slots: int = 1, epoch: int = 7) -> None:
        self.endpoint = f"ipc://{path}"
        self.slots = slots
        self.epoch = epoch
        self.log: tuple[str, ...] = ()
        self.body: list[bytes] = []  # of the last message
        self.code: list[Message] = []  # functions and modules that came before the last message asked for
        self.ended = threading.Event()  # the client has had its provider end it
        self.launched: Launched | None = None
        self._context = context
        self._socket: zmq.Socket[bytes] | None = None
        self._peer = b""
        self._seq = 0
        self._death_fd = -1
        self._decode = Decoder(CLIENT_MESSAGES).decode
        self.bind()

    # --- life ------------------------------------------------------------------------------

    def bind(self) -> None:
        """Listen; again, if it did before: the old connections are gone then."""
        self.close()
        socket = self._socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(self.endpoint)

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def launch(self, *, mortal: bool) -> Launched:
        """Return what its provider says of it."""
        death_fd = os.eventfd(0, os.EFD_CLOEXEC) if mortal else None
        self._death_fd = -1 if death_fd is None else death_fd
        self.launched = Launched(ident=self.endpoint, endpoint=self.endpoint, pid=os.getpid(), death_fd=death_fd)
        return self.launched

    def die(self) -> None:
        """Let its process end."""
        os.eventfd_write(self._death_fd, 1)

    def end(self) -> None:
        """Be ended by the provider."""
        if self._death_fd >= 0:
            os.close(self._death_fd)
            self._death_fd = -1
        self.ended.set()

    # --- talking ---------------------------------------------------------------------------

    def receive(self) -> Message:
        """Return the next message of the client; its body is in ``body``."""
        assert self._socket is not None
        assert self._socket.poll(int(LONG * 1000)), "the client says nothing"
        self._peer, header, *self.body = self._socket.recv_multipart()
        message = self._decode(header)
        assert message is not None
        check_body(message, self.body)
        return message

    def expect(self, kind: type[M]) -> M:
        """Return the next message, which is of this type.

        Rosters and code may come before it, and beats, which are answered.
        """
        self.code = []
        while True:
            message = self.receive()
            if isinstance(message, kind):
                return message
            if isinstance(message, Beat):
                self.pulse()
                continue
            assert isinstance(message, Function | Module | Roster), f"{message} instead of {kind.__name__}"
            if not isinstance(message, Roster):
                self.code.append(message)

    def hears_nothing(self) -> bool:
        """Return whether no message is there."""
        assert self._socket is not None
        return not self._socket.poll(0)

    def send(self, message: Message, body: Sequence[Buffer] = ()) -> None:
        """Say something."""
        self.send_frames([encode(message), *body])

    def send_frames(self, frames: Sequence[Buffer]) -> None:
        """Say anything."""
        assert self._socket is not None
        self._socket.send_multipart([self._peer, *frames])

    def welcome(self, *, resumed: bool = False) -> Hello:
        """Answer the client's hello, and return it."""
        hello = self.expect(Hello)
        self.send(
            Welcome(
                protocol=PROTOCOL,
                python=hello.python,
                versions={},
                session=hello.session,
                epoch=self.epoch,
                slots=self.slots,
                executor="process",
                hostname="scripted",
                address="here",
                pid=1,
                accelerators=[],
                resumed=resumed,
            )
        )
        return hello

    def refuse(self, code: str, *, python: str = "3.99.0", protocol: int = PROTOCOL) -> None:
        """Say that it does not talk to the client."""
        self.send(Refused(code, "so be it", python, protocol))

    def pulse(self) -> None:
        """Show that it lives."""
        self.send(Pulse(self.epoch, 0, 0, 0.0))

    def finish(self, ids: Sequence[int], value: object = None, **changes: Any) -> None:
        """Send the results of tasks, all with this value."""
        self._seq = changes.pop("seq", self._seq + 1)
        status = changes.pop("status", OK)
        data = changes.pop("data", None)
        payloads = [payload.dumps_value(value) if data is None else Payload(data) for _ in ids]
        sizes, buffers, body = pack_body(payloads)
        statuses = [status] * len(ids)
        epoch = changes.pop("epoch", self.epoch)
        assert not changes
        self.send(Results(epoch, self._seq, list(ids), statuses, sizes, buffers, [1000] * len(ids)), body)

    def tasks(self) -> list[int]:
        """Return the ids of the next batch of tasks."""
        return self.expect(Tasks).ids

    def payloads(self, message: Tasks) -> list[bytes]:
        """Return the arguments of a batch that has just come."""
        return [bytes(data) for data, _ in split_body(message.sizes, message.buffers, self.body)]


class Scripted(Provider):
    """Launches the nodes that a test has made, in their order."""

    name: ClassVar[str] = "scripted"

    def __init__(self, nodes: list[Node], *, mortal: bool = False) -> None:
        self.nodes = nodes
        self.failures: dict[int, Exception] = {}  # by number of the launch
        self.closed = False
        self.asked = threading.Semaphore(0)  # released at every launch
        self._mortal = mortal
        self._more = threading.Condition()

    def add(self, node: Node) -> None:
        """Have one more."""
        with self._more:
            self.nodes.append(node)
            self._more.notify_all()

    def for_pool(self) -> Self:
        """Return itself: a test has one pool."""
        return self

    def prepare(self) -> None:
        """Need nothing."""

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Return the node of this number, when there is one."""
        self.asked.release()
        if index in self.failures:
            raise self.failures[index]
        with self._more:
            while index >= len(self.nodes) and not cancelled.is_set():
                self._more.wait(0.01)  # the pool has no way to wake us up
        if cancelled.is_set():
            raise ProvisionError("not wanted any more")
        return self.nodes[index].launch(mortal=self._mortal)

    def terminate(self, launched: Launched) -> None:
        """End a node."""
        for node in self.nodes:
            if node.launched is launched:
                node.end()

    def log_tail(self, launched: Launched) -> tuple[str, ...]:
        """Return what a test has given the node to say."""
        return next(node.log for node in self.nodes if node.launched is launched)

    def close(self) -> None:
        """End all."""
        self.closed = True
        for node in self.nodes:
            node.end()


def blob(name: str = "f", *modules: str) -> FunctionBlob:
    """Return code."""
    blobs = tuple(ModuleBlob(module.encode().ljust(16), module, b"source of " + module.encode()) for module in modules)
    return FunctionBlob(name.encode().ljust(16), name, b"code of " + name.encode(), blobs)


class Mesh:
    """An engine and its scripted nodes."""

    def __init__(self, context: zmq.Context[Any], directory: str) -> None:
        self._context = context
        self._directory = directory
        self._paths = itertools.count()
        self._all: list[Node] = []
        self.provider = Scripted([])
        self.engine: Engine

    def node(self, *, slots: int = 1, epoch: int | None = None) -> Node:
        """Return a new node, which nobody has launched."""
        number = next(self._paths)
        path = f"{self._directory}/{number}"
        node = Node(self._context, path, slots=slots, epoch=number + 7 if epoch is None else epoch)
        self._all.append(node)
        return node

    def nodes(self, count: int, *, slots: int = 1) -> list[Node]:
        """Return new nodes that the provider will launch first."""
        nodes = [self.node(slots=slots) for _ in range(count)]
        for node in nodes:
            self.provider.add(node)
        return nodes

    def make(self, nodes: Nodes, *, mortal: bool = False, **options: Any) -> Engine:
        """Return an engine that has not been opened."""
        self.provider._mortal = mortal
        settings: dict[str, Any] = {"heartbeat": QUIET, "console": False, **options}
        wanted = Options(**settings)
        self.engine = Engine(wanted, self.provider, LaunchSpec.of(wanted, nodes.most), nodes)
        return self.engine

    def open(self, count: int = 1, *, slots: int = 1, mortal: bool = False, **options: Any) -> list[Node]:
        """Open an engine with so many nodes that have been welcomed, and return them."""
        nodes = self.nodes(count, slots=slots)
        self.make(Nodes(count), mortal=mortal, **options)
        with self.opening():
            for ready, node in enumerate(nodes, 1):
                node.welcome()
                for other in nodes[:ready]:
                    assert len(other.expect(Roster).members) == ready
        return nodes

    @contextlib.contextmanager
    def opening(self, errors: list[BaseException] | None = None) -> Generator[None]:
        """Open the engine in another thread, while the test plays the nodes."""
        raised: list[BaseException] = [] if errors is None else errors

        def work() -> None:
            try:
                self.engine.open()
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            thread.join(LONG)
        assert not thread.is_alive(), "open hangs"
        assert errors is not None or not raised, raised

    def join(self, node: Node) -> int:
        """Let one more node that the engine launches come up; return its rank."""
        self.provider.add(node)
        node.welcome()
        return node.expect(Roster).rank

    def task(self, function: FunctionBlob | None = None, data: bytes = b"args", **fields: Any) -> Task:
        """Return a task for a thread that waits."""
        fields = {"sink": Single(), "index": 0, "retries": 3, "rank": ANY, **fields}
        function = function or blob()
        return Task(next(self.engine.ids), function, data, (), name=function.name, **fields)

    def submit(self, *tasks: Task) -> None:
        """Hand tasks to the scheduler; a bug on the way is the engine's."""
        self.engine.loop.run(lambda: self.engine.submit(tasks))

    def send(self, node: Node, *, retries: int = 3) -> tuple[Task, Single]:
        """Return a task that the node has, and where its outcome will be."""
        single = Single()
        task = self.task(sink=single, retries=retries)
        self.submit(task)
        assert node.tasks() == [task.id]
        return task, single

    def do(self, command: Callable[[], object]) -> None:
        """Run something as the owner of the loop, and raise what it raises."""
        raised: list[Exception] = []

        def run() -> None:
            try:
                command()
            except Exception as error:
                raised.append(error)

        self.engine.loop.run(run)
        if raised:
            raise raised[0]

    def causes(self) -> list[str]:
        """Return why nodes were lost."""
        causes: list[str] = []
        self.do(lambda: causes.extend(self.engine.crew.membership.causes))
        return causes

    def outcome(self, single: Single) -> Any:
        """Return a task's outcome: a value, or an exception."""
        assert self.engine.loop.wait(single, time.monotonic() + LONG), "no outcome"
        assert single.outcome is not None
        return unwrap_in_place(single.outcome)

    def leaves_alone(self, node: Node) -> bool:
        """Return whether the next thing the client says to a node is what it is made to say now."""
        (mate,) = (mate for mate in self.engine.crew.mates.values() if mate.launched is node.launched)
        self.do(lambda: self.engine.talk.beat(mate, 123.0))
        message = node.receive()
        return isinstance(message, Beat) and message.at == 123.0

    def close(self) -> None:
        """Close all."""
        if hasattr(self, "engine") and not self.engine._closed:
            self.engine.close()
        for node in self._all:
            node.end()
            node.close()
