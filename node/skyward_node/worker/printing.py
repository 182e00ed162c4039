"""What tasks print, on its way out of the worker.

In a process that runs one task at a time everything goes to descriptors 1 and 2, the output of C code and of children
too, in the order in which it was written; a task that shall not be heard has them lead to ``/dev/null``. Threads
share the descriptors: there what Python writes to ``sys.stdout`` and ``sys.stderr`` is taken apart by the task of
the context, and sent as `Output`.

A line that has begun is shown after a tenth of a second: `late` says whether there is one, and the control thread,
which watches then, calls `look`.
"""

from __future__ import annotations

import faulthandler
import io
import os
import sys
import threading
from contextlib import suppress
from contextvars import ContextVar
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from skyward import runtime
from skyward.task.wishes import STDERR, STDOUT, WISH, Wish, is_kept
from skyward.wire.messages import Output
from skyward_node.core.lines import LONGEST, PATIENCE, Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Message
    from skyward_node.core.lines import Block

GATHER_NS: Final = 1_000_000  # ns that lines of threads may gather: a message costs 20 µs, so 2 % of the time
GATHER_SIZE: Final = 32 * 1024  # bytes of them: what a pipe takes at once
PATIENCE_NS: Final = int(PATIENCE * 1e9)
_EVERYWHERE: Final = Wish()


class _Buffer(io.BufferedWriter):
    """The bytes of a `Stream`, which stays open with them, and outlive what else tasks put around them."""

    def close(self) -> None:
        """Flush: a task that closes its output does not close that of those after it."""
        with suppress(OSError, ValueError):
            self.flush()


class Stream(io.TextIOWrapper):
    """``sys.stdout`` or ``sys.stderr`` of a worker."""

    def __init__(self, fd: int, errors: str) -> None:
        raw = io.FileIO(fd, "w", closefd=False)
        super().__init__(_Buffer(raw), encoding="utf-8", errors=errors, line_buffering=True)
        self.fd = fd
        self.begun = 0  # when the line that has not ended was begun, by perf_counter_ns; 0: there is none
        self.watch: Callable[[], object] | None = None  # has somebody look after that

    def write(self, text: str, /) -> int:
        """Write text; to the task of this context if there is one."""
        if (task := _task.get()) is not None and self.watch is not None:
            task.write(self.fd, text)
            return len(text)
        count = super().write(text)
        if text:
            if text[-1] == "\n":
                self.begun = 0
            elif not self.begun:
                self.begun = perf_counter_ns()
                if self.watch is not None:
                    self.watch()
        return count

    def detach(self) -> Any:
        """Return the bytes, to put something else around; the stream keeps them all the same."""
        with suppress(OSError, ValueError):
            self.flush()
        return self.buffer

    def end_line(self) -> None:
        """End the line that has begun: what the next task prints is another."""
        if self.begun:
            with suppress(OSError, ValueError):
                super().write("\n")
            self.begun = 0


class Printing:
    """The output of all tasks of one worker."""

    def __init__(self, send: Callable[[Message, Sequence[Buffer]], None], watch: Callable[[], object]) -> None:
        """``send`` reaches the daemon; ``watch`` has the control thread call `look` while `late`."""
        self._send = send
        self._watch = watch
        self.stdout, self.stderr = sys.stdout, sys.stderr
        self._streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, Stream)]
        for stream in self._streams:
            stream.watch = self._note_begun
        self.begun = False  # a line may have begun
        self._tasks: set[TaskOutput] = set()  # of threads, with lines that wait

    # --- tasks, in their threads --------------------------------------------------------------

    def begin(self, task: int, function: Any, *, thread: bool) -> Muted | TaskOutput | None:
        """Prepare for a task; raises what its function's predicate raises. Returns what `end` wants."""
        wish = getattr(function, WISH, _EVERYWHERE)
        if not thread:
            return None if wish is _EVERYWHERE else Muted(_unwanted(wish), self._streams)
        output = TaskOutput(task, self, () if wish is _EVERYWHERE else _unwanted(wish))
        _task.set(output)
        return output

    def end(self, output: Muted | TaskOutput | None) -> None:
        """A task has ended: its lines have, too."""
        if self.begun and not isinstance(output, TaskOutput):
            self.end_lines()
        if output is not None:
            output.end()
            _task.set(None)

    def end_lines(self) -> None:
        """End the lines that have begun on the streams."""
        self.begun = False
        for stream in self._streams:
            stream.end_line()

    def put_back(self) -> None:
        """Have the next task print to the daemon: one has replaced ``sys.stdout`` or ``sys.stderr``, and left it so."""
        for name, stream in (("stdout", self.stdout), ("stderr", self.stderr)):
            left = sys.__dict__.get(name)
            if left is not stream:
                setattr(sys, name, stream)
                with suppress(Exception):  # it can be anything
                    left.flush()  # type: ignore[union-attr]  # as above

    def _note_begun(self) -> None:
        self.begun = True
        self._watch()

    def send(self, task: TaskOutput, stream: int, count: int, text: bytes) -> None:
        """Send lines of a task on a thread."""
        self._send(Output(0, task.id, stream, count, 0), (text,))

    def gather(self, task: TaskOutput) -> None:
        """Look after what a task on a thread has written and not sent."""
        self._tasks.add(task)
        self._watch()

    def leave(self) -> None:
        """In a forked child, which has neither the link nor the control thread: write to the descriptors."""
        for stream in self._streams:
            stream.watch = None

    # --- the control thread -------------------------------------------------------------------

    @property
    def late(self) -> bool:
        """Return whether something has to be looked after."""
        return bool(self._tasks) or any(stream.begun for stream in self._streams)

    def look(self, now: int) -> None:
        """Show what has waited for long enough."""
        for stream in self._streams:
            if stream.begun and now - stream.begun > PATIENCE_NS:
                stream.begun = 0
                with suppress(OSError, ValueError):  # closed by the user's code
                    stream.flush()
        for task in list(self._tasks):
            if task.flush(now):
                self._tasks.discard(task)


class TaskOutput:
    """What a task on a thread writes."""

    def __init__(self, id: int, printing: Printing, unwanted: Sequence[int]) -> None:
        self.id = id
        self._printing = printing
        self._unwanted = unwanted
        self._lines = {STDOUT: Lines(), STDERR: Lines()}
        self._blocks: list[tuple[int, Block]] = []  # that gather
        self._size = 0
        self._begun = {STDOUT: 0, STDERR: 0}  # by perf_counter_ns
        self._sent_at = 0
        self._over = False
        self._lock = threading.RLock()  # the control thread, and threads that share the context; signals may print

    def write(self, stream: int, text: str) -> None:
        """Take in text."""
        if stream in self._unwanted:
            return
        data = text.encode("utf-8", "backslashreplace")
        with self._lock:
            lines = self._lines[stream]
            for start in range(0, len(data), LONGEST):
                self._add(stream, lines.feed(data[start : start + LONGEST]))
            if not lines.partial:
                self._begun[stream] = 0
            elif not self._begun[stream]:
                self._begun[stream] = perf_counter_ns()
            if self._over:  # a thread that goes on after its task
                self._flush_partial(None)
            elif self._blocks and (perf_counter_ns() - self._sent_at > GATHER_NS or self._size > GATHER_SIZE):
                self._send()
            if self._blocks or lines.partial:
                self._printing.gather(self)

    def flush(self, now: int) -> bool:
        """Send what is there, and lines that have begun if that was long ago; return whether nothing is left."""
        with self._lock:
            self._flush_partial(now)
            return not any(self._begun.values())

    def end(self) -> None:
        """Send all."""
        with self._lock:
            self._over = True
            self._flush_partial(None)

    def _flush_partial(self, now: int | None) -> None:
        for stream, begun in self._begun.items():
            if begun and (now is None or now - begun > PATIENCE_NS):
                self._add(stream, self._lines[stream].flush(ended=now is None))
                self._begun[stream] = 0
        if self._blocks:
            self._send()

    def _add(self, stream: int, block: Block | None) -> None:
        if block is not None:
            self._blocks.append((stream, block))
            self._size += len(block.text)

    def _send(self) -> None:
        blocks, self._blocks, self._size = self._blocks, [], 0
        self._sent_at = perf_counter_ns()
        while blocks:
            stream, size = blocks[0][0], 0
            some: list[Block] = []
            while blocks and blocks[0][0] == stream and size < GATHER_SIZE:
                some.append(blocks.pop(0)[1])
                size += len(some[-1].text)
            text = b"\n".join([block.text for block in some])
            self._printing.send(self, stream, sum([block.number for block in some]), text)


class Muted:
    """Descriptors of a process that lead nowhere while a task runs that shall not be heard."""

    def __init__(self, fds: Sequence[int], streams: Sequence[Stream]) -> None:
        self._streams = [stream for stream in streams if stream.fd in fds]
        self._saved: list[tuple[int, int]] = []
        _flush(self._streams)
        for fd in fds:
            with suppress(OSError):  # the user's code has closed it
                self._saved.append((fd, os.dup(fd)))
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, fd)
                os.close(nowhere)
        self._tell_faulthandler()

    def end(self) -> None:
        """Let them lead to the daemon again."""
        _flush(self._streams)
        for fd, saved in self._saved:
            os.dup2(saved, fd)
        self._tell_faulthandler(STDERR)
        for _, saved in self._saved:
            os.close(saved)

    def _tell_faulthandler(self, real: int | None = None) -> None:
        """Let the stack of a crash reach the daemon all the same."""
        for fd, saved in self._saved:
            if fd == STDERR:
                faulthandler.enable(file=saved if real is None else real, all_threads=False)


# The task on a thread that this context belongs to.
_task: Final[ContextVar[TaskOutput | None]] = ContextVar("skyward_task_output", default=None)


def _unwanted(wish: Wish) -> list[int]:
    info = runtime.instance_info()
    assert info is not None
    kept = {STDOUT: is_kept(wish.stdout, info), STDERR: is_kept(wish.stderr, info)}
    return [fd for fd in kept if not kept[fd]]


def _flush(streams: Sequence[Stream]) -> None:
    for stream in streams:
        with suppress(OSError, ValueError):  # closed by the user's code
            stream.flush()
