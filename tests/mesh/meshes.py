"""Engines, and the provider that "launches" scripted nodes for them.

The heartbeat is an hour unless a test says otherwise, so that nothing comes between.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from skyward.config import Options
from skyward.dispatch.tasks import ANY, Task
from skyward.errors import ProvisionError
from skyward.mesh.engine import Engine
from skyward.mesh.launching import Launcher
from skyward.model import Nodes
from skyward.providers.base import Launched, LaunchSpec, Provider
from skyward.results import Single, unwrap_in_place
from skyward.wire.messages import Beat, Roster
from tests.mesh.scripted import LONG, TOKEN, Node, blob

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Self

    import zmq

    from skyward.transport.keys import KeyPair
    from skyward.wire.functions import FunctionBlob

QUIET = 3600.0  # heartbeat of which none comes during a test


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

    def make(self, nodes: Nodes, *, mortal: bool = False, keys: KeyPair | None = None, **options: Any) -> Engine:
        """Return an engine that has not been opened."""
        self.provider._mortal = mortal
        settings: dict[str, Any] = {"heartbeat": QUIET, "console": False, **options}
        wanted = Options(**settings)
        spec = LaunchSpec.of(wanted, nodes.most, provider=self.provider)
        self.engine = Engine(wanted, Launcher(self.provider, spec), nodes, keys)
        return self.engine

    def open(
        self,
        count: int = 1,
        *,
        slots: int = 1,
        mortal: bool = False,
        calls: bool = False,
        bundles: bool = False,
        lanes: bool = False,
        **options: Any,
    ) -> list[Node]:
        """Open an engine with so many nodes that have been welcomed, and return them."""
        nodes = self.nodes(count, slots=slots)
        for node in nodes if lanes else ():
            node.listen()
        token: dict[str, Any] = {"lane": TOKEN} if lanes else {}
        self.make(Nodes(count), mortal=mortal, **options)
        with self.opening():
            for ready, node in enumerate(nodes, 1):
                executor = self.engine.options.worker.executor
                node.welcome(executor=executor, calls=calls, bundles=bundles, **token)
                for other in nodes[:ready]:
                    assert len(other.expect(Roster).members) == ready
                if lanes:
                    node.take_in()
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
        return Task(
            next(self.engine.ids),
            function,
            data,
            (),
            name=function.name,
            size=len(data),
            movable=fields["rank"] == ANY,
            **fields,
        )

    def submit(self, *tasks: Task) -> None:
        """Hand tasks to the scheduler; a bug on the way is the engine's."""
        self.engine.loop.run(lambda: self.engine.submit(tasks))

    def submit_alone(self, task: Task) -> None:
        """Hand in a task as a thread does that waits for it."""
        self.do(lambda: self.engine.intake.submit_awaited([task]))

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
