"""The target that drives a client's engine: what one node says, in any order, with anything in it.

The engine is the real one, with a scheduler, the talk and the books of its nodes; sockets, threads and the
provider are doubles that note what they are asked for. Whatever the node says, nothing but a `ProtocolError`
comes out, for which the engine drops the node, and no call has two outcomes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from skyward.config import Options
from skyward.dispatch.tasks import Task
from skyward.errors import ProtocolError
from skyward.mesh import engine as engine_module
from skyward.mesh.engine import Engine
from skyward.mesh.launching import Launcher
from skyward.model import Nodes
from skyward.providers.base import Launched, LaunchSpec, Provider
from skyward.results import Sink
from skyward.wire import messages as wire
from skyward.wire import shelf
from skyward.wire.codec import Decoder, check_body, encode
from skyward.wire.functions import FunctionBlob
from skyward.wire.kinds import CLIENT_MESSAGES, NODE_MESSAGES
from skyward.wire.lone import Reply
from skyward.wire.sources import ModuleBlob
from skyward.wire.unconfirmed import Unconfirmed
from tests.fuzz.parsing import views
from tests.fuzz.samples import EPOCH, PYTHON, sample

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from random import Random

    from skyward.results import Outcome
    from skyward.wire.frames import Buffer
    from tests.fuzz.script import Step

CALLS: Final = 8  # tasks that are submitted before the node says anything
# What a node says, as often as keeps it in the pool.
SAYINGS: Final[tuple[type[wire.Message], ...]] = (
    wire.Results,
    Reply,
    wire.Submit,
    wire.Function,
    wire.Slots,
    *NODE_MESSAGES,
)

OPTIONS: Final = Options(console=False, heartbeat=3600.0, max_payload=10**6, window=10**6)
WELCOME: Final = encode(
    wire.Welcome(wire.PROTOCOL, PYTHON, {}, bytes(16), EPOCH, 2, "process", "h", "a", 1, [], resumed=False, calls=True)
)
_at_node: Final = Decoder(CLIENT_MESSAGES).decode


class Link:
    """A connection to a node: what is sent must be what a correct node takes."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.greeted = 0
        self.ready = False
        self.epoch = 0
        self.seen = 0
        self.unacked = 0
        self.calls = self.bundles = False
        self.heard = 0
        self.refusals = 0
        self.broken = False
        self.failures = self.linger = self.shown = self.said = 0
        self.fresh = False
        self.cutter = self.joiner = self.monitor = self.socket = self.lane = None
        self.endpoint = ""
        self.level = self.asked = self.closed = False
        self.unconfirmed = Unconfirmed()
        self.functions: set[bytes] = set()
        self.modules: set[bytes] = set()
        self.brought: dict[bytes, ModuleBlob] = {}
        self.learned: shelf.Shelf[FunctionBlob] = shelf.Shelf(shelf.CALLS)

    @property
    def is_open(self) -> bool:
        """Return whether what is sent now is not dropped."""
        return not self.greeted

    def greet(self, frames: list[Any]) -> None:
        """Take a hello."""
        self.send(frames)

    def forget_unsent(self) -> None:
        """Have nothing that waits."""

    def note_end(self, _id: int) -> None:
        """Have no lane."""

    def note_repeats(self) -> None:
        """Have no lane."""

    def send_by_lane(self, _frame: bytes) -> bool:
        """Have no lane."""
        return False

    def send_task(self, frame: bytes, _id: int) -> None:
        """Take a task."""
        self.send([frame])

    def send(self, frames: list[Any]) -> None:
        """Take a message."""
        message = _at_node(frames[0])
        assert message is not None
        check_body(message, frames[1:])

    send_last = send


class Hub:
    """Connects, and has nothing to read."""

    def __init__(self, _keys: object = None) -> None:
        """Need no keys."""

    def connect(self, _endpoint: str, rank: int, _server_key: str = "", *, urgent: bool = False) -> Link:
        """Return a link."""
        return Link(rank)

    def disconnect(self, _link: Link, _linger: int = 0) -> None:
        """Close nothing."""

    def open_lane(self, _link: Link, _token: bytes) -> None:
        """Open nothing."""

    def close_lane(self, _link: Link) -> None:
        """Close nothing."""

    def watch(self, _fd: int) -> None:
        """Watch nothing."""

    def close(self) -> None:
        """Close nothing."""


class Loop:
    """Keeps what is posted until it is run."""

    wake_fd = -1

    def __init__(self, _handler: object, _name: str) -> None:
        self.posted: list[Callable[[], None]] = []

    def post(self, command: Callable[[], None]) -> None:
        """Keep a command."""
        self.posted.append(command)

    def run_posted(self) -> None:
        """Run what was posted."""
        while self.posted:
            self.posted.pop(0)()


class Nobody(Provider):
    """Launches nothing and ends nothing."""

    name: ClassVar[str] = "nobody"

    def for_pool(self) -> Nobody:
        """Return itself."""
        return self

    def prepare(self) -> None:
        """Need nothing."""

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Never be asked."""
        raise NotImplementedError

    def terminate(self, launched: Launched) -> None:
        """End nothing."""

    def log_tail(self, launched: Launched) -> tuple[str, ...]:
        """Know nothing."""
        return ()

    def close(self) -> None:
        """Close nothing."""


class Once(Sink):
    """Takes the outcome of one task, and no second one."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None

    def deliver(self, task: Task, outcome: Outcome) -> None:
        """Take it."""
        assert self.outcome is None, f"{task} has two outcomes"
        self.outcome = outcome


class Launches:
    """Starts nothing: a test says when a node has been launched."""

    def launch(self, on_done: object) -> None:
        """Start nothing."""

    def terminate(self, launched: Launched) -> None:
        """End nothing."""


# In the place of what an engine has of sockets and threads.
DOUBLES: Final[dict[str, Any]] = {"Hub": Hub, "Loop": Loop, "free_port": lambda: 4711}


def make_word(random: Random) -> Step:
    """Return a step for `run_client`."""
    return [random.randbytes(1), *sample(random.choice(SAYINGS), random)]


class Client:
    """An engine with one node, and calls that it has been handed."""

    def __init__(self, style: int) -> None:
        self.engine = make_engine()
        self.engine.crew.start()
        self.engine.crew._join(0, Launched(ident="0", endpoint="nowhere", pid=1), None)
        self.sinks = [Once() for _ in range(CALLS)]
        (self.mate,) = self.engine.crew.mates.values()
        self.link = self.mate.link
        if style & 1 == 0:
            self.take([WELCOME], [])
        key = bytes([style % 3]) * 16
        blob = FunctionBlob(key, "f", b"code", (ModuleBlob(bytes(16), "m", b"source"),))
        self.engine.submit([self._task(blob, sink) for sink in self.sinks])

    def _task(self, blob: FunctionBlob, sink: Once) -> Task:
        return Task(next(self.engine.ids), blob, b"arguments", (), sink, 0, 3, movable=True)

    def step(self, step: Step) -> None:
        """Have the node say something, and the engine do what follows."""
        control, *frames = step
        if frames and self.mate.link is self.link:
            self.take(frames[:2], views(frames[1:])[1:])
        if control[:1] < b"\x80":
            self.turn()

    def take(self, start: list[bytes], rest: list[Buffer]) -> None:
        """Do what the engine does with a message that it has read."""
        link = self.mate.link
        assert link is not None
        try:
            self.engine.hearing.handle(self.mate, link, [*start, *rest])
        except ProtocolError as error:
            self.engine.crew.lose(self.mate, f"it sent a message that makes no sense: {error}")

    def turn(self) -> None:
        """Do what the engine does at the end of a turn."""
        engine = self.engine
        for rank, message, body in engine.nesting.flush(engine.crew.epoch):
            engine.talk.send(engine.crew.mates[rank], message, body)
        cast("Any", engine.loop).run_posted()
        engine._tick(time.monotonic())

    def end(self) -> None:
        """Cancel all; every call has had one outcome then."""
        self.turn()
        self.engine._say_goodbye()
        assert all(sink.outcome is not None for sink in self.sinks)
        assert self.engine.scheduler.is_idle()
        assert self.engine.window.outstanding == 0


def make_engine() -> Engine:
    """Return an engine that is joined to doubles."""
    own = {name: getattr(engine_module, name) for name in DOUBLES}
    try:
        for name, double in DOUBLES.items():
            setattr(engine_module, name, double)
        nobody = Nobody()
        launcher = Launcher(nobody, LaunchSpec.of(OPTIONS, 1, provider=nobody))
        engine = Engine(OPTIONS, launcher, Nodes(1))
    finally:
        for name, thing in own.items():
            setattr(engine_module, name, thing)
    engine.crew._launcher = cast("Any", Launches())
    return engine


def run_client(steps: list[Step]) -> None:
    """Drive an engine through a script."""
    client = Client(steps[0][0][0] if steps and steps[0][0] else 0)
    for step in steps:
        client.step(step)
    client.end()
