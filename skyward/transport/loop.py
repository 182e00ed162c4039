"""The loop: one poller, one owner at a time.

Whoever owns the loop polls, and with it everything in its handler: links, scheduler, futures. A
thread that waits for a result takes ownership and polls by itself, so that a lone call wakes no
other thread. When several wait, one drives and the others are parked; the driver hands ownership to
a parked one when it leaves. When nobody waits a background thread drives: after ``GRACE`` if work is
pending, else after ``LINGER``, so that who comes and goes, as the consumer of a stream does, does not
fight it for ownership.

Other threads reach the handler by `post`: commands run under ownership, in order.

This is a driver: it decides who polls, nothing else.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from skyward.answers.waiting import Waiter
from skyward.transport.signals import Guard

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK: Final = 0.2  # seconds between looks for signals: one that comes just before a system call does not end it
NAP: Final = 0.001  # seconds that a dozing owner lets commands gather: to be woken costs it some of that for each
REST: Final = 2  # ms that it does so without looking for what comes: a turn costs about as much as fifty calls
GRACE: Final = 0.001  # seconds in which a caller that has left work under way may be back: nodes have more in hand
LINGER: Final = 0.02  # seconds the background thread stays away after a caller has driven


class Handler(Protocol):
    """What the loop drives. All methods are called by the owner only."""

    def turn(self, timeout: float, *, awaited: bool) -> None:
        """Poll once, for at most ``timeout`` seconds, and handle what came.

        ``awaited``: the thread that polls waits for what comes.
        """
        ...

    def next_deadline(self) -> float:
        """Return the `time.monotonic` moment at which `turn` must be called again."""
        ...

    def is_busy(self) -> bool:
        """Return whether something is in flight that somebody may wait for."""
        ...

    def on_bug(self, error: Exception) -> None:
        """Take in what a command or a method of the handler itself has raised."""
        ...


class Loop:
    """Runs a handler; see the module."""

    def __init__(self, handler: Handler, name: str) -> None:
        self._handler = handler
        self._mutex = threading.Lock()  # guards the three below; held for a few bytecodes
        self._owned = False
        self._by_background = False
        self._parked: deque[Waiter] = deque()
        self._inbox: deque[Callable[[], None]] = deque()
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # the handler polls it
        self._asleep = False
        self._dozing = False
        self._deaf = False
        self._alarm = select.poll()  # for what ends the rest of a background thread: somebody begins to wait
        self._alarm.register(self.wake_fd, select.POLLIN)
        self._watching = False  # the background thread looks by itself whether one that has left work under way is back
        self._uses = 0  # times a caller has polled; one that only asks something leaves that to others
        # A bare lock as a binary semaphore: `post` runs in finalizers, where an Event could deadlock.
        self._nudge = threading.Lock()
        self._nudge.acquire()
        self._closing = False
        self._thread = threading.Thread(target=self._background, name=name, daemon=True)

    def start(self) -> None:
        """Start the background thread."""
        self._thread.start()

    # --- for any thread --------------------------------------------------------------------

    def post(self, command: Callable[[], None]) -> None:
        """Run ``command`` under ownership, soon."""
        self._inbox.append(command)
        if self._asleep:
            self.wake()
        elif not self._owned:
            self._call_background()

    def doze(self, *, deaf: bool = False) -> None:
        """Do not wake the owner for commands that come in the next moment: it looks for them by itself (the owner).

        With ``deaf`` the background thread does not even look for what the handler polls meanwhile. Every look takes
        the interpreter from who hands in the commands, and finds the less to do the sooner it comes.
        """
        self._dozing = True
        self._deaf = deaf

    def wake(self) -> None:
        """Make the owner's poll return."""
        try:
            os.eventfd_write(self.wake_fd, 1)
        except (OSError, ValueError):  # it is signalled already, or the loop is closed
            pass

    def wait(self, waiter: Waiter, deadline: float | None = None, start: Callable[[], None] | None = None) -> bool:
        """Return True when ``waiter`` is done, False at ``deadline`` (`time.monotonic`).

        ``start`` is run under ownership first: directly if this thread can own the loop at once.
        In the main thread signal handlers run between turns, and may raise from here.
        """
        while True:
            with Guard(lambda: self._interrupt(waiter)) as guard:
                if start is not None:
                    command, start = start, None
                    if self._try_own():
                        self._drive(waiter, guard, deadline, command)
                    else:
                        self.post(command)
                elif not waiter.done:
                    self._wait_once(waiter, guard, deadline)
            if waiter.done:
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def run(self, command: Callable[[], None]) -> None:
        """Run ``command`` under ownership and return when it has run."""
        waiter = Waiter()

        def run_and_finish() -> None:
            try:
                command()
            finally:
                waiter.finish()

        self.wait(waiter, start=run_and_finish)

    def close(self, timeout: float) -> None:
        """Stop the background thread; the caller must not be that thread."""
        self._closing = True
        self._call_background()
        self.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def release_fd(self) -> None:
        """Close the eventfd; nobody may use the loop any more."""
        fd, self.wake_fd = self.wake_fd, -1
        if fd >= 0:
            os.close(fd)

    # --- ownership -------------------------------------------------------------------------

    def _try_own(self, heir: Waiter | None = None) -> bool:
        """Take ownership, or else queue ``heir`` for it."""
        with self._mutex:
            if not self._owned:
                self._owned = True
                self._by_background = False
                return True
            if heir is not None:
                self._parked.append(heir)
                if self._by_background:
                    self.wake()
            return False

    def _wait_once(self, waiter: Waiter, guard: Guard, deadline: float | None) -> None:
        waiter.prepare_to_park()
        mine = self._try_own(waiter)
        if mine:
            self._drive(waiter, guard, deadline)
            return
        if not guard.pending and not waiter.done:
            rest = threading.TIMEOUT_MAX if deadline is None else deadline - time.monotonic()
            waiter.park(min(rest, LOOK) if guard.active else rest)
        with self._mutex:
            promoted = waiter.promoted
            waiter.promoted = False
            if not promoted:
                try:
                    self._parked.remove(waiter)
                except ValueError:
                    pass
        if promoted:
            self._drive(waiter, guard, deadline)

    def _drive(
        self, waiter: Waiter, guard: Guard, deadline: float | None, start: Callable[[], None] | None = None
    ) -> None:
        try:
            if start is not None:
                if self._inbox:
                    self._run_commands()  # what was posted before
                self._run(start)
            while not waiter.done and not guard.pending:
                if deadline is not None and time.monotonic() >= deadline:
                    return
                self._uses += 1
                self._turn(deadline, LOOK if guard.active else None, awaited=True)
        finally:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give ownership to a parked thread, or to nobody."""
        busy = self._handler.is_busy()  # asked while it is still ours
        with self._mutex:
            while self._parked:
                heir = self._parked.popleft()
                if not heir.done:
                    heir.promoted = True
                    self._by_background = False
                    heir.unpark()
                    return
            self._owned = False
            self._by_background = False
        if self._inbox:
            self._call_background()
        elif busy and not self._watching:  # else to wake it costs about what there is to do
            self._watching = True
            self._call_background()

    def _interrupt(self, waiter: Waiter) -> None:
        self.wake()
        waiter.unpark()

    # --- driving ---------------------------------------------------------------------------

    def _turn(self, deadline: float | None = None, most: float | None = None, *, awaited: bool = False) -> None:
        """Poll until ``deadline``, for at most ``most`` seconds."""
        inbox = self._inbox
        ran = bool(inbox)
        if ran:
            self._run_commands()
        dozing, self._dozing = self._dozing, False
        rests, self._deaf = self._deaf and not awaited, False
        self._asleep = not dozing
        # A command posted before this line is seen here, one posted after it wakes the poll.
        # After commands we only look: they may have ended what this thread waits for.
        timeout = 0.0
        if dozing:
            timeout = 0.0 if rests else NAP
        elif not (ran or inbox):
            due = self._handler.next_deadline()
            if deadline is not None and deadline < due:
                due = deadline
            timeout = max(0.0, due - time.monotonic())
            if most is not None and most < timeout:
                timeout = most
        try:
            self._handler.turn(timeout, awaited=awaited)
        except Exception as error:
            self._handler.on_bug(error)
        self._asleep = False
        if rests and not self._parked and not self._closing:  # whoever parks or closes after this rings
            self._alarm.poll(REST)

    def _run_commands(self) -> None:
        inbox = self._inbox
        while inbox:
            self._run(inbox.popleft())

    def _run(self, command: Callable[[], None]) -> None:
        try:
            command()
        except Exception as error:
            self._handler.on_bug(error)

    def _call_background(self) -> None:
        try:
            self._nudge.release()
        except RuntimeError:  # it has been called already
            pass

    def _background(self) -> None:
        uses = -1
        while not self._closing:
            nudged = self._nudge.acquire(timeout=LINGER)
            if not nudged and self._uses != uses:
                uses = self._uses
                continue
            self._let_callers_return()
            with self._mutex:
                if self._owned:
                    continue
                self._owned = True
                self._by_background = True
            self._drive_background()

    def _let_callers_return(self) -> None:
        """While callers come, poll and go leave the loop to them, unless somebody calls for us."""
        while self._watching:
            uses = self._uses  # not how many have come: those that only run something could keep all others waiting
            called = bool(self._inbox) or self._closing  # by the same ring as the caller that has left
            if called or self._nudge.acquire(timeout=GRACE) or self._uses == uses:
                self._watching = False  # whoever leaves from here on calls, or is seen by who asks for ownership next

    def _drive_background(self) -> None:
        try:
            while not self._parked and not self._closing:
                self._turn()
        finally:
            self._hand_over()
