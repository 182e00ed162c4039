"""Threads that launch and end nodes, because providers block. One thread per node that comes or goes."""

from __future__ import annotations

import threading
from _socket import AF_INET, SOCK_STREAM, socket
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward.providers.base import Launched, LaunchSpec, Provider

    Report = Callable[[Launched | None, BaseException | None], None]


class Launcher:
    """Starts nodes in the background and reports through callbacks, from its threads."""

    def __init__(self, provider: Provider, spec: LaunchSpec) -> None:
        self.provider = provider
        self._spec = spec
        self._count = 0
        self._cancelled = threading.Event()
        self._threads: set[threading.Thread] = set()
        self._begun: deque[_Launch] = deque()  # that nobody has asked for yet
        self._early: deque[str] = deque()  # what the provider has told, with nobody to hear it

    def begin(self, count: int) -> None:
        """Start so many nodes that are going to be asked for: whoever asks has other things to do before."""
        self.provider.listener = self._early.append
        self._begun.extend(self._begin() for _ in range(count))

    def listen(self, listener: Callable[[str], None]) -> None:
        """Have ``listener`` hear how launches go on, from the beginning."""
        self.provider.listener = listener
        while self._early:
            listener(self._early.popleft())

    def launch(self, on_done: Report) -> None:
        """Start one node; ``on_done(launched, error)`` is called when it serves or cannot."""
        launch = self._begun.popleft() if self._begun else self._begin()
        launch.tell(on_done)

    def _begin(self) -> _Launch:
        index = self._count
        self._count += 1
        launch = _Launch()

        def work() -> None:
            try:
                launched = self.provider.launch(self._spec, index, self._cancelled)
            except Exception as error:  # also a provider's bug, which must not look like a node that is still coming
                launch.over(None, error)
            else:
                launch.over(launched, None)

        self._start(work, f"skyward-launch-{index}")
        return launch

    def terminate(self, launched: Launched) -> None:
        """End one node, which may be gone already."""
        self._start(lambda: self.provider.terminate(launched), f"skyward-end-{launched.ident}")

    def close(self) -> None:
        """Stop launching, end every node, and return when nothing is left."""
        self._cancelled.set()
        self._join()
        try:
            self.provider.close()
        finally:
            self._join()

    def _start(self, work: Callable[[], None], name: str) -> None:
        def run() -> None:
            try:
                work()
            finally:
                self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.add(thread)
        thread.start()

    def _join(self) -> None:
        for thread in list(self._threads):
            thread.join()


class _Launch:
    """A launch, whose outcome is reported once, when it is there and somebody wants it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._report: Report | None = None
        self._outcome: tuple[Launched | None, BaseException | None] | None = None

    def tell(self, report: Report) -> None:
        """Report to this one."""
        with self._lock:
            self._report = report
            outcome = self._outcome
        if outcome is not None:
            report(*outcome)

    def over(self, launched: Launched | None, error: BaseException | None) -> None:
        """This has come of it."""
        with self._lock:
            self._outcome = launched, error
            report = self._report
        if report is not None:
            report(launched, error)


def free_port() -> int:
    """Return a TCP port that was free on this machine a moment ago, for what tasks set up on the head."""
    with closing(socket(AF_INET, SOCK_STREAM)) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
