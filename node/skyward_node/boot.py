"""How a daemon comes up and goes down.

The order matters: the template is forked while there is one thread and no ZeroMQ, so that forking
from it is safe for ever; ZeroMQ is imported while the template imports what workers need; structlog
comes after the first client could have been served, if at all. Whatever happens, what was started is
gone at the end.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from skyward.config import available_memory, frame_limit
from skyward.errors import ConfigError
from skyward_node import endpoint, notify, processes, template
from skyward_node.logs import FileSink, Logger, Sink

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from skyward.model import NodeConfig
    from skyward.transport.sockets import Socket
    from skyward_node.core import Core, Limits
    from skyward_node.door import Door
    from skyward_node.executors.supervisor import Supervisor
    from skyward_node.metrics import Metrics
    from skyward_node.router import Router
    from skyward_node.template import TemplateHandle

CANNOT_SERVE: Final = 2  # exit code; click uses the same for wrong usage
LAST_WORDS: Final = 2.0  # seconds that what is logged at the end may wait for structlog
MOST_DESCRIPTORS: Final = 65_536  # where the system sets no limit
OWN_DESCRIPTORS: Final = 26  # of the daemon, without workers and clients
YOUNG: Final = 50_000  # allocations between looks for garbage: tasks make none that needs a collector


def serve(config: NodeConfig, *, interactive: bool = False) -> int:
    """Run a daemon until it ends; return its exit code. With ``interactive`` Ctrl-C ends it."""
    notify.take_over()
    launcher = _Launcher(config.ready_fd)
    with ExitStack() as stack:
        try:
            sink = FileSink(config.log_file) if config.log_file else Sink(sys.stderr.fileno())
        except OSError as error:
            launcher.tell({"error": f"cannot log to {config.log_file}: {error.strerror}"})
            return CANNOT_SERVE
        try:
            path = endpoint.check(config.bind)
            signals = _catch_signals(stack, interactive=interactive)
            handle = template.start(config)
            stack.callback(_stop, handle)
            return _serve(config, path, handle, signals, launcher, sink, stack)
        except ConfigError as error:
            launcher.tell({"error": str(error)})
            return CANNOT_SERVE
        except OSError as error:
            launcher.tell({"error": f"cannot serve at {config.bind}: {error}"})
            return CANNOT_SERVE


def _serve(
    config: NodeConfig,
    path: str,
    handle: TemplateHandle,
    signals: int,
    launcher: _Launcher,
    sink: Sink,
    stack: ExitStack,
) -> int:
    from skyward_node.core import Core
    from skyward_node.core.admission import owner_of
    from skyward_node.executors.supervisor import Supervisor
    from skyward_node.identity import make_identity
    from skyward_node.lanes import Lanes
    from skyward_node.server import Server

    raise_descriptor_limit()
    _require_descriptors(config)
    memory = available_memory()
    limit = config.max_payload or memory // 2
    socket, door = _open(config, path, limit, stack)
    supervisor = Supervisor(config, handle)
    stack.callback(supervisor.close)
    identity = make_identity(config)
    router = _router(socket, supervisor, memory, limit, curve=door is not None)
    lanes = Lanes.open(path, router.decode, lambda token: owner_of(core.node, token), stack)
    logger = Logger(config.log_level, config.log_format, sink, node=f"{identity.hostname}:{identity.pid}")
    stack.callback(logger.close, LAST_WORDS)
    listed = door is not None and door.access.listed
    core = Core(_limits(config, limit, lanes=lanes is not None, listed=listed), identity, time.monotonic())
    metrics = _open_metrics(core, config, stack)
    server = Server(
        config, core, router, supervisor, signals=signals, logger=logger, door=door, metrics=metrics, lanes=lanes
    )
    _announce(config, launcher, logger, door, metrics)
    _become_daemon(config)
    code = server.run()
    if server.orphaned and path:
        if lanes is not None:
            lanes.close()  # first, for the directory goes only when nothing is in it
        endpoint.remove_for_launcher(path)
    return code


def _open(config: NodeConfig, path: str, limit: int, stack: ExitStack) -> tuple[Socket, Door | None]:
    """Listen; return the ROUTER, and the door of a TCP port. ``limit``: bytes of the arguments of a call."""
    import zmq

    from skyward.transport.sockets import IO_THREADS, make_router
    from skyward_node.server import GOODBYE

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(IO_THREADS)
    stack.callback(context.term)
    socket = make_router(context, max_frame=frame_limit(limit))
    stack.callback(socket.close, GOODBYE)
    if path:
        stack.callback(endpoint.remove, path)
        endpoint.bind_private(path, socket.bind)
        return socket, None
    from skyward_node.door import Door

    return socket, Door(context, socket, config, stack)


def _router(socket: Socket, supervisor: Supervisor, memory: int, limit: int, *, curve: bool) -> Router:
    from skyward.machine.memory import Arena
    from skyward_node.executors.arenas import SHARE
    from skyward_node.router import Router

    return Router(
        socket,
        frame_limit(limit),
        curve=curve,
        arena=Arena(memory // SHARE),
        bytes_of=supervisor.arenas.bytes_of,
    )


def _announce(
    config: NodeConfig, launcher: _Launcher, logger: Logger, door: Door | None, metrics: Metrics | None
) -> None:
    """Say where we serve, to whoever waits for it and to people."""
    place = {"endpoint": door.endpoint if door else config.bind, "public_key": door.public_key if door else ""}
    port = {"metrics": metrics.port} if metrics is not None else {}
    launcher.tell({**place, "pid": os.getpid(), **port})
    notify.tell(notify.READY, f"serving at {place['endpoint']}")
    logger.log("info", "serving", place | {"slots": config.concurrency} | port)
    if door is not None and not door.access.keys:
        logger.log("warning", "no client is admitted yet", {"advice": "skyward-node keys add KEY"})


def _become_daemon(config: NodeConfig) -> None:
    """See to what takes time, and is not needed before a client can come."""
    processes.become_subreaper()
    if config.parent:
        processes.wake_with_parent()
    processes.set_name("skyward-node")
    gc.freeze()
    gc.set_threshold(YOUNG)


def _limits(config: NodeConfig, most: int, *, lanes: bool, listed: bool) -> Limits:
    """Return what the core needs to know; ``most``: bytes of the arguments of a call."""
    from skyward_node.core import Limits

    threads = config.executor == "thread"
    return Limits(config.concurrency, threads, config.reuse_processes, config.lease, most, config.alone, lanes, listed)


def _open_metrics(core: Core, config: NodeConfig, stack: ExitStack) -> Metrics | None:
    """Listen for whoever asks how the node is, if that is wanted."""
    if config.metrics < 0:
        return None
    from skyward_node.metrics import Metrics

    identity = core.node.identity
    about = {"host": identity.hostname, "executor": config.executor, "python": identity.python} | identity.versions
    metrics = Metrics(config.metrics, core, about)
    stack.callback(metrics.close)
    return metrics


def raise_descriptor_limit() -> None:
    """Allow as many connections as the system does. The workers keep the limit that the daemon was started with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, MOST_DESCRIPTORS)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _require_descriptors(config: NodeConfig) -> None:
    """Raise `ConfigError` if there are too few for the workers: better said now than by the first client to be lost."""
    from skyward_node.executors.descriptors import RESERVE
    from skyward_node.executors.supervisor import PER_WORKER

    workers = 1 if config.executor == "thread" else config.concurrency
    needed = OWN_DESCRIPTORS + workers * PER_WORKER + RESERVE
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < needed:
        raise ConfigError(
            f"concurrency={config.concurrency} takes {needed} open files, and the system allows {limit}: "
            f"raise the limit (ulimit -n {needed}), or run fewer tasks at once"
        )


def _catch_signals(stack: ExitStack, *, interactive: bool) -> int:
    """Turn signals into bytes on a pipe; return its reading end."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    stack.callback(os.close, read)
    stack.callback(os.close, write)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    stack.callback(signal.set_wakeup_fd, -1)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _noted)
    # A launched daemon shares the terminal's Ctrl-C with its client, which decides what it means.
    signal.signal(signal.SIGINT, _noted if interactive else signal.SIG_IGN)
    return read


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the byte on the pipe says it all."""


class _Launcher:
    """Hears once, on the pipe it gave us, that we serve or why we do not. All else is for people."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._person = -1 if fd >= 0 else os.dup(2)  # stderr may go elsewhere soon

    def tell(self, line: Mapping[str, object]) -> None:
        """Tell it, or a person."""
        fd, self._fd = self._fd, -1  # once it is closed, its number may be somebody else's
        if fd >= 0:
            with suppress(OSError):  # the launcher is gone: the lifeline says so too
                os.write(fd, json.dumps(line).encode() + b"\n")
                os.close(fd)
        person, self._person = self._person, -1
        if person >= 0:
            with suppress(OSError):  # nobody reads it any more
                if "error" in line:
                    os.write(person, f"skyward-node: {line['error']}\n".encode())
            os.close(person)


def _stop(handle: TemplateHandle) -> None:
    """End the template, and whatever it could not: with it gone, we adopt what it had adopted."""
    handle.stop()
    while processes.kill_adopted(()):
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)
