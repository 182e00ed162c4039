"""Threads in which providers start and end nodes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from skyward.errors import ProvisionError
from skyward.mesh.launching import Launcher
from skyward.mesh.mate import Mate
from skyward.providers.base import Launched, LaunchSpec, Provider
from tests.mesh.scripted import LONG

if TYPE_CHECKING:
    from typing import Self

SPEC = LaunchSpec(concurrency=3)


class Slow(Provider):
    """Launches when it is let, and notes who asks."""

    name = "slow"

    def __init__(self) -> None:
        self.let = threading.Event()
        self.asked: list[tuple[LaunchSpec, int, str]] = []
        self.ended: list[str] = []
        self.closed = False
        self.error: Exception | None = None
        self.barrier: threading.Barrier | None = None

    def for_pool(self) -> Self:
        """Return itself."""
        return self

    def prepare(self) -> None:
        """Need nothing."""

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Start a node when it may."""
        self.asked.append((spec, index, threading.current_thread().name))
        if self.barrier is not None:
            self.barrier.wait(LONG)
        while not self.let.wait(0.01):
            if cancelled.is_set():
                raise ProvisionError("cancelled")
        if self.error is not None:
            raise self.error
        return Launched(ident=f"node{index}", endpoint="ipc://nowhere")

    def terminate(self, launched: Launched) -> None:
        """Note it."""
        self.let.wait(LONG)
        self.ended.append(launched.ident)

    def log_tail(self, launched: Launched) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    def close(self) -> None:
        """Note it."""
        self.closed = True


class Outcome:
    """What a launch has come to."""

    def __init__(self) -> None:
        self.there = threading.Event()
        self.launched: Launched | None = None
        self.error: BaseException | None = None

    def __call__(self, launched: Launched | None, error: BaseException | None) -> None:
        """Take it."""
        self.launched, self.error = launched, error
        self.there.set()


def test_launch_reports_the_node() -> None:
    """The callback gets what the provider gives, from a thread named after the launch."""
    provider, outcome = Slow(), Outcome()
    provider.let.set()
    launcher = Launcher(provider, SPEC)
    launcher.launch(outcome)
    assert outcome.there.wait(LONG)
    assert outcome.launched is not None
    assert (outcome.launched.ident, outcome.error) == ("node0", None)
    assert provider.asked == [(SPEC, 0, "skyward-launch-0")]
    launcher.close()


def test_launches_run_side_by_side_under_their_own_numbers() -> None:
    """None waits for another."""
    provider = Slow()
    provider.barrier = threading.Barrier(3)
    provider.let.set()
    launcher = Launcher(provider, SPEC)
    outcomes = [Outcome() for _ in range(3)]
    for outcome in outcomes:
        launcher.launch(outcome)
    assert all(outcome.there.wait(LONG) for outcome in outcomes)
    assert [outcome.launched.ident for outcome in outcomes if outcome.launched] == ["node0", "node1", "node2"]
    launcher.close()


@pytest.mark.parametrize("error", [ProvisionError("no room"), ZeroDivisionError("a bug")])
def test_failed_launch_reports_its_error(error: Exception) -> None:
    """Whatever a provider raises, someone hears of it."""
    provider, outcome = Slow(), Outcome()
    provider.error = error
    provider.let.set()
    launcher = Launcher(provider, SPEC)
    launcher.launch(outcome)
    assert outcome.there.wait(LONG)
    assert (outcome.launched, outcome.error) == (None, error)
    launcher.close()


def test_nodes_that_are_begun_early_are_those_that_are_asked_for() -> None:
    """What was begun is reported to whoever asks for it, in order, whether it is over or not; the next is a new one."""
    provider, outcomes = Slow(), [Outcome() for _ in range(3)]
    provider.let.set()
    launcher = Launcher(provider, SPEC)
    launcher.begin(2)
    for outcome in outcomes:
        launcher.launch(outcome)
    assert all(outcome.there.wait(LONG) for outcome in outcomes)
    assert [outcome.launched.ident for outcome in outcomes if outcome.launched] == ["node0", "node1", "node2"]
    launcher.close()


def test_what_a_provider_tells_early_is_heard() -> None:
    """Lines that came before anybody listened come first."""
    launcher, heard = Launcher(Slow(), SPEC), list[str]()
    launcher.begin(0)
    launcher.provider.tell("early")
    launcher.listen(heard.append)
    launcher.provider.tell("late")
    assert heard == ["early", "late"]
    launcher.close()


def test_close_cancels_launches_and_waits_for_ends() -> None:
    """Launches under way are told; nodes that are being ended are waited for; then the provider closes."""
    provider, outcome = Slow(), Outcome()
    launcher = Launcher(provider, SPEC)
    launcher.launch(outcome)
    launcher.terminate(Launched(ident="old", endpoint="ipc://nowhere"))
    closer = threading.Thread(target=launcher.close)
    closer.start()
    assert outcome.there.wait(LONG)
    assert isinstance(outcome.error, ProvisionError)
    assert (provider.ended, provider.closed) == ([], False)
    provider.let.set()
    closer.join(LONG)
    assert (provider.ended, provider.closed) == (["old"], True)


def test_terminate_does_not_block() -> None:
    """A node ends in a thread of its own, which closing waits for."""
    provider = Slow()
    launcher = Launcher(provider, SPEC)
    launcher.terminate(Launched(ident="old", endpoint="ipc://nowhere"))
    assert provider.ended == []
    provider.let.set()
    launcher.close()
    assert provider.ended == ["old"]


def test_mate_shows_itself() -> None:
    """The repr of a node is for the log line someone reads at night."""
    mate: Any = Mate(3, Launched(ident="x", endpoint="ipc:///tmp/x", pid=42))
    assert repr(mate) == "<node 3 at ipc:///tmp/x, pid 42>"
