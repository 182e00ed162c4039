"""The daemon's loop: one thread that waits for connections, workers, signals and the lifeline.

Each turn gathers what has happened, hands it to the core as one batch, and performs the answer in
order. Nothing in a turn blocks, and nothing here decides.
"""

from __future__ import annotations

import os
import select
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from skyward.machine.cpus import usable_cpus
from skyward.wire.codec import encode
from skyward.wire.lone import REPLIES, frame_to_stream
from skyward_node import notify
from skyward_node.core.actions import (
    Admitted,
    Bury,
    Control,
    Exit,
    Forget,
    Give,
    Kill,
    List,
    Listed,
    Log,
    Retire,
    Send,
    Shutdown,
    Spawn,
)
from skyward_node.executors.environment import worker_environment
from skyward_node.executors.events import Exited, Received

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.model import NodeConfig
    from skyward.transport.sockets import Socket
    from skyward.wire.lone import Call
    from skyward_node.core import Core
    from skyward_node.core.actions import Action, Event
    from skyward_node.door import Door
    from skyward_node.executors.supervisor import Supervisor
    from skyward_node.lanes import Lanes, Take
    from skyward_node.logs import Logger
    from skyward_node.metrics import Metrics
    from skyward_node.router import Router

TICK: Final = 0.25  # seconds between looks at the parent and the core's clock: an orphan ends well within 2 s
RETRY: Final = 0.01  # seconds until a connection that took nothing is tried again
DRAIN: Final = 30.0  # seconds that running tasks may take after SIGTERM
GOODBYE: Final = 200  # ms the last messages may take to leave


class Server:
    """Drives one core."""

    def __init__(
        self,
        config: NodeConfig,
        core: Core,
        router: Router,
        supervisor: Supervisor,
        *,
        signals: int,
        logger: Logger,
        door: Door | None = None,
        metrics: Metrics | None = None,
        lanes: Lanes | None = None,
    ) -> None:
        self._config = config
        self._core = core
        self._router = router
        self._supervisor = supervisor
        self._signals = signals
        self._door = door
        self._metrics = metrics
        self._lanes = lanes
        self._logger = logger
        self.orphaned = False  # it ends because its launcher is gone
        self._code: int | None = None
        self._follow_up: list[Event] = []  # what performing actions has shown
        self._poller = supervisor.poller
        self._shortcut = core.shortcut
        self._now = 0.0  # the moment of this turn
        self._wake = 0.0  # the moment of the next one, whether or not anything happens
        self._lull = 0.0  # the same, or 0.0 if something waits meanwhile
        self._parent_seen = 0.0  # moment of the last look at the parent
        self._serve: dict[Socket | int, Callable[[], Sequence[Event]]] = {
            router.socket: self._on_router,
            signals: self._on_signals,
        }
        if config.lifeline_fd >= 0:
            self._serve[config.lifeline_fd] = self._on_lifeline
        if door is not None:
            self._serve[door.zap.socket] = partial(self._on_knock, door)
            self._follow_up.append(Admitted(door.zap.admitted))
        if metrics is not None:
            self._serve[metrics.fileno()] = partial(self._on_question, metrics)
        if lanes is not None:
            self._serve[lanes.listener.fileno()] = partial(self._on_new_lane, lanes)
        for source in self._serve:
            self._poller.register(source)
        # The same for what is ready alone while nothing else is to be done: a lone task, or its result, takes no turn.
        self._serve_alone = self._serve | {router.socket: self._on_router_alone}
        self._accelerators = core.node.identity.accelerators
        self._perform_by_type: dict[type, Callable[[Any], None]] = {
            Send: self._send,
            Spawn: self._spawn,
            Give: lambda action: supervisor.send(action.worker, [encode(action.message), *action.body]),
            Control: lambda action: supervisor.send(action.worker, [encode(action.message), *action.body], True),
            Kill: lambda action: supervisor.kill(action.worker),
            Retire: lambda action: supervisor.retire(action.worker),
            Forget: self._forget,
            List: self._list,
            Bury: lambda action: supervisor.bury(action.worker),
            Log: lambda action: logger.log(action.level, action.event, action.fields),
            Exit: self._exit,
        }

    def run(self) -> int:
        """Serve until it is time to end; return the exit code."""
        self._perform(self._core.start())
        now = time.monotonic()
        while self._code is None:
            ready = self._poller.poll(max(0.0, self._wake - now))
            self._now = now = time.monotonic()
            if len(ready) == 1 and now < self._lull:
                serve = self._serve_alone.get(ready[0][0])
                events = serve() if serve is not None else self._on_worker_alone(ready)
                if not events:
                    continue
                self._turn(events, (), now)
            else:
                self._turn((), ready, now)
            now = time.monotonic()
        return self._code

    def _turn(self, found: Sequence[Event], ready: Sequence[tuple[Socket | int, int]], now: float) -> None:
        """Have the core decide about what was found, and about what those say that are ready."""
        events, self._follow_up = self._follow_up, []
        self._look_around(now, events)  # first: whoever is not admitted any more is not listened to
        if self._router.blocked:
            events += self._router.retry()
            self._poller.used(self._router.socket)
        events += found
        others: list[tuple[Any, int]] = []
        for source, mask in ready:
            if (serve := self._serve.get(source)) is not None:
                events += serve()
            else:  # it is the supervisor's; or it was a lane, which is gone since
                others.append((source, mask))
        if others:
            events += self._supervisor.events(others)
        if self._code is None:
            self._perform(self._core.handle(events, now))
        self._wake = min(self._core.next_deadline(), now + TICK)
        self._lull = self._wake
        if self._follow_up or self._router.blocked:
            self._hurry(now)

    def _hurry(self, now: float) -> None:
        """Have a turn soon: something waits that no descriptor tells of."""
        self._lull = 0.0
        self._wake = 0.0 if self._follow_up else min(self._wake, now + RETRY)

    def _look_around(self, now: float, events: list[Event]) -> None:
        """See to what no descriptor tells of."""
        if self._door is not None:
            events += self._door.look(now)
        if self._metrics is not None:
            self._metrics.look(now)
        if now - self._parent_seen >= TICK:
            self._parent_seen = now
            if _is_readable(self._config.lifeline_fd):  # after a stop, what the poll has told may be of before
                self._on_lifeline()
            if self._config.parent and os.getppid() != self._config.parent:
                self._end_as_orphan()

    def _end_as_orphan(self) -> None:
        if self.orphaned:
            return
        self._logger.log("info", "the launcher is gone", {})
        self.orphaned = True
        self._code = 0

    # --- events ------------------------------------------------------------------------------

    def _on_router(self) -> Sequence[Event]:
        return self._note_more(self._router.receive())

    def _on_router_alone(self) -> Sequence[Event]:
        if self._lanes:  # what has come by one of them may have to be heard before
            return self._on_router()
        return self._note_more(self._router.receive_alone(self._give))

    def _note_more(self, events: list[Event]) -> list[Event]:
        lanes = self._lanes
        if self._router.more:
            self._poller.used(self._router.socket)
        return lanes.before(events) + events if lanes and events else events

    def _on_new_lane(self, lanes: Lanes) -> Sequence[Event]:
        if (fd := lanes.take_in()) >= 0:
            self._serve[fd] = partial(self._on_lane, lanes, fd)
            self._serve_alone[fd] = partial(self._on_lane, lanes, fd, self._give)
            self._poller.register(fd)
        return ()

    def _on_lane(self, lanes: Lanes, fd: int, take: Take | None = None) -> Sequence[Event]:
        try:
            event = lanes.receive(fd, take)
        except EOFError:
            self._drop_lane(lanes, fd)
            return ()
        return () if event is None else (event,)

    def _drop_lane(self, lanes: Lanes, fd: int) -> None:
        self._poller.unregister(fd)
        del self._serve[fd], self._serve_alone[fd]
        lanes.drop(fd)

    def _give(self, peer: bytes, user: str, task: Call, frame: bytes) -> bool:
        """Give a lone task to its worker as it came, if nothing else is to be done for it."""
        worker = self._shortcut.offer(peer, user, task, self._now)
        if not worker:
            return False
        self._supervisor.send_packed(worker, frame_to_stream(frame))
        self._shortcut.note_given(worker, task, self._now)
        return True

    def _on_worker_alone(self, ready: Sequence[tuple[Socket | int, int]]) -> Sequence[Event]:
        """Pass on the result of a lone task, if that is all there is."""
        outcome = self._supervisor.outcome(ready)
        if outcome is None:
            return self._supervisor.events(ready)
        answer = self._shortcut.answer(*outcome, self._now)
        if answer is None:
            return [Received(*outcome)]
        peer, reply = answer
        frame, said = REPLIES.to_frame(reply), None
        if not (self._lanes and self._lanes.answer(peer, reply, frame)):
            self._poller.used(self._router.socket)
            said = self._router.tell(peer, frame)
        self._shortcut.note_answered(outcome[0], reply, self._now)
        if said is not None:
            self._follow_up.append(said)
            self._hurry(self._now)
        return ()

    def _on_lifeline(self) -> Sequence[Event]:
        if os.read(self._config.lifeline_fd, 4096) == b"":
            self._end_as_orphan()
        return ()

    def _on_knock(self, door: Door) -> Sequence[Event]:
        door.zap.serve()
        self._poller.used(door.zap.socket)
        return ()

    def _on_question(self, metrics: Metrics) -> Sequence[Event]:
        metrics.serve(time.monotonic())
        return ()

    def _on_signals(self) -> Sequence[Event]:
        received = set(os.read(self._signals, 4096))
        if signal.SIGINT in received:
            self._code = 130  # what a shell shows for a command that was interrupted
        elif received & {signal.SIGTERM, signal.SIGHUP}:
            notify.tell(notify.STOPPING, "draining")
            return [Shutdown(DRAIN, "asked to by a signal")]
        return ()

    # --- actions -----------------------------------------------------------------------------

    def _perform(self, actions: Sequence[Action]) -> None:
        perform = self._perform_by_type
        for action in actions:
            perform[type(action)](action)

    def _send(self, action: Send) -> None:
        if self._lanes and self._lanes.answer(action.peer, action.message):
            return
        self._poller.used(self._router.socket)
        event = self._router.send(action.peer, action.message, action.body)
        if event is not None:
            self._follow_up.append(event)

    def _forget(self, action: Forget) -> None:
        self._router.forget(action.peer)
        if self._lanes is not None and (fd := self._lanes.fileno_of(action.peer)) >= 0:
            self._drop_lane(self._lanes, fd)

    def _list(self, action: List) -> None:
        if self._door is not None:
            clients, problem = self._door.change(action.add, action.label, action.remove)
            self._follow_up.append(Listed(action.peer, clients, problem))

    def _spawn(self, action: Spawn) -> None:
        try:
            self._supervisor.spawn(action.worker, action.slots, self._environment(action))
        except OSError as error:  # out of descriptors: the core tries again later
            self._logger.log("warning", "cannot start a worker", {"worker": action.worker, "reason": str(error)})
            self._follow_up.append(Exited(action.worker, None, None))

    def _environment(self, action: Spawn) -> dict[str, str]:
        config = self._config
        # What the user has set the worker sets by itself, before this: here is only what is to be shared.
        return worker_environment(
            cpus=usable_cpus(),
            slots=config.seats * config.concurrency,  # of all nodes of this machine
            index=action.place,
            workers=1 if config.executor == "thread" else config.concurrency,
            accelerators=self._accelerators,
            divided=config.seats > 1,
            environ=os.environ | config.env,
        )

    def _exit(self, action: Exit) -> None:
        self._code = action.code


def _is_readable(fd: int) -> bool:
    """Return whether something can be read from a descriptor now, or it is at its end; not if it is none."""
    if fd < 0:
        return False
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))
