"""What ends a command from outside: signals, and whoever has read its output and goes.

Each of them does what Ctrl-C does, so that what runs is cancelled; the exit code says which it was. The library itself
installs no handler and swallows what it cannot print: it is a guest in a user's program, and here we are the program.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from skyward.mesh import console
from skyward_node.unwritten import tell_unwritten
from skyward_scripts.meshes.exits import KILLED

if TYPE_CHECKING:
    from collections.abc import Generator

SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)  # of a service manager, of a terminal that is closed


class _Ending:
    """Why a command ends."""

    def __init__(self) -> None:
        self.signal = 0
        self.failure: OSError | None = None

    def on_signal(self, number: int, frame: Any) -> None:
        """Do as Ctrl-C does, whoever looks after that now: a program may have a handler of its own."""
        self.signal = self.signal or number
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):  # a shell has its background jobs ignore Ctrl-C
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    def on_failure(self, error: OSError) -> None:
        """Interrupt what waits for more output that cannot be written; called by the thread that writes."""
        if self.failure is None:
            self.failure = error
            number = signal.SIGINT if callable(signal.getsignal(signal.SIGINT)) else signal.SIGTERM
            signal.pthread_kill(threading.main_thread().ident or 0, number)  # wakes it from whatever it waits in

    def __bool__(self) -> bool:
        return self.signal != 0 or self.failure is not None

    def code(self) -> int:
        """Return the exit code; say why if somebody may wonder."""
        return KILLED + self.signal if self.failure is None else tell_unwritten(self.failure)


@contextmanager
def ending(ctx: click.Context) -> Generator[None]:
    """Have SIGTERM, SIGHUP and output that cannot be written end what runs inside, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # as a part of another program
        yield
        return
    why = _Ending()
    # What is ignored, as by nohup, stays so.
    before = {each: signal.getsignal(each) for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN}
    for each in before:
        signal.signal(each, why.on_signal)
    console.unwritable.append(why.on_failure)
    try:
        yield
    except (KeyboardInterrupt, click.exceptions.Exit):
        if not why:
            raise
    finally:
        console.unwritable.remove(why.on_failure)
        for each, handler in before.items():
            signal.signal(each, handler)
    if why:  # also if it was over when its last line failed
        ctx.exit(why.code())
