"""A core with names for what goes in and what is expected out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.codec import pack_body
from skyward.wire.frames import Payload
from skyward.wire.lone import Call, Reply
from skyward.wire.messages import (
    PROTOCOL,
    Cancel,
    Function,
    Hello,
    Member,
    Progress,
    Refused,
    Results,
    Returned,
    Tasks,
    Welcome,
)
from skyward.wire.statuses import OK, Failure
from skyward_node.core import Core, Identity, Limits
from skyward_node.core.actions import Action, Control, Forget, Give, Incoming, Log, Send, Spawn
from skyward_node.core.outbox import encode_failure
from skyward_node.executors.events import Exited, Received, Spawned
from skyward_node.pipe_messages import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.wire.messages import Message
    from skyward_node.core.library import Code

EPOCH = 77
KEY = b"f" * 16
OTHER_KEY = b"g" * 16
BLOB = b"code of f"
HASTY = 0.001  # seconds between two events of a test


def body_of(*data: bytes) -> tuple[list[int], list[int], list[Any]]:
    """Return the columns and frames of these payloads."""
    sizes, buffers, frames = pack_body([Payload(item, ()) for item in data])
    return sizes, buffers, list(frames)


def shortly(core: Core, events: Sequence[Any], now: float) -> list[Action] | None:
    """Take a lone task or its result the short way, as the daemon does; None if that is not possible."""
    if len(events) != 1 or now >= core.next_deadline():
        return None
    event, shortcut = events[0], core.shortcut
    if isinstance(event, Incoming) and isinstance(event.message, Call):
        call = event.message
        if worker := shortcut.offer(event.peer, event.user, call, now):
            shortcut.note_given(worker, call, now)
            return [Give(worker, Call(0, 0, call.function, call.id, call.data))]
    if isinstance(event, Received) and isinstance(event.message, Reply):
        answer = shortcut.answer(event.worker, event.message, now)
        if answer is not None:
            shortcut.note_answered(event.worker, answer[1], now)
            return [Send(*answer)]
    return None


class Rig:
    """Drives a core; each method hands in one event and returns the actions, log lines apart."""

    epoch = EPOCH
    session = b"s" * 16
    peer = b"peer1"
    key = KEY

    def __init__(
        self,
        concurrency: int = 2,
        *,
        threads: bool = False,
        reuse: bool = True,
        lease: float = 30.0,
        alone: float = 0.0,
        short: bool = True,
        listed: bool = False,
    ) -> None:
        """``short``: lone tasks take the short way where they can."""
        self.now = 100.0
        self.short = short
        self.shortened = 0  # events that did
        self.identity = Identity(EPOCH, "3.11.7", {"numpy": "2.0"}, "host", "127.0.0.1", 4321, [])
        self.limits = Limits(concurrency, threads, reuse, lease, 1_000_000, alone, listed=listed)
        self.core = Core(self.limits, self.identity, self.now)
        self.logged: list[Log] = []
        self.taught: list[Code] = []  # which is not forgotten
        self.forgotten: list[bytes] = []  # connections

    # --- handing in ---------------------------------------------------------------------------

    def handle(self, *events: Any, after: float = HASTY) -> list[Action]:
        """Hand in events as one batch, ``after`` seconds after the last."""
        self.now += after
        if self.short and (actions := shortly(self.core, events, self.now)) is not None:
            self.shortened += 1
            return actions
        return self._without_logs(self.core.handle(events, self.now))

    def _without_logs(self, actions: Sequence[Action]) -> list[Action]:
        """Set aside what is beside the point of most tests: what is logged, and which connections are forgotten."""
        self.logged += [action for action in actions if isinstance(action, Log)]
        self.forgotten += [action.peer for action in actions if isinstance(action, Forget)]
        return [action for action in actions if not isinstance(action, Log | Forget)]

    def start(self) -> list[Action]:
        """Start the core, and have its workers come up."""
        actions = self._without_logs(self.core.start())
        self.handle(*(Spawned(action.worker, 1000 + action.worker) for action in actions if isinstance(action, Spawn)))
        return actions

    def say(self, message: Message, body: Sequence[Any] = (), *, peer: bytes | None = None) -> list[Action]:
        """Hand in a message of a client."""
        return self.handle(Incoming(peer or self.peer, message, body))

    def hello(self, **changes: Any) -> list[Action]:
        """Have the client say hello."""
        peer = changes.pop("peer", None)
        return self.say(self.hello_message(**changes), peer=peer)

    def hello_message(self, **changes: Any) -> Hello:
        """Return a hello."""
        fields: dict[str, Any] = {
            "protocol": PROTOCOL,
            "python": "3.11.2",
            "versions": {},
            "session": self.session,
            "epoch": 0,
            "ack": 0,
            "lease": 0.0,
            "heartbeat": 60.0,  # no pulse comes between the actions that a test looks at
            "cancel_grace": 1.0,
            "max_payload": 0,
            "label": "client:1",
        }
        return Hello(**(fields | changes))

    def open(self, **changes: Any) -> None:
        """Start, say hello, send one function."""
        if not self.core.node.workers:
            self.start()
        peer = changes.get("peer")
        self.hello(**changes)
        self.say(self.function(), [BLOB], peer=peer)

    def function(self, key: bytes = KEY, modules: Sequence[bytes] = ()) -> Function:
        """Return a function's message."""
        return Function(EPOCH, key, list(modules), "f")

    def tasks_message(self, *ids: int, **changes: Any) -> tuple[Tasks, list[Any]]:
        """Return a batch; the argument pickle of task n is b"args n"."""
        sizes, buffers, body = body_of(*(b"args %d" % id for id in ids))
        fields: dict[str, Any] = {
            "epoch": EPOCH,
            "ack": 0,
            "functions": [KEY],
            "ids": list(ids),
            "fns": [0] * len(ids),
            "sizes": sizes,
            "buffers": buffers,
            "retries": [3] * len(ids),
            "timeouts": [],
        }
        return Tasks(**(fields | changes)), body

    def submit(self, *ids: int, peer: bytes | None = None, **changes: Any) -> list[Action]:
        """Have the client send tasks."""
        message, body = self.tasks_message(*ids, **changes)
        return self.say(message, body, peer=peer)

    def cancel(self, *ids: int, running: bool = True) -> list[Action]:
        """Have the client cancel tasks, or take them back."""
        return self.say(Cancel(EPOCH, list(ids), running))

    def results_message(
        self, *ids: int, seq: int = 0, elapsed: int = 50_000, status: int = OK
    ) -> tuple[Results, list[Any]]:
        """Return results; the pickle of task n is b"result n"."""
        sizes, buffers, body = body_of(*(b"result %d" % id for id in ids))
        epoch = EPOCH if seq else 0
        return Results(epoch, seq, list(ids), [status] * len(ids), sizes, buffers, [elapsed] * len(ids)), body

    def finish(self, worker: int, *ids: int, elapsed: int = 50_000, status: int = OK) -> list[Action]:
        """Have the worker finish tasks."""
        message, body = self.results_message(*ids, elapsed=elapsed, status=status)
        return self.handle(Received(worker, message, body))

    def hear(self, worker: int, message: Message, body: Sequence[Any] = ()) -> list[Action]:
        """Hand in a message of a worker."""
        return self.handle(Received(worker, message, body))

    def progress(self, worker: int, *ids: int) -> list[Action]:
        """Have the worker say that tasks take long."""
        return self.hear(worker, Progress(0, [], list(ids)))

    def hand_back(self, worker: int, *ids: int) -> list[Action]:
        """Have the worker hand tasks back."""
        return self.hear(worker, Returned(0, list(ids)))

    def spawned(self, worker: int) -> list[Action]:
        """Have a worker come up."""
        return self.handle(Spawned(worker, 1000 + worker))

    def die(self, worker: int, signal: int | None = 9, exitcode: int | None = None) -> list[Action]:
        """Have a worker die."""
        return self.handle(self.death(worker, signal, exitcode))

    def death(self, worker: int, signal: int | None = 9, exitcode: int | None = None) -> Exited:
        """Return the end of a worker."""
        return Exited(worker, exitcode, signal, peak_memory=5_000, stderr=("oops",))

    def teach(self, elapsed: int, key: bytes = KEY) -> None:
        """Let the core know how long the function takes (µs)."""
        code = self.core.node.sessions[self.session].library.code(key)
        code.observe(float(elapsed))
        self.taught.append(code)

    # --- expecting ----------------------------------------------------------------------------

    def welcome(self, *, resumed: bool = False, peer: bytes | None = None, slots: int | None = None) -> Send:
        """Return the answer to a hello."""
        me, limits = self.identity, self.limits
        return Send(
            peer or self.peer,
            Welcome(
                PROTOCOL, me.python, me.versions, self.session, EPOCH, slots or limits.concurrency,
                "thread" if limits.threads else "process", me.hostname, me.address, me.pid, [], resumed,
                max_payload=limits.max_payload, calls=True,
                bundles=limits.reuse and not limits.threads, clients=limits.listed, keeps=True,
            ),
        )  # fmt: skip

    def context(self, worker: int, index: int = 0, session: bytes | None = None) -> Give:
        """Return what a worker is told first when there is no roster."""
        key = session or self.session
        members = [Member(0, "127.0.0.1", "127.0.0.1")]
        limits = self.limits
        return Give(
            worker,
            Context(key, 0, key.hex(), members, [limits.concurrency], 0, index, 1.0, limits.max_payload, []),
        )

    def code(self, worker: int) -> Give:
        """Return the function on its way to a worker."""
        return Give(worker, Function(0, KEY, [], "f"), [BLOB])

    def give(self, worker: int, *ids: int) -> Give:
        """Return tasks on their way to a worker."""
        if len(ids) == 1:
            return Give(worker, Call(0, 0, KEY, ids[0], b"args %d" % ids[0]))
        message, body = self.tasks_message(*ids, epoch=0, retries=[])
        return Give(worker, message, body)

    def first(self, worker: int, *ids: int, index: int = 0) -> list[Action]:
        """Return the first tasks on their way to a worker that knows nothing."""
        return [self.context(worker, index), self.code(worker), self.give(worker, *ids)]

    def results(self, seq: int, *ids: int, elapsed: int = 50_000, status: int = OK) -> Send:
        """Return results on their way to the client."""
        return Send(self.peer, *self.results_message(*ids, seq=seq, elapsed=elapsed, status=status))

    def failed(self, seq: int, *outcomes: tuple[int, Failure]) -> Send:
        """Return failures on their way to the client."""
        sizes, buffers, body = body_of(*(encode_failure(failure) for _, failure in outcomes))
        statuses = [failure.status for _, failure in outcomes]
        ids = [id for id, _ in outcomes]
        return Send(self.peer, Results(EPOCH, seq, ids, statuses, sizes, buffers, [0] * len(ids)), body)

    def refused(self, code: str, reason: str, peer: bytes = b"peer1") -> list[Action]:
        """Return a connection being refused."""
        return [Send(peer, Refused(code, reason, self.identity.python, PROTOCOL))]

    def withdraw(self, worker: int, *ids: int, running: bool) -> Control:
        """Return a worker being asked to drop tasks."""
        return Control(worker, Cancel(0, list(ids), running))


@pytest.fixture
def rig() -> Rig:
    """Return a core with two process workers, not started."""
    return Rig()


@pytest.fixture
def make_rig() -> Callable[..., Rig]:
    """Return the class of rigs, for other settings."""
    return Rig
