"""The control thread: hears cancels and answers while the main thread runs the user's code.

It sleeps in one poll and costs nothing until it is needed. It is *watching*, which means that it wakes
up every few milliseconds, only while a task runs that others wait behind: then it reports a task that
takes long, and sends the outcomes that its slot has gathered. A lone task wakes nobody: the
daemon knows when it started.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

from skyward.errors import ProtocolError
from skyward.wire.bundles import Interim
from skyward.wire.codec import Decoder, encode
from skyward.wire.messages import Answer, Cancel, Credit, Items, Progress, Release
from skyward_node.pipe_messages import CONTROL_MESSAGES, Deadlock
from skyward_node.worker.process import or_die
from skyward_node.worker.slot import cancelled

if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Message
    from skyward_node.worker.inbox import Inbox
    from skyward_node.worker.outbox import Outbox
    from skyward_node.worker.pipes import PipeReader
    from skyward_node.worker.printing import Printing
    from skyward_node.worker.slot import Slot
    from skyward_node.worker.streams import Streams

LONG: Final = 2_000_000  # ns a task may run before it is reported: far above a batch's cost per task
TICK: Final = 2  # ms between looks while watching
CHASE: Final = 20  # ms between interrupts of a task that has not heard the first


class Control:
    """What the control thread does."""

    def __init__(self, sock: socket, reader: PipeReader, inbox: Inbox, outbox: Outbox, *, threads: bool) -> None:
        self.slots: list[Slot] = []
        self.watching = False
        self.streams: Streams | None = None  # set before the thread starts
        self.printing: Printing | None = None  # likewise
        self.release: Callable[[list[int]], object] = len  # lets regions of results be used again; set likewise
        self.answer: Callable[[Answer, Sequence[Buffer]], object] | None = None  # takes answers to nested calls
        self.relay: Callable[[Items | Credit, Sequence[Buffer]], object] | None = None  # takes streams of such calls
        self._commands: deque[Callable[[], None]] = deque()  # from any thread, also from finalizers
        self._chased: list[tuple[Slot, int]] = []  # tasks to interrupt that have not heard of it
        self._socket = sock
        self._reader = reader
        self._inbox = inbox
        self._outbox = outbox
        self._threads = threads
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)
        self._decoder = Decoder(CONTROL_MESSAGES)

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=or_die, args=(self._run,), name="skyward-control", daemon=True).start()

    def watch(self) -> None:
        """Wake up and look after what runs, until it is dealt with."""
        self.watching = True
        os.eventfd_write(self._bell, 1)

    def post(self, command: Callable[[], None]) -> None:
        """Run a command in this thread, soon; takes no lock, because finalizers run in the middle of anything."""
        self._commands.append(command)
        if self._bell >= 0:  # else this is a forked child, where nobody runs it
            os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Close the descriptors, in a forked child where the thread does not exist."""
        self._socket.close()
        if self._bell >= 0:  # else the child of a child
            os.close(self._bell)
            self._bell = -1

    def _run(self) -> None:
        poller = select.poll()
        pipe = self._socket.fileno()
        poller.register(pipe, select.POLLIN)
        poller.register(self._bell, select.POLLIN)
        while True:
            for fd, _ in poller.poll(TICK if self.watching else CHASE if self._chased else None):
                if fd != pipe:
                    os.eventfd_read(self._bell)
                elif not self._hear():
                    return
            while self._commands:
                self._commands.popleft()()
            if self.watching:
                self._look()
            if self._chased:
                self._chase()

    # --- watching -----------------------------------------------------------------------------

    def _look(self) -> None:
        now = perf_counter_ns()
        for slot in self.slots:
            if (bundle := slot.bundle) is not None:
                bundle.look(now - slot.started)
        self._outbox.send_ready(now)  # which costs the slot nothing while its task sleeps, or computes in C
        if any(_is_long(slot, now) for slot in self.slots):
            self._report(now)
        if self.streams is not None:
            self.streams.look(now)
        if self.printing is not None:
            self.printing.look(now)
        if not self._has_to_watch():
            self.watching = False
            # A slot says what it runs and then looks whether we watch; we do it the other way round.
            self.watching = self._has_to_watch()

    def _has_to_watch(self) -> bool:
        if self.streams is not None and self.streams.has_late:
            return True
        if self.printing is not None and self.printing.late:
            return True
        return any(slot.current is not None and slot.current != slot.reported for slot in self.slots)

    def _report(self, now: int) -> None:
        """Send what is done, and what has been running for long."""
        outbox = self._outbox
        with outbox.lock:  # a result cannot overtake us: whoever sends it needs the lock
            running = [slot for slot in self.slots if _is_long(slot, now)]
            started = {slot: slot.current for slot in running}
            done = {outcome[0] for outcome in list(outbox.done)}
            messages = outbox.take()
            ids = [id for id in started.values() if id is not None and id not in done]
            messages += [(encode(interim),) for slot in running if (interim := _interim(slot, ids)) is not None]
            for slot, id in started.items():
                slot.reported = id
            if ids:
                messages.append((encode(Progress(0, [], ids)),))
            outbox.write(messages)

    # --- hearing ------------------------------------------------------------------------------

    def _hear(self) -> bool:
        received = self._reader.read()
        if received is None:
            return False
        for header, *body in received:
            self._on_message(self._decoder.decode(header), body)
        return True

    def _on_message(self, message: Message | None, body: list[Buffer]) -> None:
        streams = self.streams
        assert streams is not None
        match message:
            case Cancel():
                self._cancel(message)
            case Answer():
                if self.answer is not None:
                    self.answer(message, body)
            case Credit(call=call) | Items(call=call) if call:
                if self.relay is not None:
                    self.relay(message, body)
            case Credit():
                streams.credit(message)
            case Items():
                streams.items(message, body)
            case Deadlock():
                streams.refuse(message)
            case Release(regions=regions):
                self.release(regions)
            case _:
                raise ProtocolError(f"unexpected {message!r}")

    def _cancel(self, message: Cancel) -> None:
        dropped, others = self._inbox.cancel(message, self._current)
        if dropped:
            self.dropped(dropped, running=message.running)
        if not message.running:
            return
        running = [(slot, id) for id in others for slot in self.slots if slot.current == id]
        if self.streams is not None:
            for _, id in running:
                self.streams.close(id)
        if self._threads:  # Python cannot stop a thread: the daemon is told that the task runs
            if running:
                self._outbox.send(Progress(0, [], [id for _, id in running]))
            return
        self._chased += running

    def _current(self) -> list[int | None]:
        return [slot.current for slot in self.slots]

    def _chase(self) -> None:
        """Interrupt until it is heard: a signal that comes just before a system call does not interrupt that."""
        self._chased = [(slot, id) for slot, id in self._chased if slot.current == id and slot.interrupts.hit != id]
        for slot, id in self._chased:
            slot.interrupts.request(id)

    def dropped(self, ids: list[int], *, running: bool) -> None:
        """Say what became of tasks that a cancel has caught before they started."""
        if not running:
            self._outbox.hand_back(ids)
            return
        status, payload = cancelled()
        self._outbox.done.extend((id, status, payload, 0) for id in ids)
        self._outbox.flush()


def _is_long(slot: Slot, now: int) -> bool:
    current, bundle = slot.current, slot.bundle
    if current is None or current != slot.begun or current == slot.reported or now - slot.started <= LONG:
        return False
    return bundle is None or bundle.stuck


def _interim(slot: Slot, ids: list[int]) -> Interim | None:
    """Take away what a bundle that takes long has not begun, and tell what became of the rest."""
    bundle = slot.bundle
    if bundle is None or bundle.id not in ids:
        return None
    data = bundle.part()
    return None if data is None else Interim(0, bundle.id, data)
