"""The template: a single-threaded process that forks workers, reaps them, and says how they ended.

The daemon forks it before its first thread exists, so forking from it is safe for ever. It imports
what a worker needs once, and each worker starts with that in memory, in milliseconds. It owns every
worker: it alone reaps them, so their pids stay valid until it has killed what they leave behind.

It talks with the daemon over a SOCK_SEQPACKET pair, one JSON object a message:

    down  {"do": "spawn", "worker", "slots", "env", "arena"} + the worker's ends of data, control, stdout, stderr,
          cells, arena
          {"do": "kill", "worker"}
    up    {"is": "spawned", "worker", "pid"} + a pidfd
          {"is": "exited", "worker", "status", "peak", "limit", "oom"}     (bytes; limit null if none)

EOF means that the daemon is gone: the template kills all it has and exits.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
import time
import traceback
from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

from skyward.frozen import Frozen, field
from skyward.machine.passing import receive_fds, send_fds
from skyward_node import processes

if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Collection
    from types import FrameType

    from skyward.model import NodeConfig

MAX_REQUEST: Final = 128 * 1024  # bytes of one message; an environment is far smaller
FDS_PER_WORKER: Final = 6
RETRY_FIRST: Final = 0.02  # seconds after a fork that the kernel refused: most shortages are short
RETRY_MOST: Final = 1.0  # seconds; the slot must be back soon once there is room again
IDLE: Final = 0.1  # seconds without a request, after which there is time to import what few tasks need
CLEARING: Final = 1.0  # seconds for what clears up after a dead worker; it takes some 30 ms, and most have none
SWEEP: Final = 0.05  # seconds between looks for survivors while the template ends


class TemplateHandle:
    """The daemon's side: the socket to the template, its pid, and a pidfd of it."""

    __slots__ = ("pid", "pidfd", "socket")

    def __init__(self, socket: socket, pid: int, pidfd: int) -> None:
        self.socket = socket
        self.pid = pid
        self.pidfd = pidfd

    def stop(self, patience: float = 5.0) -> None:
        """Make the template kill its workers and exit, and reap it; after ``patience`` seconds kill it."""
        if self.pidfd < 0:
            return
        self.socket.close()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGCONT)  # who is stopped does not see that a socket has closed
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        if not poller.poll(patience * 1000):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        with suppress(ChildProcessError):  # someone reaped it for us
            os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self.pidfd = -1


class Birth(Frozen):
    """What a new worker is told: who it is, and the file descriptors it lives with."""

    worker: int
    slots: int
    env: dict[str, str] = field(repr=False)
    data: int
    control: int
    stdout: int
    stderr: int
    cells: int
    arena: int
    arena_size: int
    arena_seen_as: tuple[int, int]  # the daemon's pid and descriptor, by which others open it

    @property
    def fds(self) -> tuple[int, ...]:
        """Return the descriptors in the order they travel."""
        return self.data, self.control, self.stdout, self.stderr, self.cells, self.arena


def start(config: NodeConfig) -> TemplateHandle:
    """Fork the template. Call it while the process has one thread and no ZeroMQ context."""
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _run(theirs, config)
    theirs.close()
    return TemplateHandle(ours, pid, os.pidfd_open(pid))


def _run(sock: socket, config: NodeConfig) -> NoReturn:
    """Be the template and, after a fork, the worker. The daemon's frames below never run again."""
    code = 1
    try:
        birth = _Template(sock).serve()
        if birth is not None:
            from skyward_node import child

            child.main(birth, config)
        code = 0
    except BaseException:
        with suppress(OSError, ValueError):  # no stderr to print to
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(code)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the byte on the wakeup descriptor says it all."""


class _Template:
    """The template's loop. Between two turns nothing of it is in flight, so a fork copies whole state."""

    def __init__(self, sock: socket) -> None:
        self._sock = sock
        self._workers: dict[int, int] = {}  # pid -> worker
        self._clearing: dict[int, float] = {}  # pids that may clear up after dead workers, and until when
        self._wanted: deque[Birth] = deque()
        self._retry_at = 0.0
        self._retry_delay = RETRY_FIRST
        self._wake, self._waker = socketpair(AF_UNIX)
        self._become_template()
        self._memory = processes.MemoryWatch.now()
        self._complete = False  # what tasks need that call others is imported

    def _become_template(self) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        processes.close_fds({0, 1, 2, self._sock.fileno(), self._wake.fileno(), self._waker.fileno()})
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the daemon decides when the node ends
        self._waker.setblocking(False)
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _noted)  # only a handled signal wakes the poll in `serve`
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        processes.become_subreaper()
        processes.wake_with_parent()
        processes.set_name("skyward-spawner")
        _preload()

    def serve(self) -> Birth | None:
        """Fork and reap until the daemon is gone (None), or return in a new worker what it is."""
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll(self._patience())}
            if not (ready or self._wanted or self._clearing or self._complete):
                self._complete = True
                _load_the_rest()
            if self._wake.fileno() in ready:
                self._drain_wakeups()
                self._reap()
            if self._clearing:
                self._sweep(self._workers.keys())
            if self._sock.fileno() in ready and not self._receive():
                self._end()
                return None
            birth = self._fork_wanted()
            if birth is not None:
                return birth

    def _patience(self) -> float | None:
        """Return the milliseconds until something is tried again, or there is time for what few tasks need."""
        due = [*self._clearing.values(), *([self._retry_at] if self._wanted else [])]
        if due:
            return max(0.0, min(due) - time.monotonic()) * 1000
        return None if self._complete else IDLE * 1000

    def _drain_wakeups(self) -> None:
        with suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass

    # --- requests ---------------------------------------------------------------------------

    def _receive(self) -> bool:
        """Take in one request; False at EOF."""
        try:
            data, fds = receive_fds(self._sock, MAX_REQUEST, FDS_PER_WORKER)
        except OSError as error:
            return error.errno in (errno.EMFILE, errno.ENFILE)
        if not data:
            return False
        request: dict[str, Any] = json.loads(data)
        if request["do"] == "spawn":
            self._want(request, fds)
        else:
            self._kill(request["worker"])
        return True

    def _want(self, request: dict[str, Any], fds: list[int]) -> None:
        if len(fds) == FDS_PER_WORKER:
            data, control, stdout, stderr, cells, arena = fds
            size, pid, number = request["arena"]
            pipes = data, control, stdout, stderr, cells
            birth = Birth(request["worker"], request["slots"], request["env"], *pipes, arena, size, (pid, number))
            self._wanted.append(birth)
            return
        for fd in fds:  # we ran out of descriptors: the kernel passed on as many as there was room for
            os.close(fd)
        self._report_exit(request["worker"], 1 << 8, 0, oom=False)

    def _kill(self, worker: int) -> None:
        for pid, name in self._workers.items():
            if name == worker:
                processes.kill(pid)
        for birth in [birth for birth in self._wanted if birth.worker == worker]:
            self._wanted.remove(birth)
            self._close(birth)
            self._report_exit(worker, signal.SIGKILL, 0, oom=False)

    @staticmethod
    def _close(birth: Birth) -> None:
        for fd in birth.fds:
            os.close(fd)

    # --- births -----------------------------------------------------------------------------

    def _fork_wanted(self) -> Birth | None:
        while self._wanted and time.monotonic() >= self._retry_at:
            birth = self._wanted[0]
            me = os.getpid()
            try:
                pid = os.fork()
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.ENOMEM):
                    raise
                self._retry_at = time.monotonic() + self._retry_delay
                self._retry_delay = min(2 * self._retry_delay, RETRY_MOST)
                return None
            if pid == 0:
                self._become_worker(birth, me)
                return birth
            self._retry_delay = RETRY_FIRST
            self._wanted.popleft()
            self._workers[pid] = birth.worker
            self._close(birth)
            self._report_birth(birth.worker, pid)
        return None

    def _report_birth(self, worker: int, pid: int) -> None:
        fds: list[int] = []
        with suppress(OSError):  # out of descriptors: the daemon then kills by way of us
            fds.append(os.pidfd_open(pid))  # nobody but us reaps, so the pid is still this worker's
        self._send({"is": "spawned", "worker": worker, "pid": pid}, fds)
        for fd in fds:
            os.close(fd)

    def _become_worker(self, birth: Birth, parent: int) -> None:
        os.setsid()
        processes.die_with_parent(parent)
        processes.become_subreaper()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        self._sock.close()
        self._wake.close()
        self._waker.close()
        os.dup2(birth.stdout, 1)
        os.dup2(birth.stderr, 2)
        processes.close_fds({0, 1, 2, birth.data, birth.control, birth.cells, birth.arena})

    # --- deaths -----------------------------------------------------------------------------

    def _reap(self) -> None:
        """Reap whoever has ended, report workers, and kill what they left to us."""
        reaped = False
        while (pid := self._next_dead()) is not None:
            reaped = True
            worker = self._workers.pop(pid, None)
            if worker is not None and not self._leaves_clearing():
                processes.kill_group(pid)
            self._clearing.pop(pid, None)
            _, status, usage = os.wait4(pid, 0)
            if worker is not None:
                self._report_exit(worker, status, usage.ru_maxrss * 1024, oom=self._ran_out(status))
        if reaped:  # a live worker adopts its own orphans, so any other child of ours is a dead one's
            self._sweep(self._workers.keys())

    def _leaves_clearing(self) -> bool:
        """Return whether a dead worker has left somebody to clear up: then its processes are killed one by one."""
        return any(pid not in self._workers and processes.clears_up(pid) for pid in processes.children())

    def _sweep(self, keep: Collection[int]) -> bool:
        """Kill all children but those to keep; who clears up has a moment. Return whether there were any."""
        strangers = [pid for pid in processes.children() if pid not in keep]
        for pid in strangers:
            if pid not in self._clearing and processes.clears_up(pid):
                self._clearing[pid] = time.monotonic() + CLEARING
            if time.monotonic() >= self._clearing.get(pid, 0.0):
                processes.kill(pid)
                self._clearing.pop(pid, None)
        return bool(strangers)

    @staticmethod
    def _next_dead() -> int | None:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        return None if dead is None else dead.si_pid

    def _ran_out(self, status: int) -> bool:
        """Return whether a death that just happened was the kernel's, for lack of memory."""
        now, before = processes.MemoryWatch.now(), self._memory
        self._memory = now
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and now.rose_since(before)

    def _report_exit(self, worker: int, status: int, peak: int, *, oom: bool) -> None:
        limit = processes.memory_limit()
        self._send({"is": "exited", "worker": worker, "status": status, "peak": peak, "limit": limit, "oom": oom})

    def _send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        data = json.dumps(message).encode()
        with suppress(BrokenPipeError, ConnectionResetError):  # the daemon is gone: EOF follows
            send_fds(self._sock, data, fds) if fds else self._sock.send(data)

    # --- the end ----------------------------------------------------------------------------

    def _end(self) -> None:
        """Kill everything, until nothing is left to adopt."""
        for birth in self._wanted:
            self._close(birth)
        wakeups = select.poll()
        wakeups.register(self._wake, select.POLLIN)
        while self._sweep(()):
            wakeups.poll(SWEEP * 1000)
            self._drain_wakeups()
            self._reap()


def _preload() -> None:
    """Import what every worker needs, then keep the collector's hands off it: it stays shared after forks."""
    import gc
    import importlib

    gc.disable()
    needed = ("skyward_node.child", "skyward.pool.chunks", "skyward.wire.pickler")
    missing = [name for name in needed if name not in sys.modules]
    for name in missing:
        importlib.import_module(name)

    if missing:  # else a nursery has seen to it
        gc.collect()
    gc.freeze()


def _load_the_rest() -> None:
    """Import what a worker needs for calls of its tasks. Those that are there already import it when they need it."""
    import gc

    from skyward.pool.later import arrive

    arrive("skyward.task.nested")
    gc.freeze()
