"""A worker: what a process forked by the template does for the rest of its life.

The main thread reads tasks from the data pipe, runs them (process mode) or hands them to its threads
(thread mode), and sends outcomes in batches: when all that has come is done, or sooner, as `worker.telling`
says. EOF on the data pipe means: finish and go. See ``docs/workers.md``.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from _socket import socket
from collections import deque
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, NoReturn

from skyward import runtime
from skyward.errors import ForkedPoolError, ProtocolError
from skyward.machine.mapped_files import tidy
from skyward.machine.memory import Arena, Files, Mappings
from skyward.wire.codec import Decoder, mark_refs
from skyward.wire.loader import FunctionLoader
from skyward.wire.lone import CALLS, Call
from skyward.wire.messages import Cancel, Function, Module, Release, Tasks
from skyward_node.cells import READY, Cells
from skyward_node.pipe_messages import DATA_MESSAGES, Context, Forget
from skyward_node.worker.control import Control
from skyward_node.worker.inbox import Inbox
from skyward_node.worker.instance import enter
from skyward_node.worker.interrupts import Interrupts
from skyward_node.worker.outbox import Outbox
from skyward_node.worker.pipes import PipeReader, PipeWriter
from skyward_node.worker.printing import Printing
from skyward_node.worker.process import flush_streams, prepare
from skyward_node.worker.sharing import Shared
from skyward_node.worker.slot import Slot
from skyward_node.worker.streams import Streams
from skyward_node.worker.telling import Teller
from skyward_node.worker.threads import SlotThreads
from skyward_node.worker.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from skyward.model import NodeConfig
    from skyward.task.nested import NestedPool
    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Message
    from skyward_node.pipe_messages import Waiting
    from skyward_node.template import Birth
    from skyward_node.worker.inbox import Entry


def main(birth: Birth, config: NodeConfig) -> NoReturn:
    """Be a worker until the data pipe ends."""
    prepare(config, birth.env)
    worker = _Worker(birth, config)
    if config.executor == "thread":
        worker.serve_threads()
    else:
        worker.serve()
    leave(0)


def leave(code: int) -> NoReturn:
    """Exit without waiting for threads that tasks have left running."""
    flush_streams()
    # The interpreter's own exit would join those threads first.
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]  # there is no public way to run them
    flush_streams()
    os._exit(code)


def _make_arena(birth: Birth) -> Arena:
    return Arena(birth.arena_size, fd=birth.arena, seen_as=birth.arena_seen_as, worker=birth.worker)


def _remove(order: deque[int], id: int) -> None:
    with suppress(ValueError):  # a slot has just taken it from there, and will find that it is not pending
        order.remove(id)


class _Worker:
    """The main thread, and what it shares with the others."""

    def __init__(self, birth: Birth, config: NodeConfig) -> None:
        threads = config.executor == "thread"
        self._reuse = config.reuse_processes
        self._data = socket(fileno=birth.data)
        control = socket(fileno=birth.control)
        self._reader = PipeReader(self._data)
        self._decoder = Decoder(DATA_MESSAGES)
        self._order: deque[int] = deque()  # in process mode
        queue: SimpleQueue[int | None] = SimpleQueue()  # in thread mode
        self._inbox = Inbox(queue.put) if threads else Inbox(self._order.append, partial(_remove, self._order))
        self._outbox = Outbox(PipeWriter(self._data), flush_streams)
        self._control = Control(control, PipeReader(control), self._inbox, self._outbox, threads=threads)
        self._files = Files()
        self._shared = Shared(partial(_make_arena, birth))
        self._streams = Streams(self._send, self._waiting, self._watch, self._files, self._shield)
        self._control.streams = self._streams
        self._printing = self._control.printing = Printing(self._send, self._watch)
        self._control.release = self._shared.release
        self._loader = FunctionLoader()
        self._context: Context | None = None
        self._forked = False
        self._waits = Waits(self._tell, self._lend, self._take_back)
        self._nesting = threading.Lock()  # held by whoever makes what tasks call others through
        self._nested: NestedPool | None = None
        os.register_at_fork(after_in_child=self._forget_link)
        self._cells = Cells.open(birth.cells, birth.slots)
        self._threads: SlotThreads | None = None
        if threads:
            self._threads = SlotThreads(
                birth.slots,
                queue=queue,
                pending=self._inbox.pending,
                control=self._control,
                outbox=self._outbox,
                cells=self._cells.view,
                new_slot=self._new_slot,
                end_calls=self._end_calls,
            )
        self._control.start()

    # --- process mode -----------------------------------------------------------------------

    def serve(self) -> None:
        """Run tasks on this thread until EOF, or one if processes are not reused."""
        interrupts = Interrupts()
        interrupts.install()
        self._streams.read_while_waiting(self._data.fileno(), self._read_shielded)
        slot = self._new_slot(interrupts)
        order, pending, control, done = self._order, self._inbox.pending, self._control, self._outbox.done
        running = self._cells.view
        running[0] = READY
        teller = Teller(self._outbox, order, partial(self._read, wait=False))
        take = teller.take
        while True:
            while order:
                slot.current = id = order.popleft()
                entry = pending.pop(id, None)
                if entry is not None:  # else a cancel was faster
                    if (pending or done or entry[4] > 1) and not control.watching:
                        control.watch()
                    running[0] = id
                    take(slot.run(entry), slot.started, slot.ended)
                    self._end_calls(id)
                    slot.current = entry = None  # an idle worker keeps no arguments
                    if not self._reuse:
                        self._outbox.flush()
                        return
            slot.current = None
            if done:
                self._outbox.flush()
            teller.paused = True
            tidy()
            found = self._read_alone(slot) if self._reuse else self._read()
            if found is False:
                return
            if found is not True:  # nothing waits behind it: the outcome is told before anything else is done
                running[0] = id = found[0]
                self._outbox.tell(slot.run(found))
                self._end_calls(id)
                found = True  # an idle worker keeps no arguments

    # --- thread mode ------------------------------------------------------------------------

    def serve_threads(self) -> None:
        """Have the threads run tasks until EOF."""
        assert self._threads is not None
        self._threads.start()
        while self._read():
            pass
        self._threads.finish()

    # --- slots ------------------------------------------------------------------------------

    def _new_slot(self, interrupts: Interrupts | None = None) -> Slot:
        slot = Slot(
            self._loader.load,
            interrupts or Interrupts(),
            Mappings(self._files),
            self._streams,
            self._printing,
            self._cells.places,
            thread=self._threads is not None,
        )
        slot.end_calls = partial(self._end_calls, goes_on=True)
        self._control.slots.append(slot)
        if self._context is not None:
            self._instruct(slot, self._context)
        return slot

    def _instruct(self, slot: Slot, context: Context) -> None:
        slot.max_payload = context.max_payload
        slot.share = self._shared.put
        slot.shares_elements = context.shared

    # --- what comes down the data pipe --------------------------------------------------------

    def _read(self, *, wait: bool = True) -> bool:
        """Wait for bytes, or take those that are there, and act on the messages they complete; False at EOF."""
        return self._act_on(self._reader.read(wait=wait))

    def _read_alone(self, slot: Slot) -> Entry | bool:
        """As `_read`, of an idle worker: a task that comes alone is returned, and is the slot's own by then."""
        received = self._reader.read_alone(CALLS)
        if not isinstance(received, Call):
            return self._act_on(received)
        if self._inbox.claim(received.id, slot):
            return received.id, received.function, received.data, (), 1
        self._on_message(received, [])
        return True

    def _act_on(self, received: list[list[Buffer]] | None) -> bool:
        if received is None:
            return False
        for header, *body in received:
            self._on_message(self._decoder.decode(header), body)
        return True

    def _read_shielded(self) -> bool:
        with self._shield():
            return self._read()

    def _on_message(self, message: Message | None, body: list[Buffer]) -> None:
        match message:
            case Call():
                self._inbox.add_one(message)
            case Tasks():
                self._inbox.add(message, mark_refs(message, body))
            case Function():
                self._loader.add_function(message.key, message.name, message.modules, body[0])
            case Module():
                self._loader.add_module(message.key, body[0])
            case Forget(functions=functions, modules=modules):
                self._loader.forget(functions, modules)
            case Cancel():
                if dropped := self._inbox.settle(message):
                    self._control.dropped(dropped, running=message.running)
            case Context():
                self._on_context(message)
            case Release(regions=regions):
                self._shared.release(regions)
            case _:
                raise ProtocolError(f"unexpected {message!r}")

    def _on_context(self, context: Context) -> None:
        first = self._context is None
        self._context = context
        for slot in self._control.slots:
            self._instruct(slot, context)
        if self._threads is None:
            enter(context, 0)
        else:
            self._threads.context = context
        if first:
            runtime.activate(partial(self._pool, context))

    # --- nested calls -------------------------------------------------------------------------

    def _pool(self, context: Context) -> NestedPool:
        """Return what tasks call others through. Most tasks do not, and it takes long to import."""
        self._check_fork()  # a child of a task would wait for what a thread imports that it does not have
        with self._nesting:
            if self._nested is None:
                from skyward.task.nested import NestedPool

                pool = NestedPool(
                    self._send,
                    self._current_task,
                    self._waiting,
                    self._control.post,
                    retries=context.retries,
                    timeout=context.timeout or None,
                    max_payload=context.max_payload or None,
                    reuse_processes=self._reuse,
                )
                self._control.answer = pool.answer
                self._control.relay = pool.relay
                self._nested = pool
            return self._nested

    def _send(self, message: Message, frames: Sequence[Buffer]) -> None:
        self._check_fork()
        with self._shield():
            self._outbox.send(message, frames)

    def _shield(self) -> AbstractContextManager[None]:
        return self._control.slots[0].interrupts.shield()

    def _check_fork(self) -> None:
        if self._forked:
            raise ForkedPoolError("a child process of a task cannot use the pool; let the task itself do it")

    def _current_task(self) -> int | None:
        """Return the task that runs in this thread; in process mode also for the threads it has made."""
        return self._control.slots[0].current if self._threads is None else self._threads.current_task()

    def _watch(self) -> None:
        if not self._control.watching:
            self._control.watch()

    def _waiting(self, task: int, waiting: bool, idle: bool = False) -> None:
        self._check_fork()
        with self._shield():  # an interrupt would leave the count wrong, or the lock held
            (self._waits.begin if waiting else self._waits.end)(task, idle=idle)

    def _tell(self, message: Waiting) -> None:
        self._outbox.send(message)

    def _lend(self, task: int) -> None:
        if self._threads is not None:
            self._threads.lend(task)

    def _take_back(self, task: int) -> None:
        if self._threads is not None:
            self._threads.take_back(task)

    def _end_calls(self, task: int, *, goes_on: bool = False) -> None:
        """A task, or a call of a bundle, has ended: forget its waits and streams, and calls that it has not awaited."""
        self._waits.forget(task)
        if self._streams.producers or self._streams.consumers:
            self._streams.end(task)
        if self._nested is not None and self._nested.awaited:
            self._nested.ended(task, goes_on=goes_on)

    # --- fork ---------------------------------------------------------------------------------

    def _forget_link(self) -> None:
        """In a forked child of a task: let go of the pipes, and let nothing of us run on."""
        self._forked = True
        self._nesting = threading.Lock()  # a thread that is not in the child may hold it
        self._data.close()
        self._control.close()
        self._printing.leave()
        for slot in self._control.slots:
            slot.leave_fork = _leave_fork
        self._streams.hurry()


def _leave_fork(error: BaseException | None) -> None:
    """End a forked child whose copy of the task has ended, as a Python process would end."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    leave(code & 0xFF)
