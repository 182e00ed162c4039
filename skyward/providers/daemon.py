"""One ``skyward-node`` daemon as a child process of this one: started, awaited, ended, reaped.

It is configured over an inherited descriptor, so that nothing stands in argv, and tells over a pipe
when it serves. A third pipe, its lifeline, carries nothing: we hold the writing end, and the daemon
ends when that is closed, which the kernel does for us even after ``kill -9``. The daemon leads a
session of its own: Ctrl-C reaches us alone.

Nobody else may hold a lifeline: it is closed on exec, and in every child that is forked.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ProvisionError
from skyward.providers.interpreter import command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skyward.model import NodeConfig
    from skyward.providers.nursery import Nursery

GLANCE: Final = 0.1  # seconds between looks whether a launch is still wanted: an Event cannot be polled
LOG_LINES: Final = 50  # lines of a log that are worth showing
LOG_BYTES: Final = 65_536  # read from the end of a log to find them
ENDING: Final = 1.5  # seconds to end after the lifeline: the user's program exits within two in any case
AFTERMATH: Final = 2.0  # seconds that a killed daemon's template gets to end the workers


def _run(argv: list[str], env: Mapping[str, str], passed: tuple[int, ...], log: int) -> int:
    """Start a process in a session of its own, and return its pid."""
    import subprocess  # a nursery does without, and it takes 3 ms

    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=passed,
        env=env,
        start_new_session=True,
    )
    process.returncode = 0  # to Popen it has ended: we wait for it, as for those that it has not made
    return process.pid


class Daemon:
    """One daemon. `launch` it, read `pidfd` and `tail`, `hang_up` and `end` it; one thread at a time ends it.

    Who ends several hangs up on all of them first, then has each `strike` at the same moment, and then ends them.
    """

    def __init__(
        self,
        path: tuple[str, ...],
        env: Mapping[str, str],
        make_config: Callable[..., NodeConfig],
        *,
        nursery: Nursery | None = None,
        log: int | None = None,
        log_file: str = "",
    ) -> None:
        """Start it. ``make_config(ready_fd=…, lifeline_fd=…, parent=…)`` returns its configuration.

        A ``nursery`` is asked to fork it, which is faster. It logs to ``log``, the descriptor of a file, which is
        closed at its end; by default to memory. One with a ``log_file`` has no lifeline and watches no parent: see
        `let_go`.
        """
        self._began = time.monotonic()  # before a nursery is asked, which may serve before it has answered
        self._lock = threading.Lock()  # held by the thread that waits for the daemon, to serve or to be gone
        self._log_lock = threading.Lock()
        self._last_words: tuple[str, ...] = ()
        self._lifeline = self._ready = -1
        self._log = -1 if log is None else log
        self._log_file = log_file
        self._unwanted = False
        self.pidfd = -1
        self._struck: Struck | None = None  # it has been killed
        self._code: int | None = None  # how it has ended, once somebody has waited
        with ExitStack() as theirs:
            try:
                self._start(path, env, make_config, nursery, theirs)
            except BaseException as error:
                self._release()
                if isinstance(error, OSError):
                    raise ProvisionError(f"cannot start a process for it: {error}") from error
                raise

    def _start(
        self,
        path: tuple[str, ...],
        env: Mapping[str, str],
        make_config: Callable[..., NodeConfig],
        nursery: Nursery | None,
        theirs: ExitStack,
    ) -> None:
        self._ready, ready = os.pipe()
        theirs.callback(os.close, ready)
        lifeline = parent = 0
        if self._log_file:
            self._log = os.open(self._log_file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        else:
            self._lifeline, lifeline = open_lifeline()
            theirs.callback(os.close, lifeline)
            self._log, parent = os.memfd_create("skyward-log") if self._log < 0 else self._log, os.getpid()
        config_fd = os.memfd_create("skyward-config")  # a pipe could be too small, and block
        theirs.callback(os.close, config_fd)
        config = make_config(ready_fd=ready, lifeline_fd=lifeline or -1, parent=parent)
        os.write(config_fd, config.to_json())
        os.lseek(config_fd, 0, os.SEEK_SET)
        pid = nursery.fork(config_fd, self._log, ready, lifeline) if nursery is not None and lifeline else None
        if pid is None:
            passed = (ready, config_fd, *([lifeline] if lifeline else []))
            pid = _run(command(path, "--config-fd", str(config_fd)), env, passed, self._log)
        self.pid = pid
        self.pidfd = watch(pid)

    @property
    def has_died(self) -> bool:
        """Return whether its process is gone, by itself or because it was ended."""
        return self.pidfd < 0 or gone(self.pidfd, 0.0)

    def wait_ready(self, timeout: float, cancelled: threading.Event) -> dict[str, Any]:
        """Return what the daemon says once it serves; raises `ProvisionError` if it does not come to that."""
        with self._lock:
            line = self._ready_line(timeout, cancelled)
            os.close(self._ready)
            self._ready = -1
        return self._understand(line)

    def _ready_line(self, timeout: float, cancelled: threading.Event) -> bytes:
        deadline = self._began + timeout
        poller = select.poll()
        poller.register(self._ready, select.POLLIN)
        poller.register(self.pidfd, select.POLLIN)
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if cancelled.is_set() or self._unwanted:
                raise ProvisionError("it was not wanted any more")
            if left <= 0:
                raise ProvisionError(f"waited start_timeout={timeout:g} s for it to say that it serves", self.tail())
            ready = {fd for fd, _ in poller.poll(min(left, GLANCE) * 1000)}
            if self._ready in ready:
                chunk = os.read(self._ready, 65_536)
                line += chunk
                if not chunk:
                    poller.unregister(self._ready)  # closed without a word: its end follows
            elif self.pidfd in ready:
                raise ProvisionError(f"its process {self._end_of()} before it served", self.tail())
        return line

    def _understand(self, line: bytes) -> dict[str, Any]:
        import json

        try:
            said: dict[str, Any] = json.loads(line)
            if "error" not in said:
                return {"endpoint": str(said["endpoint"]), "public_key": str(said["public_key"])}
        except (ValueError, TypeError, KeyError) as error:
            raise ProvisionError(f"it said {line!r}, which makes no sense", self.tail()) from error
        raise ProvisionError(str(said["error"]), self.tail())

    def exit_code(self) -> int:
        """Return how it has ended, once it has: its exit code, or the signal that killed it, negative."""
        if self._code is None:
            try:
                self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            except ChildProcessError:  # whoever waits for any child of this process has heard it, and kept it
                self._code = 0
        return self._code

    def _end_of(self) -> str:
        code = self.exit_code()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"

    def tail(self) -> tuple[str, ...]:
        """Return the last lines it has logged, also after its end."""
        with self._log_lock:
            return self._last_words if self._log < 0 else last_lines(self._log)

    # --- the end ----------------------------------------------------------------------------

    def let_go(self) -> None:
        """Leave it to itself, once it serves: it outlives this object, and this process."""
        self._release()
        os.close(self.pidfd)
        self.pidfd = -1

    def hang_up(self) -> None:
        """Close the lifeline: it ends, also if it is stopped, and whoever waits for it to serve is told."""
        self._unwanted = True
        with forking:
            lifeline, self._lifeline = self._lifeline, -1
            close_lifeline(lifeline)
            wake(self.pidfd)

    def strike(self, deadline: float) -> None:
        """Return when it is gone, or has been killed at ``deadline`` (`time.monotonic`); it has yet to be ended."""
        with self._lock:
            self._strike(deadline)

    def _strike(self, deadline: float) -> None:
        if self.pidfd >= 0 and self._struck is None and not gone(self.pidfd, deadline - time.monotonic()):
            self._struck = Struck(self.pid, self.pidfd)

    def end(self, grace: float = ENDING) -> None:
        """Return when it is gone and reaped, with everything below it; after ``grace`` seconds by force."""
        self.hang_up()
        with self._lock:
            if self.pidfd < 0:
                return
            if self._log_file:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)
            self._strike(time.monotonic() + grace)
            if self._struck is not None:
                self._struck.bury()
            self.exit_code()
            self._release()
            with forking:  # nobody wakes another now that gets its number
                pidfd, self.pidfd = self.pidfd, -1
            os.close(pidfd)

    def _release(self) -> None:
        self.hang_up()
        if self._ready >= 0:
            os.close(self._ready)
            self._ready = -1
        with self._log_lock:
            if self._log >= 0:
                self._last_words = last_lines(self._log)
                os.close(self._log)
                self._log = -1


def last_lines(log: int) -> tuple[str, ...]:
    """Return the last lines of a file, of which there may be very many."""
    size = os.fstat(log).st_size
    text = os.pread(log, LOG_BYTES, max(0, size - LOG_BYTES)).decode(errors="replace")
    return tuple(text.splitlines()[-LOG_LINES:])


def watch(pid: int) -> int:
    """Return a descriptor that is readable when a child has ended; a child that cannot be watched is killed."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:  # it ended, and whoever ignores SIGCHLD has reaped it
        fd, end = os.pipe()
        os.close(end)  # a pipe that is closed is readable, as the pidfd of a dead process is
        return fd
    except OSError:
        os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        raise


def gone(pidfd: int, patience: float) -> bool:
    """Return whether a process has ended, waiting for that at most ``patience`` seconds."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(max(0.0, patience) * 1000))


def wake(pidfd: int) -> None:
    """Continue a process if it is stopped: it does not see what has ended. It may be gone."""
    with suppress(OSError):
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)


class Struck:
    """A daemon that is killed, and whose template is given time to end the workers.

    The template is not killed with it: its workers lead sessions of their own, and it alone knows them.
    """

    def __init__(self, pid: int, pidfd: int) -> None:
        """Kill the daemon."""
        self._template: list[int] = []
        for child in children(pid):
            with suppress(ProcessLookupError):
                self._template.append(os.pidfd_open(child))
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self._deadline = time.monotonic() + AFTERMATH

    def bury(self) -> None:
        """Return when its template is gone, if it must be by force."""
        while self._template:
            child = self._template.pop()
            if not gone(child, self._deadline - time.monotonic()):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(child, signal.SIGKILL)  # its workers die with it
                gone(child, AFTERMATH)
            os.close(child)


def kill(pid: int, pidfd: int) -> None:
    """Kill a daemon, and return when its template has ended the workers."""
    Struck(pid, pidfd).bury()


def children(parent: int) -> list[int]:
    """Return the pids of a process's children."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if parent_of(pid) == parent]


def parent_of(pid: int) -> int:
    """Return the pid of a process's parent; 0 if it cannot be seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command stands in parentheses and may hold anything; after it: state, parent.
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


# --- lifelines ------------------------------------------------------------------------------

_lifelines: set[int] = set()  # what forked children must not hold: writing ends, and sockets to nurseries
forking = threading.RLock()  # held while the set and the descriptors disagree, and during every fork


def open_lifeline() -> tuple[int, int]:
    """Return the writing and the reading end of a new lifeline; forked children lose the former."""
    return open_ends(_backwards)


def _backwards() -> tuple[int, int]:
    read, write = os.pipe()
    return write, read


def open_ends(make: Callable[[], tuple[int, int]]) -> tuple[int, int]:
    """Return two new descriptors, of which the first ends with `close_lifeline`, and in forked children."""
    with forking:
        ours, theirs = make()
        _lifelines.add(ours)
    return ours, theirs


def close_lifeline(write: int) -> None:
    """Close the writing end, unless that has happened."""
    with forking:
        if write in _lifelines:
            _lifelines.remove(write)
            os.close(write)


def _after_fork() -> None:
    for write in _lifelines:
        with suppress(OSError):
            os.close(write)
    _lifelines.clear()
    forking.release()


os.register_at_fork(before=forking.acquire, after_in_parent=forking.release, after_in_child=_after_fork)
