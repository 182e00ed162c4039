"""One ``skyward-node`` daemon as a child process of this one: started, awaited, ended, reaped.

It is configured over an inherited descriptor, so that nothing stands in argv, and tells over a pipe
when it serves. A third pipe, its lifeline, carries nothing: we hold the writing end, and the daemon
ends when that is closed, which the kernel does for us even after ``kill -9``. The daemon leads a
session of its own: Ctrl-C reaches us alone.

Nobody else may hold a lifeline: it is closed on exec, and in every child that is forked.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ProvisionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skyward.model import NodeConfig

GLANCE: Final = 0.1  # seconds between looks whether a launch is still wanted: an Event cannot be polled
LOG_LINES: Final = 50  # lines of a log that are worth showing
LOG_BYTES: Final = 65_536  # read from the end of a log to find them
ENDING: Final = 1.5  # seconds to end after the lifeline: the user's program exits within two in any case
AFTERMATH: Final = 2.0  # seconds that a killed daemon's template gets to end the workers

# The two packages come from where this process has them, and every other module from where the daemon
# finds it by itself: a user's `select.py` beside his script must not run in it. Places that only this
# process knows come last.
BOOTSTRAP: Final = """\
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
sys.path += [place for place in {path!r} if place not in sys.path]
for name, places in {packages!r}.items():
    spec = PathFinder.find_spec(name, places)
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
from skyward_node.__main__ import main
sys.exit(main())
"""


def command(path: tuple[str, ...], config_fd: int) -> list[str]:
    """Return the argv of a daemon; it names ``skyward-node``. ``path`` is this process's ``sys.path``."""
    if not sys.executable:
        raise ProvisionError("cannot start local nodes: sys.executable does not say which Python this is")
    packages = {name: _places(name) for name in ("skyward", "skyward_node")}
    code = BOOTSTRAP.format(path=list(path), packages=packages)
    executable = os.path.abspath(sys.executable)
    return [executable, *interpreter_flags(), "-c", code, "skyward-node", "--config-fd", str(config_fd)]


def _places(package: str) -> list[str]:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ProvisionError(f"cannot start local nodes: the package {package} of skyward is not installed")
    return [os.path.abspath(os.path.dirname(place)) for place in spec.submodule_search_locations]


def interpreter_flags() -> list[str]:
    """Return the flags of this interpreter that change how the user's code runs; and ``-P``, see `BOOTSTRAP`."""
    flags = sys.flags
    chosen = ["-P"]
    chosen += ["-" + "O" * flags.optimize] if flags.optimize else []
    chosen += ["-I"] if flags.isolated else ["-E"] * flags.ignore_environment + ["-s"] * flags.no_user_site
    chosen += ["-S"] if flags.no_site else []
    chosen += ["-B"] if sys.dont_write_bytecode else []
    chosen += ["-X", "dev"] if flags.dev_mode else []
    chosen += ["-X", "utf8"] if flags.utf8_mode else []
    return chosen + [f"-W{option}" for option in sys.warnoptions]


class Daemon:
    """One daemon. `launch` it, read `pidfd` and `tail`, `hang_up` and `end` it; one thread at a time ends it."""

    def __init__(
        self,
        path: tuple[str, ...],
        env: Mapping[str, str],
        make_config: Callable[..., NodeConfig],
        *,
        log: int | None = None,
        log_file: str = "",
    ) -> None:
        """Start it. ``make_config(ready_fd=…, lifeline_fd=…, parent=…)`` returns its configuration.

        It logs to ``log``, the descriptor of a file, which is closed at its end; by default to memory. One with a
        ``log_file`` has no lifeline and watches no parent: see `let_go`.
        """
        self._lock = threading.Lock()  # held by the thread that waits for the daemon, to serve or to be gone
        self._log_lock = threading.Lock()
        self._last_words: tuple[str, ...] = ()
        self._lifeline = self._ready = -1
        self._log = -1 if log is None else log
        self._log_file = log_file
        self._unwanted = False
        with ExitStack() as theirs:
            try:
                self._start(path, env, make_config, theirs)
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
        self._process = subprocess.Popen(
            command(path, config_fd),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(ready, config_fd, *([lifeline] if lifeline else [])),
            env=env,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.pidfd = self._watch()

    def _watch(self) -> int:
        try:
            return os.pidfd_open(self.pid)
        except ProcessLookupError:  # it ended, and whoever ignores SIGCHLD has reaped it
            fd, end = os.pipe()
            os.close(end)  # a pipe that is closed is readable, as the pidfd of a dead process is
            return fd
        except OSError:
            self._process.kill()
            self._process.wait()
            raise

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
        deadline = time.monotonic() + timeout
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
        try:
            said: dict[str, Any] = json.loads(line)
            if "error" not in said:
                return {"endpoint": str(said["endpoint"]), "public_key": str(said["public_key"])}
        except (ValueError, TypeError, KeyError) as error:
            raise ProvisionError(f"it said {line!r}, which makes no sense", self.tail()) from error
        raise ProvisionError(str(said["error"]), self.tail())

    def exit_code(self) -> int:
        """Return how it has ended, once it has: its exit code, or the signal that killed it, negative."""
        return self._process.wait()

    def _end_of(self) -> str:
        code = self._process.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"

    def tail(self) -> tuple[str, ...]:
        """Return the last lines it has logged, also after its end."""
        with self._log_lock:
            return self._last_words if self._log < 0 else last_lines(self._log)

    # --- the end ----------------------------------------------------------------------------

    def let_go(self) -> None:
        """Leave it to itself, once it serves: it outlives this object, and this process."""
        self._process.returncode = 0  # to Popen it has ended: else that would complain that nobody has waited
        self._release()
        os.close(self.pidfd)
        self.pidfd = -1

    def hang_up(self) -> None:
        """Close the lifeline: it ends, and whoever waits for it to serve is told."""
        self._unwanted = True
        with _forking:
            lifeline, self._lifeline = self._lifeline, -1
            close_lifeline(lifeline)

    def end(self, grace: float = ENDING) -> None:
        """Return when it is gone and reaped, with everything below it; after ``grace`` seconds by force."""
        self.hang_up()
        with self._lock:
            if self.pidfd < 0:
                return
            if self._log_file:
                with suppress(ProcessLookupError):
                    self._process.terminate()
            if not gone(self.pidfd, grace):
                kill(self.pid, self.pidfd)
            self._process.wait()
            self._release()
            os.close(self.pidfd)
            self.pidfd = -1

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


def gone(pidfd: int, patience: float) -> bool:
    """Return whether a process has ended, waiting for that at most ``patience`` seconds."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(max(0.0, patience) * 1000))


def kill(pid: int, pidfd: int) -> None:
    """Kill a daemon, then give its template time to end the workers.

    The template is not killed with it: its workers lead sessions of their own, and it alone knows them.
    """
    template: list[int] = []
    for child in children(pid):
        with suppress(ProcessLookupError):
            template.append(os.pidfd_open(child))
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    deadline = time.monotonic() + AFTERMATH
    for child in template:
        if not gone(child, deadline - time.monotonic()):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(child, signal.SIGKILL)  # its workers die with it
            gone(child, AFTERMATH)
        os.close(child)


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

_lifelines: set[int] = set()  # writing ends that this process holds
_forking = threading.RLock()  # held while the set and the descriptors disagree, and during every fork


def open_lifeline() -> tuple[int, int]:
    """Return the writing and the reading end of a new lifeline; forked children lose the former."""
    with _forking:
        read, write = os.pipe()
        _lifelines.add(write)
    return write, read


def close_lifeline(write: int) -> None:
    """Close the writing end, unless that has happened."""
    with _forking:
        if write in _lifelines:
            _lifelines.remove(write)
            os.close(write)


def _after_fork() -> None:
    for write in _lifelines:
        with suppress(OSError):
            os.close(write)
    _lifelines.clear()
    _forking.release()


os.register_at_fork(before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_after_fork)
