"""`Compute`: a pool of nodes, as users hold it.

It joins a provider, options and an `Engine`, and answers for the life of the pool: opened once, closed once, closed at
interpreter exit if nobody has, and refused in forked children. What can be done with it is in `pool.operations`.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from skyward.answers.callbacks import must_not_block
from skyward.config import CANCEL_WAIT, CLOSE_WAIT
from skyward.errors import ForkedPoolError, NoNodesError, PoolClosedError
from skyward.model import Nodes
from skyward.pool import exits
from skyward.pool.choosing import choose
from skyward.pool.later import arrive, later
from skyward.pool.operations import PoolOperations
from skyward.providers.base import LaunchSpec
from skyward.runtime import Activation, activate, deactivate, refuse_in_import
from skyward.transport.signals import Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from skyward.answers.futures import Future
    from skyward.answers.tallying import label_of
    from skyward.answers.waiting import Waiter
    from skyward.config import Options, Settings
    from skyward.dispatch.tasks import SETTLED, Task, total_size
    from skyward.image import Image
    from skyward.mesh.engine import Engine
    from skyward.mesh.launching import Launcher
    from skyward.mesh.view import Tally
    from skyward.model import PoolSnapshot
    from skyward.pool.bundling import Bundler
    from skyward.pool.pumping import Pump
    from skyward.providers.base import Provider
    from skyward.results import Sink
    from skyward.transport.keys import KeyPair
    from skyward.wire.frames import Payload
    from skyward.work.pending import Group

later(globals(), {"skyward.dispatch.tasks": ("SETTLED", "total_size"), "skyward.answers.tallying": ("label_of",)})

_CANCEL_SLACK = 1.0  # seconds beyond `cancel_grace` that `Future.cancel` waits: a kill and a new worker fit in
_NO_NODE_PAUSE = 0.05  # seconds between looks for a node to broadcast to


class Compute(PoolOperations):
    """A pool of nodes: ``with sky.Compute(nodes=2) as pool: f(1) >> pool``.

    ``provider`` is where nodes come from; without one they are processes of this machine, and a name stands for what
    `skyward.toml` describes under it. ``nodes`` is a number, (min, max), or a `Nodes`. ``image`` is what tasks need
    on the nodes. ``mesh`` is the name, or the file, of a mesh that runs: the pool takes part in its nodes, and
    leaves them running. Options come as ``options=sky.Options(...)``, or one by one by their names:
    ``sky.Compute(nodes=2, retries=0, concurrency=4)``.

    Leaving the ``with`` block waits for all calls; leaving it by an exception cancels them. In a notebook:
    ``pool = sky.Compute(...).open()``, and ``pool.close()`` at the end.
    """

    def __init__(
        self,
        provider: Provider | str | None = None,
        nodes: int | tuple[int, int] | Nodes | None = None,
        image: Image | None = None,
        options: Options | None = None,
        *,
        mesh: str | None = None,
        **spec: Unpack[Settings],
    ) -> None:
        chosen = choose(provider, mesh, nodes, image, options, {**spec})
        self._provider, self._nodes, self._image, self._options = chosen
        self._window_size = 0
        self._engine: Engine | None = None
        self._activation: Activation | None = None
        self._closing = threading.Lock()  # held by whoever closes
        self._closed = False
        self._opening = threading.Lock()  # taken for good by who opens the pool: several may want to at once
        self._unwanted = False  # it was closed while it opened, or whoever awaited that was cancelled
        self._pid = os.getpid()

    # --- life ------------------------------------------------------------------------------

    def open(self) -> Self:
        """Start the nodes, return when ``min`` of them are ready; raises `ProvisionError` if they cannot start."""
        refuse_in_import()
        if not self._opening.acquire(blocking=False):
            self._refuse_fork()
            raise PoolClosedError("a pool is opened once: make another sky.Compute(...)")
        self._pid = os.getpid()  # it may have been made before a fork
        nodes, provider = self._nodes, self._provider.for_pool()
        launcher: Launcher | None = None
        try:
            provider.accept(self._image)
            provider.prepare()
            keys = provider.keys()
            key = keys.public if keys else ""
            spec = LaunchSpec.of(self._options, nodes.most, provider=provider, image=self._image, client_key=key)
            from skyward.mesh.launching import Launcher  # what starts nodes boots by now

            launcher = Launcher(provider, spec)
            launcher.begin(nodes.desired)
            with Guard(lambda: None):  # an interrupt waits until somebody can close what this opens
                self._engine = self._make_engine(launcher, keys)
            if self._unwanted:
                raise PoolClosedError("the pool was closed while it opened")
            self._window_size = self._engine.window.limit
            self._engine.open()
            self._maker.max_payload = self._engine.payload_limit()
        except BaseException:
            self._end(CANCEL_WAIT)
            if launcher is not None:
                launcher.close()
            provider.close()
            raise
        exits.note(self)
        self._activation = activate(self)
        return self

    def _make_engine(self, launcher: Launcher, keys: KeyPair | None) -> Engine:
        # The greatest part of a pool, which is imported while nodes start; and what the first call needs.
        from skyward.mesh.engine import Engine
        from skyward.pool.making import TaskMaker
        from skyward.pool.underway import Underway

        arrive("_blake2", "skyward.wire.pickler")
        self._underway = Underway()
        engine = Engine(self._options, launcher, self._nodes, keys)
        self._maker = TaskMaker(self._options, engine.ids, engine.max_payload)
        return engine

    def close(self, *, cancel: bool = False) -> None:
        """Wait for all calls, or with ``cancel`` cancel them, and end every node. Doing it again does nothing."""
        self._unwanted |= self._opening.locked()  # before the engine is looked at: `open` goes the other way
        engine = self._live_engine()
        if engine is None:
            return
        try:
            done = not cancel and engine.finish_work(CLOSE_WAIT, self._underway.stop_values)
            while done and self._underway.finish_feeders():
                done = engine.finish_work(CLOSE_WAIT, self._underway.stop_values)
        except BaseException:
            self._end(CANCEL_WAIT)
            raise
        self._end(CLOSE_WAIT if done else CANCEL_WAIT)

    def close_at_exit(self) -> None:
        """Cancel all calls and end every node, and say so if that ends somebody's work."""
        try:
            if os.getpid() == self._pid and self.is_active and ((stands := self.snapshot()).queued or stands.in_flight):
                said = f"{self!r} is still open at exit: its calls are cancelled"
                warnings.warn(said, RuntimeWarning, stacklevel=2)
        finally:  # the warning may be an error
            self.close(cancel=True)

    def _end(self, patience: float) -> None:
        with Guard(lambda: None), self._closing:  # an interrupt waits until nothing is left
            engine = self._engine
            try:
                if engine is not None and not self._closed:
                    engine.stopping.refuse()
                    self._underway.stop_feeders()
                    engine.close(patience)
            finally:  # a provider may say that it has left something
                self._closed = True
                exits.forget(self)
                if self._activation is not None:
                    deactivate(self._activation, self)

    def __enter__(self) -> Self:
        return self if self.is_active else self.open()  # as a file, which is open already

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)

    async def __aenter__(self) -> Self:
        if not self.is_active:
            await self._in_a_thread(self._open_elsewhere)
            self._activation = activate(self)
        return self

    def _open_elsewhere(self) -> None:
        self.open()
        assert self._activation is not None
        deactivate(self._activation, self)  # it was of the thread's context
        if self._unwanted:
            self.close(cancel=True)

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._in_a_thread(partial(self.close, cancel=kind is not None))

    async def _in_a_thread(self, work: Callable[[], None]) -> None:
        """Open or close; if whoever awaits that is cancelled, which ends no thread, the pool is closed at once."""
        import asyncio

        working = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:
            self._unwanted = True
            await asyncio.to_thread(self.close, cancel=True)
            await asyncio.wait([working])
            working.exception()  # it is of no interest, but has to be looked at
            raise

    # --- primitives of the operations --------------------------------------------------------

    def _check(self) -> None:
        self._open_engine()

    def _refuse_fork(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedPoolError(f"{self!r} cannot be used in a fork of its process: open a pool of your own here")

    def _open_engine(self) -> Engine:
        engine = self._engine
        self._refuse_fork()
        if engine is None:
            raise PoolClosedError("the pool is not open: use `with sky.Compute(...) as pool:`, or call .open()")
        if self._closed or engine.closing:
            if engine.bug is not None:
                raise PoolClosedError(f"the pool has failed by a bug of skyward: {engine.bug!r}") from engine.bug
            raise PoolClosedError("the pool is closed: open another sky.Compute(...)")
        return engine

    def _live_engine(self) -> Engine | None:
        """Return the engine, unless the pool is not open, or another process has opened it; never raises."""
        return self._engine if not self._closed and os.getpid() == self._pid else None

    def _submit_alone(self, task: Task) -> None:
        engine, size = self._engine, task.size
        if engine is None or not engine.window.has_room(size):
            self._wait_for_room_and_submit([task])
        else:
            engine.intake.hand_in((task,), size)

    def _submit(self, tasks: Sequence[Task], wait_for: Waiter | None = None) -> None:
        engine = self._open_engine()
        if wait_for is None:
            engine.intake.hand_in(tasks, total_size(tasks))
        else:
            engine.loop.wait(wait_for, start=partial(engine.intake.submit_awaited, tasks))

    def wait_for(self, waiter: Waiter, deadline: float | None = None) -> bool:
        """Wait until the waiter is done; False at the deadline (`time.monotonic`)."""
        if waiter.done:
            return True
        assert self._engine is not None
        self._refuse_fork()
        return self._engine.loop.wait(waiter, deadline)

    def cancel_tasks(self, tasks: Sequence[Task]) -> None:
        """Cancel the unsettled ones of these tasks, soon; never blocks."""
        if (engine := self._live_engine()) is not None:
            engine.loop.post(lambda: engine.cancel(tasks))

    def _call_later(self, delay: float, command: Callable[..., None], owner: Any = None) -> None:
        engine = self._open_engine()
        engine.loop.post(lambda: engine.call_later(delay, command, owner))

    def soon(self, command: Callable[[], None]) -> None:
        """Run a command where outcomes are delivered; takes no lock."""
        self._open_engine().loop.post(command)

    def grant(self, task: Task, items: int, size: int) -> None:
        """Let a task yield so many more elements and bytes; never blocks."""
        if (engine := self._live_engine()) is not None:
            engine.loop.post(lambda: engine.streaming.grant(task, items, size))

    def push(self, pump: Pump) -> None:
        """Send what a pump has pulled, soon; never blocks."""
        if (engine := self._live_engine()) is not None:
            engine.loop.post(lambda: engine.streaming.push(pump))

    def _place(self, packed: Payload, *, snapshot: bool) -> Payload:
        engine = self._open_engine()
        if engine.sharing is not None:
            packed = engine.sharing.place(packed)
        return super()._place(packed, snapshot=snapshot)

    def _wait_for_room(self, size: int) -> None:
        if not must_not_block():
            self._open_engine().wait_for_room(size)

    def _bundler(self, sink: Sink, calls: int) -> Bundler | None:
        return self._open_engine().bundling.bundler(sink, calls, self.slots) if calls > 1 else None

    def _track(self, group: Group, total: int | None) -> Tally | None:
        return self._open_engine().watching.track(label_of(group), total)

    def _broadcast_ranks(self) -> tuple[int, ...]:
        engine = self._open_engine()
        membership = engine.crew.membership
        deadline = time.monotonic() + self._options.node_wait
        elastic = self._nodes.are_elastic
        while not (ranks := engine.crew.reserve() if elastic else engine.scheduler.ready_ranks()):
            if time.monotonic() > deadline and not membership.waking:
                raise NoNodesError(self._options.node_wait, tuple(membership.causes))
            self._open_engine().loop.post(engine.crew.wake)
            time.sleep(_NO_NODE_PAUSE)
        return ranks

    def _broadcast_over(self) -> None:
        if self._engine is not None:
            self._engine.crew.release()

    def cancel_future(self, future: Future[Any]) -> bool:
        """Try to stop what the future waits for; return whether it was stopped."""
        tasks = future.tasks
        try:
            engine = self._open_engine()
        except PoolClosedError:
            return future.cancelled()  # its end cancels all, or has

        def cancel() -> None:
            for task in tasks:
                if task.state != SETTLED:
                    task.sink.on_cancel()
            engine.cancel(tasks)

        if must_not_block() or engine.callbacks.is_current():
            engine.loop.post(cancel)
            return future.cancelled()
        waiter = future.watch()
        try:
            deadline = time.monotonic() + self._options.cancel_grace + _CANCEL_SLACK
            engine.loop.wait(waiter, deadline, start=cancel)
        finally:
            future.unwatch(waiter)
        return future.cancelled()

    def call_back(self, callback: Callable[[], None]) -> None:
        """Run a callback in the callback thread."""
        if self._engine is not None:
            self._engine.callbacks.do(callback)

    @property
    def slots(self) -> int:
        """Return how many tasks run at once on the nodes that are ready, or may be when the pool has grown."""
        room = self._engine.crew.room() if self._engine is not None else 0
        return max(self.current_nodes(), room) * self.concurrency

    # --- questions and wishes ----------------------------------------------------------------

    def resize(self, nodes: int | tuple[int, int] | Nodes) -> None:
        """Set min, desired and max number of nodes anew, as ``nodes=`` would; returns at once."""
        engine, wanted = self._open_engine(), Nodes.parse(nodes)
        self._provider.check_nodes(wanted)
        self._nodes = wanted
        engine.loop.post(lambda: engine.crew.resize(wanted))

    def current_nodes(self) -> int:
        """Return how many nodes are ready now; 0 when the pool is not open."""
        return len(self._engine.scheduler.ready_ranks()) if self._engine is not None and self.is_active else 0

    def snapshot(self) -> PoolSnapshot:
        """Return how nodes and tasks stand at this moment."""
        engine = self._open_engine()
        found: list[PoolSnapshot] = []
        engine.loop.run(lambda: found.append(engine.snapshot()))
        return found[0]

    @property
    def concurrency(self) -> int:
        """Return how many tasks each node runs at once, or the narrowest of those that are ready; see `sky.Worker`."""
        engine, option = self._engine, self._options.worker.concurrency
        return option if engine is None else engine.crew.width() or option

    @property
    def is_active(self) -> bool:
        """Return whether the pool is open; in a forked child it is not."""
        engine = self._live_engine()
        return engine is not None and not engine.closing

    def __repr__(self) -> str:
        state = (
            "not open" if self._engine is None else "closed" if os.getpid() == self._pid else f"of process {self._pid}"
        )
        if self._engine is not None and self.is_active:
            state = f"{self.current_nodes()} of {self._engine.crew.membership.target} nodes ready"
        return f"<sky.Compute on {self._provider.name}, {state}>"
