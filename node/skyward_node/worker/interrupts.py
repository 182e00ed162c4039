"""When a cancel may break into the user's code, which runs on the main thread.

The control thread asks for it with `request`, which sends SIGINT to the main thread; the handler raises
KeyboardInterrupt there, but only while the code of just that task is *armed*, and once. So it never
hits another task, nor our own code between tasks, nor the middle of a message (see `shield`), nor of an
import, which would leave packages half initialised for the next task. `request` is repeated until ``hit``
says that it was heard, because a signal that comes just before a system call does not interrupt that. A SIGINT
that the user's code sends to itself works as in any Python program.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from contextlib import AbstractContextManager
    from types import FrameType
    from typing import Any

_SLOT: Final = "skyward_node.worker.slot"  # whose code is below that of every task


class Interrupts:
    """The interrupts of one slot."""

    __slots__ = ("_sent", "_target", "_thread", "armed", "coroutine", "hit")

    def __init__(self) -> None:
        self.armed: int | None = None  # the task whose code may be interrupted now
        self.hit: int | None = None  # the task that was interrupted by a cancel
        self.coroutine: tuple[AbstractEventLoop, Task[Any]] | None = None  # what the armed task awaits
        self._target: int | None = None
        self._sent = False
        self._thread = threading.get_ident()

    def install(self) -> None:
        """Handle SIGINT. Call it on the main thread, which runs the tasks."""
        signal.signal(signal.SIGINT, self._handle)

    def request(self, task: int) -> None:
        """Interrupt the task if it runs, from another thread."""
        self._target = task
        self._sent = True
        signal.pthread_kill(self._thread, signal.SIGINT)

    def arm(self, task: int) -> None:
        """Allow interrupts of this task from now on. Raises KeyboardInterrupt for one that came before."""
        self.armed = task
        if self._target == task and self.hit != task:
            self._strike(task)

    def disarm(self) -> None:
        """Allow no interrupts."""
        self.armed = None

    def shield(self) -> AbstractContextManager[None]:
        """Hold back interrupts while the task's own thread writes a message, or holds a lock of ours."""
        return _Shield(self)

    def is_here(self) -> bool:
        """Return whether this thread is the one that is interrupted."""
        return threading.get_ident() == self._thread

    def await_with(self, loop: AbstractEventLoop, task: Task[Any]) -> None:
        """Interrupt by cancelling this asyncio task from now on."""
        self.coroutine = loop, task

    def _handle(self, _number: int, frame: FrameType | None) -> None:
        ours, self._sent = self._sent, False
        task = self.armed
        if task is None or (ours and self._target != task):
            return  # too late or too early; if too early, `arm` sees it
        if not ours:
            raise KeyboardInterrupt
        if not _is_importing(frame):
            self._strike(task)

    def _strike(self, task: int) -> None:
        self.hit = task
        self.armed = None  # once: what the user does in its `finally` is not interrupted again
        if self.coroutine is None:
            raise KeyboardInterrupt
        loop, coroutine = self.coroutine
        loop.call_soon_threadsafe(coroutine.cancel)


class _Shield:
    """What holds them back for a moment; a class, because elements of streams pass here one by one."""

    __slots__ = ("_interrupts", "_task")

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._task: int | None = None

    def __enter__(self) -> None:
        interrupts = self._interrupts
        if interrupts.armed is not None and interrupts.is_here():
            self._task, interrupts.armed = interrupts.armed, None

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._interrupts.arm(self._task)


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported below the slot's frame."""
    while frame is not None and frame.f_globals.get("__name__") != _SLOT:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
