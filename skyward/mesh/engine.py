"""The client's side of a mesh: links, scheduler and nodes, driven by one loop.

Everything here runs under ownership of the loop, except `open`, `wait_idle`, `wait_for_room`, `finish_work` and
`close`. The engine performs what the pure parts decide: it decides nothing about tasks or nodes by itself.
"""

from __future__ import annotations

import itertools
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from skyward.answers.hand import Hand
from skyward.answers.waiting import Waiter
from skyward.config import CANCEL_WAIT, CLOSE_WAIT, available_memory
from skyward.dispatch.scheduler import Scheduler
from skyward.dispatch.tasks import SETTLED, Action, Send, Settle, Stop, total_size
from skyward.errors import PoolClosedError, ProtocolError
from skyward.mesh.bundling import Bundling
from skyward.mesh.console import Console
from skyward.mesh.crew import Crew
from skyward.mesh.greeting import Greeting
from skyward.mesh.hearing import Hearing
from skyward.mesh.intake import Intake
from skyward.mesh.launching import free_port
from skyward.mesh.nesting import Nesting
from skyward.mesh.reach import Reach
from skyward.mesh.sharing import ARENA_SHARE, Sharing
from skyward.mesh.stopping import Stopping
from skyward.mesh.streaming import Streaming
from skyward.mesh.talk import Talk
from skyward.mesh.timers import Timers
from skyward.mesh.verdicts import reason
from skyward.mesh.watching import Watching
from skyward.mesh.window import Window
from skyward.model import PoolSnapshot
from skyward.transport.hub import Hub, News
from skyward.transport.links import Link
from skyward.transport.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skyward.config import Options
    from skyward.dispatch.tasks import Task
    from skyward.mesh.launching import Launcher
    from skyward.model import Nodes
    from skyward.results import Outcome, Sink
    from skyward.transport.keys import KeyPair

LOOK: Final = 0.2  # seconds between looks for what has begun while the end of all work is waited for


class Engine:
    """Drives one pool; see the module."""

    def __init__(self, options: Options, launcher: Launcher, nodes: Nodes, keys: KeyPair | None = None) -> None:
        self.options = options
        self.max_payload = options.payload_limit()
        self.window = Window(options.window_size())
        self.session = os.urandom(16)
        self.pid = os.getpid()
        self.head_port = free_port()
        self.callbacks = Hand("skyward-callbacks")
        self.console = Console(enabled=options.console)
        self.scheduler = Scheduler(options.node_wait)
        self.ids = itertools.count(1)
        self.nesting = Nesting(lambda: next(self.ids))
        self.bundling = Bundling(self)
        self.failed = 0
        self.closing = False
        self.bug: Exception | None = None
        self.sharing = Sharing(available_memory() // ARENA_SHARE) if launcher.provider.shares_memory else None
        self.hub = Hub(keys)
        self.loop = Loop(self, f"skyward-pool-{self.session[:3].hex()}")
        self.hub.watch(self.loop.wake_fd)
        self.crew = Crew(self, launcher, nodes)
        self.talk = Talk(self)
        self.hearing = Hearing(self)
        self.intake = Intake(self)
        self.greeting = Greeting(self)
        self.reach = Reach(self)
        self.streaming = Streaming(self)
        self.stopping = Stopping(self)
        self.watching = Watching(self, enabled=options.console)
        launcher.listen(self.watching.tell)
        self._opening = Waiter()
        self._open_error: BaseException | None = None
        self._timers = Timers()
        self._next_tick = 0.0
        self._idle_waiters: list[Waiter] = []
        self._stranded: list[Task] = []  # in nobody's hands, because what handled them has failed
        self._closed = False

    # --- life (any thread) -----------------------------------------------------------------

    def open(self) -> None:
        """Launch nodes and return when ``min`` of them are ready; raise what prevents it."""
        if self.crew.membership.spec.least == 0:
            self._opening.finish()
        self.loop.start()
        self.watching.start()
        self.loop.run(self.crew.start)
        self.loop.wait(self._opening)
        if self._open_error is not None:
            raise self._open_error

    def opened(self, error: BaseException | None) -> bool:
        """End the opening of the pool, and return whether it was still going on."""
        if self._opening.done:
            return False
        self._open_error = error
        self._opening.finish()
        return True

    def wait_idle(self, meanwhile: Callable[[], None]) -> None:
        """Return when no task is unsettled; ``meanwhile`` is called now and then."""
        waiter = Waiter()

        def start() -> None:
            if self.closing or self.scheduler.is_idle():
                waiter.finish()
            else:
                self._idle_waiters.append(waiter)

        done = self.loop.wait(waiter, time.monotonic() + LOOK, start)
        while not done:
            meanwhile()
            done = self.loop.wait(waiter, time.monotonic() + LOOK)

    def finish_work(self, patience: float, meanwhile: Callable[[], None]) -> bool:
        """Return True when no task is unsettled and no callback makes another, False if they take longer than that."""
        ran = -1
        while ran != self.callbacks.ran:
            ran = self.callbacks.ran
            meanwhile()
            self.wait_idle(meanwhile)
            if not self.callbacks.finish(patience):
                return False
        return True

    def close(self, patience: float = CLOSE_WAIT) -> None:
        """Cancel what is unsettled and leave nothing behind; callbacks and output get ``patience`` seconds each."""
        self.stopping.stop()
        self.loop.run(self._say_goodbye)
        self.loop.close(timeout=10.0)
        self.loop.run(self._hang_up)  # a thread that has waited for a call may still poll
        try:
            self.crew.close()
        finally:  # what a provider could not end does not keep us from ending
            self._close_rest(patience)

    def _close_rest(self, patience: float) -> None:
        self.loop.release_fd()
        self.hearing.close()
        if self.sharing is not None:
            self.sharing.close()
        self.watching.close(timeout=CANCEL_WAIT)  # what it has to say is no work of anybody
        self.callbacks.close(timeout=patience)
        self.console.close(timeout=patience)

    def _say_goodbye(self) -> None:
        self.stopping.cancel_all()
        for mate in self.crew.mates.values():
            self.talk.goodbye(mate)
        self._let_go()
        self._timers.clear()

    def _let_go(self) -> None:
        """End the waits for room, and for the end of all work."""
        self.window.look(closing=True)
        for waiter in self._idle_waiters:
            waiter.finish()

    def _hang_up(self) -> None:
        for mate in list(self.crew.mates.values()):
            self.crew.forget(mate)
        self._closed = True
        self.hub.close()

    # --- what the loop calls ---------------------------------------------------------------

    def turn(self, timeout: float, *, awaited: bool = False) -> None:
        """Poll once and handle what came."""
        if self._closed:
            return
        eager = awaited and self.scheduler.unsettled == 1 and not self.hearing.gathers
        for source in self.hub.poll(timeout, eager=eager):
            if isinstance(source, Link):
                self.read(source)
            elif isinstance(source, News):
                self.reach.on_news(*source)
            elif source == self.loop.wake_fd:
                os.eventfd_read(source)
            elif not self.reach.answered(source):
                self.crew.died(source)
        if self.nesting.answering:
            for rank, message, body in self.nesting.flush(self.crew.epoch):
                self.talk.answer(self.crew.mates[rank], message, body)
        now = time.monotonic()
        if now >= self._next_tick:
            self._tick(now)
        if self._timers.heap:
            self._timers.run(now)

    def next_deadline(self) -> float:
        """Return when `turn` must be called again."""
        return min(self._next_tick, self._timers.next())

    def tick_soon(self) -> None:
        """Tick in the next turn."""
        self._next_tick = 0.0

    def is_busy(self) -> bool:
        """Return whether anything is under way."""
        busy = self.scheduler.unsettled or self._timers.heap or self._idle_waiters or self.window.waiting
        return bool(busy) or not self.crew.is_settled()

    def on_bug(self, error: Exception) -> None:
        """Our own code has failed: end everything with that, so that nobody waits for ever."""
        self.bug = self.bug or error
        self.closing = True
        self.opened(error)
        ended = [action.tasks for action in self.scheduler.on_cancel_all() if isinstance(action, Settle)]
        stranded, self._stranded = self._stranded, []
        for task in itertools.chain(stranded, *ended):
            if task.sink is not None:
                task.state = SETTLED  # whatever it was: the books are not to be trusted
                with suppress(Exception):  # what collects it may be the bug
                    self.settled(task, PoolClosedError(f"the pool has failed by a bug of skyward: {error!r}"))
        self._let_go()

    def strand(self, tasks: Iterable[Task | None]) -> None:
        """Note tasks that the scheduler has let go of and that have no outcome: `on_bug` ends them."""
        self._stranded += [task for task in tasks if task is not None]

    def read(self, link: Link) -> None:
        """Handle what has come over a link, and greet the node if its connection is a new one."""
        mate = self.crew.of(link)
        if mate is None:
            return
        while messages := link.receive():
            self.crew.heard(mate.rank)
            for frames in messages:
                try:
                    self.hearing.handle(mate, link, frames)
                except ProtocolError as error:
                    self.crew.lose(mate, f"it sent a message that makes no sense: {error}")
                if link.closed:
                    return
            if not link.fresh:  # else nothing of the old connection may come after the answer to the greeting
                return
        if link.fresh:
            self.greeting.hello(mate, link)

    def _tick(self, now: float) -> None:
        self._next_tick = now + self.options.heartbeat  # also if something below fails: else every turn would tick
        self.crew.tick(now)
        self._next_tick = self.crew.next_tick(now)

    # --- tasks -----------------------------------------------------------------------------

    def submit(self, tasks: Sequence[Task], *, urgent: bool = False, admitted: bool = False) -> None:
        """Take in tasks; ``admitted`` ones are counted in the window already."""
        if not admitted:
            self.window.admit(total_size(tasks))
        if self.closing:
            self._deliver(tasks, lambda _: PoolClosedError("the pool is closed"))
            return
        try:
            self.crew.wake()
            self.perform(self.scheduler.on_submit(tasks, urgent=urgent))
        except Exception:
            self.strand(tasks)
            raise

    def cancel(self, tasks: Iterable[Task]) -> None:
        """Cancel the unsettled ones."""
        self.perform(self.scheduler.on_cancel(tasks))

    def settled(self, task: Task, outcome: Outcome) -> None:
        """Hand a task's outcome to whom it belongs, once."""
        self.window.released += task.size
        if task.buffers or task.feeds:
            if self.sharing is not None:
                self.sharing.ended(task, outcome)
            for feed in task.feeds:
                feed.stop()
            task.buffers = task.feeds = ()
        task.data, task.function = b"", None  # a future may keep its task
        sink, task.sink = task.sink, None
        sink.deliver(task, outcome)

    def ended(self, rank: int, id: int) -> None:
        """A task has ended on its node: what it had submitted and not awaited is not wanted."""
        self.cancel(self.nesting.parent_ended(rank, id))

    def started(self, rank: int, ids: Iterable[int]) -> None:
        """A node runs these tasks now; of one that shall be cancelled it says that it goes on."""
        node, mate = self.scheduler.nodes.get(rank), self.crew.mates.get(rank)
        if node is None or mate is None:
            return
        for id in ids:
            task = node.in_flight.get(id)
            if task is not None:
                sink: Sink = task.sink
                # Processes can be stopped: there it is the answer to a recall that was faster than the cancel.
                sink.on_started(unstoppable=task.cancelled and mate.threads)

    def after_settling(self) -> None:
        """See what may go on now that tasks have ended; called once per batch."""
        if self.scheduler.unsettled and (actions := self.scheduler.dispatch()):
            self.perform(actions)
        if self.window.waiting:
            self.window.look(closing=self.closing)
        if self._idle_waiters and self.scheduler.is_idle():
            waiters, self._idle_waiters = self._idle_waiters, []
            for waiter in waiters:
                waiter.finish()

    def wait_for_room(self, size: int) -> None:
        """Return when ``size`` more bytes fit the window (any thread)."""
        if self.window.has_room(size):
            return
        waiter = Waiter()

        def start() -> None:
            self.window.when_room(size, waiter)
            self.window.look(closing=self.closing)

        self.loop.wait(waiter, start=start)

    def call_later(self, delay: float, command: Callable[..., None], owner: Any = None) -> None:
        """Run ``command`` after ``delay`` seconds; with an ``owner``, on that, if it is still there."""
        self._timers.add(time.monotonic() + delay, command, owner)

    def perform(self, actions: Sequence[Action]) -> None:
        """Do what the scheduler has decided."""
        try:
            for action in actions:
                self._perform(action)
        except Exception:
            for action in actions:
                if isinstance(action, Settle):
                    self.strand(action.tasks)
            raise

    def _send(self, action: Send) -> None:
        mate = self.crew.mates[action.rank]
        tasks = self.bundling.dissolve(mate, action.tasks)
        # More would end the connection; unless the node takes less than we, calls have been checked.
        if 0 < mate.max_payload < self.max_payload and any(task.size > mate.max_payload for task in tasks):
            self.perform(self.scheduler.on_too_large(action.rank, mate.max_payload, tasks))
        elif tasks:
            self.talk.tasks(mate, tasks)

    def _perform(self, action: Action) -> None:
        match action:
            case Send():
                self._send(action)
            case Stop(rank, tasks, running):
                if (mate := self.crew.mates.get(rank)) is not None:  # else it has just been lost
                    self.talk.cancel(mate, [task.id for task in tasks], running=running)
            case Settle(tasks, verdict):
                self._deliver(tasks, lambda task: reason(task, verdict, closing=self.closing))

    def _deliver(self, tasks: Sequence[Task], reason: Callable[[Task], BaseException]) -> None:
        for task in tasks:
            self.failed += task.count
            self.settled(task, reason(task))
        if tasks and not self.closing:
            self.loop.post(self.after_settling)

    # --- questions -------------------------------------------------------------------------

    def payload_limit(self) -> int:
        """Return how many bytes the arguments of a call may have, wherever it runs."""
        return min([self.max_payload, *(mate.max_payload for mate in self.crew.mates.values() if mate.max_payload)])

    def snapshot(self) -> PoolSnapshot:
        """Return how things stand."""
        scheduler = self.scheduler
        return PoolSnapshot(
            self.crew.snapshot(time.monotonic()),
            queued=scheduler.waiting(),
            in_flight=scheduler.in_flight(),
            done=scheduler.done,
            failed=self.failed,
            rerun=scheduler.reruns,
            active=not self.closing,
        )
