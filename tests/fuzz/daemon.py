"""The target that drives a daemon's core: what clients and workers say, in any order, with anything in it.

Messages reach the core as the daemon's drivers hand them in: decoded, checked, or reported as nonsense. What
comes out is looked at as the drivers do: every action must be one that can be sent and that a correct receiver
takes. In between the core's books must be right, and when all is over nothing may be left.
"""

from __future__ import annotations

import gc
import itertools
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ProtocolError
from skyward.wire import messages as wire
from skyward.wire import pipe
from skyward.wire.codec import Decoder, check_body, encode
from skyward.wire.kinds import CLIENT_MESSAGES, NODE_MESSAGES
from skyward.wire.lone import Call
from skyward_node.core import Core, Identity, Limits, admission
from skyward_node.core.actions import Blocked, Control, Give, Gone, Incoming, Kill, Nonsense, Send, Shutdown, Spawn
from skyward_node.core.sessions import Session
from skyward_node.core.tasks import QUEUED, WAITING
from skyward_node.executors.events import Exited, Printed, Received, Spawned
from skyward_node.pipe_messages import CONTROL_MESSAGES, DATA_MESSAGES, MAX_UP, WORKER_MESSAGES
from tests.fuzz.parsing import views
from tests.fuzz.samples import EPOCH, PYTHON, SESSIONS, sample

if TYPE_CHECKING:
    from random import Random

    from skyward_node.core.actions import Action
    from tests.fuzz.script import Step

PEERS: Final = (b"peer0", b"peer1", b"peer2")
MOMENTS: Final = (0.0, 0.0, 0.001, 0.02, 0.3, 2.5, 40.0)  # seconds that pass before a step
LEFT_OVER: Final = 64  # entries of a queue that may have ended without having been taken out
CENSUS: Final = 128  # scripts of which one is looked at for what memory holds afterwards: a look takes some 50 ms

_from_client: Final = Decoder(CLIENT_MESSAGES).decode
_from_worker: Final = Decoder(WORKER_MESSAGES, MAX_UP).decode
_at_client: Final = Decoder(NODE_MESSAGES).decode
_at_worker: Final = (Decoder(DATA_MESSAGES).decode, Decoder(CONTROL_MESSAGES).decode)

# What the first byte of a control says that happens, in turn; the second says to whom, the third when.
CLIENT, WORKER, UP, END, GONE, BLOCKED, PRINT, TIME, SHUTDOWN = range(9)
HAPPENINGS: Final = (
    *(CLIENT,) * 24,
    *(WORKER,) * 16,
    *(UP,) * 10,
    *(END, END, GONE, BLOCKED, PRINT, PRINT, TIME, TIME, TIME, SHUTDOWN),
)
# What a client says, as often as keeps sessions alive and at work.
SAYINGS: Final[tuple[type[wire.Message], ...]] = (
    *CLIENT_MESSAGES,
    *(wire.Hello, wire.Hello, wire.Tasks, wire.Tasks, wire.Tasks, Call, Call, wire.Cancel, wire.Cancel),
    *(wire.Function, wire.Module, wire.Answer),
)


def make_event(random: Random) -> Step:
    """Return a step for `run_daemon`."""
    number = random.randrange(len(HAPPENINGS))
    control = bytes([number, random.randrange(256), random.randrange(256)])
    happening = HAPPENINGS[number]
    if happening == CLIENT:
        return [control, *sample(random.choice(SAYINGS), random)]
    if happening == WORKER:
        return [control, *sample(random.choice(WORKER_MESSAGES), random)]
    return [control, random.choice((b"line\n", b"line", b"\r\n\n", b"x" * 70_000, b"\xff"))]


class Daemon:
    """One core, and as much of its surroundings as it takes."""

    def __init__(self, style: int) -> None:
        identity = Identity(EPOCH, PYTHON, {"numpy": "2.0"}, "host", "127.0.0.1", 4321, ["0"])
        threads, reuse, listed = style & 4 > 0, style & 8 == 0, style & 16 > 0
        limits = Limits(1 + style % 3, threads=threads, reuse=reuse, lease=30.0, max_payload=10**6, listed=listed)
        self.core = Core(limits, identity, 0.0)
        self.now = 0.0
        self.alive: list[int] = []  # workers whose end was not reported
        self.doomed: list[int] = []  # those of them that were killed
        self._perform(self.core.start())

    # --- in ----------------------------------------------------------------------------------

    def step(self, step: Step) -> None:
        """Have something happen."""
        control, *frames = step
        happening, whom, when = control.ljust(3, b"\x00")[:3]
        self.now += MOMENTS[when % len(MOMENTS)]
        happening = HAPPENINGS[happening % len(HAPPENINGS)]
        events: list[Any] = []
        peer = PEERS[whom % len(PEERS)]
        if happening == CLIENT and peer not in self.core.node.peers and whom & 128:
            events.append(Incoming(peer, hello(SESSIONS[whom % len(SESSIONS)])))
        if (event := self._event(happening, whom, frames)) is not None:
            events.append(event)
        while self.doomed and whom & 64:
            events.append(self._end(self.doomed[0], None, 9))
        self._perform(self.core.handle(events, self.now))
        self.check_books()

    def _event(self, happening: int, whom: int, frames: list[bytes]) -> Any:
        peer = PEERS[whom % len(PEERS)]
        event: Any = None
        if happening == CLIENT:
            event = from_client(peer, frames)
        elif happening == GONE:
            event = Gone(peer)
        elif happening == BLOCKED:
            event = Blocked(peer, blocked=whom & 128 > 0)
        elif happening == SHUTDOWN:
            event = Shutdown(5.0, "asked to by the fuzzer")
        elif happening != TIME and self.alive:
            event = self._of_worker(happening, self.alive[whom % len(self.alive)], whom, frames)
        return event

    def _of_worker(self, happening: int, worker: int, whom: int, frames: list[bytes]) -> Any:
        if happening == WORKER:
            return self._from_worker(worker, frames)
        if happening == PRINT:
            return Printed(worker, 1 + whom % 2, b"".join(frames))
        if happening == UP:
            return Spawned(worker, 1_000 + worker)
        return self._end(worker, *((0, None) if whom & 128 else (None, 9)))

    def _from_worker(self, worker: int, frames: list[bytes]) -> Any:
        """Return what the daemon's supervisor makes of what a worker says."""
        try:
            message = _from_worker(frames[0] if frames else b"")
            if message is None:
                raise ProtocolError("unknown message")
            body = views(frames[1:])
            check_body(message, body)
        except ProtocolError:
            return self._end(worker, None, 9)
        return Received(worker, message, body)

    def _end(self, worker: int, exitcode: int | None, signal: int | None) -> Exited:
        self.alive.remove(worker)
        if worker in self.doomed:
            self.doomed.remove(worker)
        return Exited(worker, exitcode, signal, running=(worker % 5,), stderr=("oops",))

    # --- out ---------------------------------------------------------------------------------

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Spawn(worker=worker):
                    self.alive.append(worker)
                case Kill(worker=worker) if worker in self.alive:
                    self.doomed.append(worker)
                case Send(message=message, body=body):
                    assert_taken(_at_client, message, body)
                case Give(message=message, body=body):
                    assert_taken(_at_worker[0], message, body)
                    pipe.pack([encode(message), *body])
                case Control(message=message, body=body):
                    assert_taken(_at_worker[1], message, body)
                    pipe.pack([encode(message), *body])
                case _:
                    pass

    # --- books -------------------------------------------------------------------------------

    def check_books(self) -> None:
        """Check that what the core counts is so, and that it keeps nothing that has ended."""
        node = self.core.node
        held = [task for worker in node.workers.values() for task in worker.tasks.values()]
        assert node.running == sum(worker.load for worker in node.workers.values())
        assert node.lent == sum(task.state == WAITING for task in held)
        assert len(node.turns) == len(node.sessions)
        assert all(node.sessions.get(session.key) is session for session in node.peers.values())
        for session in node.sessions.values():
            assert session.queued == sum(task.state == QUEUED for task in session.queue)
            assert len(session.queue) <= 2 * session.queued + LEFT_OVER
            assert not session.returned
            assert not session.started
            assert set(session.nested) <= set(session.tasks)
        assert self.core.next_deadline() <= self.now + 5.0

    def end(self) -> None:
        """Have every client say goodbye and every worker end; check that nothing is left."""
        for key in SESSIONS:
            session = self.core.node.sessions.get(key)
            if session is not None and session.peer is not None:
                self._perform(self.core.handle([Incoming(session.peer, wire.Bye(EPOCH, 0, ""))], self.now))
        for session in list(self.core.node.sessions.values()):
            admission.end(self.core.node, session)  # its client is away, and does not come back
        self._perform(self.core.handle([self._end(worker, 0, None) for worker in list(self.alive)], self.now))
        self.check_books()
        node = self.core.node
        assert (node.running, node.lent, node.peers, node.stuck) == (0, 0, {}, {})


def hello(session: bytes) -> wire.Hello:
    """Return a hello of a client that has been here before."""
    return wire.Hello(wire.PROTOCOL, PYTHON, {}, session, EPOCH, 0, 0.0, 0.0, 1.0, 0, "client")


def from_client(peer: bytes, frames: list[bytes]) -> Any:
    """Return what the daemon's router makes of a message."""
    if not frames:
        return Nonsense(peer, "protocol", "a message without a header")
    try:
        message = _from_client(frames[0])
        if message is None:
            return None
        body = views(frames[1:])
        check_body(message, body)
    except ProtocolError as error:
        return Nonsense(peer, "protocol", str(error))
    return Incoming(peer, message, body)


def assert_taken(decode: Any, message: wire.Message, body: Any) -> None:
    """Check that a correct receiver takes the message."""
    decoded = decode(encode(message))
    assert decoded == message
    check_body(decoded, body)


_scripts = itertools.count(1)


def run_daemon(steps: list[Step]) -> None:
    """Drive a core through a script. Every so often it is looked whether memory holds a session that is over."""
    count = next(_scripts) % CENSUS == 0
    before = sessions_in_memory() if count else 0
    drive(steps)
    held = sessions_in_memory() - before if count else 0
    assert held <= 0, f"{held} sessions are over and held in memory"


def drive(steps: list[Step]) -> None:
    """Have all of it happen, and then the end."""
    daemon = Daemon(steps[0][0][-1] if steps and steps[0][0] else 0)
    for step in steps:
        daemon.step(step)
    daemon.end()


def sessions_in_memory() -> int:
    """Return how many sessions the interpreter holds, of this core or another."""
    gc.collect()
    return sum(type(thing) is Session for thing in gc.get_objects())


def make_opening(random: Random) -> list[Step]:
    """Return the first steps of a session that has work: its hello, workers, code, and tasks."""
    peer = random.randrange(len(PEERS))
    steps: list[Step] = []
    kinds = (wire.Hello, wire.Module, wire.Module, wire.Module, wire.Function, wire.Function, wire.Tasks, wire.Tasks)
    for kind in kinds:
        steps.append([bytes((HAPPENINGS.index(CLIENT), peer, random.randrange(256))), *sample(kind, random)])
        if random.random() < 0.5:
            steps.append([bytes((HAPPENINGS.index(UP), random.randrange(256), 0)), b""])
    return steps
