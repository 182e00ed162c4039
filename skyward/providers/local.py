"""Nodes on this machine: real daemons as child processes, reached over sockets in a private directory.

Workers find what the client had when the pool opened, whenever they start: working directory,
environment, ``sys.path`` and umask are noted once. See `skyward.providers.daemon` for one node's life.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from skyward.errors import ConfigError, ProvisionError
from skyward.machine.cpus import usable_cpus
from skyward.model import NodeConfig, Nodes
from skyward.providers import directory
from skyward.providers.base import Launched, Provider
from skyward.providers.daemon import ENDING, Daemon
from skyward.providers.nursery import Nursery
from skyward.transport.signals import Guard

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Self

    from skyward.image import Image
    from skyward.providers.base import LaunchSpec
    from skyward.transport.keys import KeyPair

MOST_NODES: Final = 8  # by default: more processes than that are wanted seldom, and cost memory always
REMEMBERED: Final = 32  # logs of nodes that have ended: those of the last minutes
ANY_PORT: Final = "tcp://127.0.0.1:0"


class Surroundings:
    """What the client's process looked like at one moment."""

    def __init__(self) -> None:
        self.cwd = _working_directory()
        self.umask = _umask()
        self.env = dict(os.environ)
        # "" is the working directory, wherever that is later.
        self.sys_path = tuple(os.path.join(self.cwd, place) for place in sys.path if place or self.cwd)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed: a child process is still in it, just as we are
        return ""


def _umask() -> int:
    """Return the umask without setting it for a moment, which other threads would notice; -1 if unknown."""
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return -1


class Local(Provider):
    """Nodes on this machine: ``sky.Compute(sky.Local(), nodes=4)``, and what a pool is without a provider.

    ``transport`` is how the client reaches them: ``"ipc"`` (default), sockets in a private directory, or ``"tcp"``,
    ports of the loopback interface behind CURVE, with keys for this pool alone: what a pool of other machines is like.
    Nodes of a mesh, which outlive whoever starts them, are always reached over TCP: see
    `skyward.providers.persisting`.
    """

    name: ClassVar[str] = "local"

    def __init__(self, transport: Literal["ipc", "tcp"] | None = None) -> None:
        if transport not in ("ipc", "tcp", None):
            raise ConfigError(f"transport must be 'ipc' or 'tcp', got {transport!r}")
        self._said: Literal["ipc", "tcp"] | None = transport
        transport = transport or "ipc"
        self.transport: Literal["ipc", "tcp"] = transport
        self.shares_memory = transport == "ipc"
        self._lock = threading.Condition()  # of all that follows; notified when a launch is over
        self._launches = 0  # under way
        self._seats: dict[int, int] = {}  # by the index of the launch: see `NodeConfig.seat`
        self._surroundings: Surroundings | None = None
        self._env: Mapping[str, str] = {}  # of the image, as far as it is known
        self._lasting = False  # its nodes are to outlive this process
        self._nursery: Nursery | None = None
        self._directory = ""
        self._daemons: dict[str, Daemon] = {}
        self._last_words: dict[str, tuple[str, ...]] = {}
        self._closed = False
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"sky.Local(transport={self.transport!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the settings alone."""
        return type(self), (self._said,)

    def for_pool(self) -> Self:
        """Return an unused provider with the same settings."""
        return type(self)(self._said)

    def for_mesh(self, mesh: str) -> Self:
        """Return an unused provider of nodes over TCP: sockets in a temporary directory do not last."""
        local = type(self)("tcp")
        local._said, local._lasting = self._said, True
        return local

    def check_nodes(self, nodes: Nodes) -> None:
        """Raise `ConfigError` for nodes of a mesh that are to be reached as they cannot be; no number is too large."""
        if self._lasting and self._said == "ipc":
            raise ConfigError("nodes of a mesh are reached over TCP: leave out transport='ipc', or say 'tcp'")

    def default_nodes(self) -> Nodes:
        """Return one node per CPU that this process may use, at most 8."""
        return Nodes(min(MOST_NODES, usable_cpus()))

    def keys(self) -> KeyPair | None:
        """Return a pair of its own for every pool, which is never written anywhere."""
        if self.transport == "ipc":
            return None
        from skyward.transport.keys import make_pair

        return make_pair()

    def accept(self, image: Image) -> None:
        """Raise `ProvisionError` unless this machine has the image's packages, `ConfigError` for missing files."""
        if not image.is_empty:
            from skyward.providers import present  # which asks for what is installed, and most images do not

            present.require(image)
            list(image.files(_working_directory()))
        self._env = image.env

    def prepare(self) -> None:
        """Note what the client's process looks like, and start what will fork daemons; raises `ProvisionError`."""
        with self._lock:
            surroundings = self._prepare()
            if self._nursery is None and not self._lasting:
                with Guard(lambda: None):  # an interrupt waits until somebody can end it
                    self._nursery = _start_nursery(surroundings, self._env)

    def _prepare(self) -> Surroundings:
        if self._closed:
            raise ProvisionError("this provider was closed with its pool; make another one")
        if self._surroundings is None:
            self._surroundings = Surroundings()
        return self._surroundings

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Start a daemon and return when it serves; raises `ProvisionError`."""
        with self._lock:
            surroundings = self._prepare()
            if self.transport == "ipc" and not self._directory:  # not before: daemons remove it when the client is gone
                self._directory = directory.find_private(directory.temporary_directories())
            self._launches += 1
            # A node that was lost is replaced while it is still being cleared away.
            dead = {int(ident.rpartition("-")[2]) for ident, daemon in self._daemons.items() if daemon.has_died}
            seat = free_seat((taken for other, taken in self._seats.items() if other not in dead), spec.nodes)
            self._seats[index] = seat
        start = self._launch_to_persist if spec.persist else self._launch
        try:
            return start(surroundings, spec, index, seat, cancelled)
        except ProvisionError as error:
            with self._lock:
                self._seats.pop(index, None)
            raise ProvisionError(f"local node {index} did not start: {error.message}", error.log) from error
        finally:
            with self._lock:
                self._launches -= 1
                self._lock.notify_all()

    def _launch(
        self, surroundings: Surroundings, spec: LaunchSpec, index: int, seat: int, cancelled: threading.Event
    ) -> Launched:
        bind = ANY_PORT if self.transport == "tcp" else f"ipc://{self._directory}/n{index}.sock"
        config = _config(spec, surroundings, bind).but(seat=seat, seats=spec.nodes)
        env = _environment(surroundings, spec.image.env)
        nursery = self._nursery if self._nursery is not None and self._nursery.env == env else None
        daemon = Daemon(surroundings.sys_path, env, config.but, nursery=nursery)
        ident = f"local-{daemon.pid}-{index}"
        try:
            # Known before it is waited for, so that `close` finds it.
            self._add(ident, daemon)
            said = daemon.wait_ready(spec.start_timeout, cancelled)
        except BaseException:
            self._end(ident, daemon)
            raise
        return Launched(
            ident=ident,
            endpoint=said["endpoint"],
            public_key=said["public_key"],
            pid=daemon.pid,
            death_fd=daemon.pidfd,
        )

    def _launch_to_persist(
        self, surroundings: Surroundings, spec: LaunchSpec, index: int, seat: int, cancelled: threading.Event
    ) -> Launched:
        import shutil

        from skyward.providers import persisting

        place = persisting.make_place(spec.mesh)
        log = os.path.join(place, persisting.LOG)
        config = _config(spec, surroundings, ANY_PORT).but(seat=seat, seats=spec.nodes, keys=place, log_file=log)
        env = _environment(surroundings, spec.image.env) | {persisting.MARK: place}
        starting = f"starting-{index}"  # until it serves it is ours, and `close` ends it
        try:
            daemon = Daemon(surroundings.sys_path, env, config.but, log_file=log)
            ident = persisting.identify(daemon.pid, place)
            try:
                self._add(starting, daemon)
                said = daemon.wait_ready(spec.start_timeout, cancelled)
                with self._lock:
                    if self._closed:
                        raise ProvisionError("its pool was closed")
                    del self._daemons[starting]
            except BaseException:
                self._end(starting, daemon)
                raise
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        daemon.let_go()
        return Launched(ident=str(ident), endpoint=said["endpoint"], public_key=said["public_key"], pid=daemon.pid)

    def _add(self, ident: str, daemon: Daemon) -> None:
        with self._lock:
            if self._closed:
                raise ProvisionError("its pool was closed")
            self._daemons[ident] = daemon

    def terminate(self, launched: Launched) -> None:
        """End a daemon and all below it, and return when they are gone; one that persists whoever started it."""
        from skyward.providers import persisting

        ident = persisting.Ident.parse(launched.ident)
        if ident is not None:
            self._remember(launched.ident, persisting.tail(ident))
            persisting.end(ident)
            return
        daemon = self._daemons.get(launched.ident)
        if daemon is not None and os.getpid() == self._pid:
            self._end(launched.ident, daemon)

    def _end(self, ident: str, daemon: Daemon) -> None:
        daemon.end()
        with self._lock:
            self._seats.pop(int(ident.rpartition("-")[2]), None)
            ended = self._daemons.pop(ident, None) is not None
        if ended:
            self._remember(ident, daemon.tail())

    def _remember(self, ident: str, words: tuple[str, ...]) -> None:
        with self._lock:
            self._last_words[ident] = words or self._last_words.get(ident, ())
            if len(self._last_words) > REMEMBERED:
                del self._last_words[next(iter(self._last_words))]

    def log_tail(self, launched: Launched) -> tuple[str, ...]:
        """Return the last lines of a daemon's log, as it was when it was ended or as it is."""
        from skyward.providers import persisting

        ident = persisting.Ident.parse(launched.ident)
        if ident is not None and (words := persisting.tail(ident)):
            return words
        daemon = self._daemons.get(launched.ident)
        return daemon.tail() if daemon is not None else self._last_words.get(launched.ident, ())

    def read_log(self, launched: Launched) -> tuple[str, ...]:
        """Return the same; raises `ProvisionError` if the file of a node that persists cannot be read."""
        from skyward.providers import persisting

        ident = persisting.Ident.parse(launched.ident)
        return self.log_tail(launched) if ident is None else persisting.read_log(ident)

    def close(self) -> None:
        """End all daemons, side by side, and remove the directory. In a forked child it does nothing."""
        if os.getpid() != self._pid:
            return  # they are our parent's
        with self._lock:
            self._closed = True
            deadline = time.monotonic() + ENDING  # one for all: several that hang take no longer than one does
            for daemon in self._daemons.values():
                daemon.hang_up()
            if self._nursery is not None:
                self._nursery.hang_up()
            self._lock.wait_for(lambda: self._launches == 0)  # they fail at once: `_add` and `hang_up` see to it
            daemons = dict(self._daemons)
        for daemon in daemons.values():
            daemon.strike(deadline)
        for ident, daemon in daemons.items():
            self._end(ident, daemon)
        if self._nursery is not None:
            self._nursery.end(deadline - time.monotonic())
        if self._directory:
            directory.remove(self._directory)

    def sweep(self, mesh: str = "", *, keep: Collection[str] = (), dry_run: bool = False) -> tuple[str, ...]:
        """End the nodes of a mesh, or of all meshes that nobody knows any more; see `Provider.sweep`."""
        from skyward.providers import persisting

        lines: list[str] = []
        for found in persisting.find():
            if (found.mesh == mesh and str(found.ident) not in keep) if mesh else found.mesh not in keep:
                if not dry_run:
                    persisting.end(found.ident)
                what = f"node with pid {found.ident.pid}" if found.lives else "files of a node that is gone"
                lines.append(f"{what}, of mesh {found.mesh or '?'} on this machine")
        return tuple(lines)


def free_seat(taken: Iterable[int], seats: int) -> int:
    """Return the lowest seat that fewest nodes have: more than were meant to be come when a pool is resized."""
    counts = [0] * seats
    for seat in taken:
        counts[seat] += 1
    return counts.index(min(counts))


def _start_nursery(surroundings: Surroundings, env: Mapping[str, str]) -> Nursery | None:
    try:
        return Nursery(surroundings.sys_path, _environment(surroundings, env))
    except (OSError, NotImplementedError, ProvisionError):  # the first launch fails for the same reason, and tells
        return None


def _environment(surroundings: Surroundings, env: Mapping[str, str]) -> dict[str, str]:
    # Some variables count only for a process that starts with them; those of Python would change the daemon, too.
    return surroundings.env | {name: value for name, value in env.items() if not name.startswith("PYTHON")}


def _config(spec: LaunchSpec, surroundings: Surroundings, bind: str) -> NodeConfig:
    sys_path = surroundings.sys_path
    if spec.image.includes and surroundings.cwd not in sys_path:
        sys_path = (*sys_path, surroundings.cwd)  # where the paths of what is included begin
    return spec.node_config(bind=bind, cwd=surroundings.cwd, umask=surroundings.umask, sys_path=sys_path)
