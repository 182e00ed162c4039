"""Signal handlers wait while the main thread owns shared state; nothing outlives that."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from skyward.transport import signals
from skyward.transport.signals import Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

Handler = Any


class StruckError(Exception):
    """Raised by handlers."""


@contextmanager
def handling(number: int, handler: Handler) -> Generator[None]:
    """Have a signal handled so."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def nothing() -> None:
    """Do nothing."""


@pytest.mark.rule("R29")
def test_interrupt_waits_for_the_end_of_the_block() -> None:
    """Ctrl-C is noted at once, and raises only when the state is whole."""
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt):  # noqa: SIM117  # the guard must end inside
        with Guard(lambda: steps.append("woken")) as guard:
            signal.raise_signal(signal.SIGINT)
            steps.append("whole")
            assert list(guard.pending) == [signal.SIGINT]
    assert steps == ["woken", "whole"]


@pytest.mark.rule("R52")
def test_handlers_are_back_after_the_block() -> None:
    """Inside, ours stand in for the user's; outside, none of ours does."""

    def own(number: int, frame: FrameType | None) -> None:
        """Handle a signal."""

    with handling(signal.SIGUSR1, own):
        with Guard(nothing):
            assert signal.getsignal(signal.SIGUSR1) is not own
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGUSR1) is own
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.rule("R52")
def test_handlers_are_back_before_they_run() -> None:
    """A handler finds itself installed, and may install another that stays."""
    seen: list[Handler] = []

    def own(number: int, frame: FrameType | None) -> None:
        seen.append(signal.getsignal(number))
        signal.signal(number, signal.SIG_IGN)

    with handling(signal.SIGUSR1, own):
        with Guard(nothing):
            signal.raise_signal(signal.SIGUSR1)
        assert seen == [own]
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN


@pytest.mark.parametrize("disposition", [signal.SIG_IGN, signal.SIG_DFL])
def test_signals_without_a_handler_are_left_alone(disposition: Handler) -> None:
    """What is ignored stays ignored, and what kills still kills."""
    with handling(signal.SIGUSR2, disposition), Guard(nothing):
        assert signal.getsignal(signal.SIGUSR2) is disposition


def test_signal_that_comes_often_is_handled_once() -> None:
    """As the system does it while a signal is blocked; the handler gets the frame that was struck."""
    calls: list[tuple[int, FrameType | None]] = []
    with handling(signal.SIGUSR1, lambda number, frame: calls.append((number, frame))), Guard(nothing):
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
    ((number, frame),) = calls
    assert number == signal.SIGUSR1
    assert frame is not None


def test_handler_that_raises_keeps_back_no_other() -> None:
    """Every signal that came is handled, in order, and the exception is not lost."""
    calls: list[int] = []

    def strike(number: int, frame: FrameType | None) -> None:
        calls.append(number)
        raise StruckError

    with (
        handling(signal.SIGUSR1, strike),
        handling(signal.SIGUSR2, lambda number, frame: calls.append(number)),
        pytest.raises(StruckError),
        Guard(nothing),
    ):
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)
    assert calls == [signal.SIGUSR1, signal.SIGUSR2]


def test_exception_in_the_block_passes() -> None:
    """The guard swallows nothing, and puts the handlers back."""
    with pytest.raises(StruckError), Guard(nothing):
        raise StruckError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_change_nothing() -> None:
    """Handlers run in the main thread only, so that only there they are deferred."""
    handlers: list[Handler] = []

    def work() -> None:
        with Guard(nothing):
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


def test_guards_nest() -> None:
    """The handler runs when the outermost block ends."""
    steps: list[str] = []
    with handling(signal.SIGUSR1, lambda number, frame: steps.append("handled")):
        with Guard(nothing):
            with Guard(nothing):
                signal.raise_signal(signal.SIGUSR1)
            steps.append("between")
        steps.append("after")
    assert steps == ["between", "handled", "after"]


class Striking:
    """`_signal`, where a signal arrives just after the n-th handler is installed."""

    def __init__(self, real: Any, strike_at: int, number: int) -> None:
        self._real = real
        self._left = strike_at
        self._number = number
        self.getsignal = real.getsignal

    def signal(self, number: int, handler: Handler) -> None:
        """Install a handler; perhaps strike."""
        self._real.signal(number, handler)
        self._left -= 1
        if self._left == 0:
            signal.raise_signal(self._number)


@pytest.mark.rule("R52")
@pytest.mark.parametrize("struck", [signal.SIGINT, signal.SIGALRM])
@pytest.mark.parametrize("moment", range(1, 7))
def test_handlers_are_back_whenever_a_signal_strikes(
    monkeypatch: pytest.MonkeyPatch, struck: signal.Signals, moment: int
) -> None:
    """Entering and leaving may be struck after any step; every handler is the user's again, what came is handled."""

    def strike(number: int, frame: FrameType | None) -> None:
        raise StruckError

    calls: list[int] = []
    wanted: dict[int, Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: strike,
        signal.SIGALRM: strike,
        signal.SIGUSR1: lambda number, frame: calls.append(number),
    }
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        monkeypatch.setattr(signals, "_signal", Striking(signals._signal, moment, struck))
        with pytest.raises(StruckError), Guard(nothing):  # three handlers in, and three out
            signal.raise_signal(signal.SIGUSR1)
        assert {number: signal.getsignal(number) for number in wanted} == wanted
        assert calls == [signal.SIGUSR1] or moment <= 3
    finally:
        monkeypatch.undo()
        for number, handler in before.items():
            signal.signal(number, handler)
