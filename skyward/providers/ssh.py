"""Nodes on machines that are reached by SSH.

Each launch is one session on a host: the machine says what it is, takes in a bundle unless it has that, and becomes a
node, whose public key comes back by the same session. Then the client dials the node's port, or a forwarded one. See
`bundle`, `bootstrap`, `onhost` for what happens there, and `openssh` for the connection.

A node outlives its session: it ends by order, or by itself when no client has come for a lease and a moment.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from skyward.config import check_flag, check_whole
from skyward.errors import ConfigError, MeshError, ProvisionError
from skyward.model import NodeConfig, Nodes, counted
from skyward.providers import ssh_scripts
from skyward.providers.base import KEYS, Launched, Provider
from skyward.providers.bundle import check, make_bundle
from skyward.providers.openssh import Connection, Patience, control_directory
from skyward.providers.openssh_words import Trust
from skyward.providers.platforms import Platform
from skyward.providers.ssh_hosts import Host, check_path, line_of, parse_all, parse_file, usual
from skyward.providers.ssh_launch import Launch
from skyward.providers.ssh_scripts import Place

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Self

    from skyward.image import Image
    from skyward.providers.base import LaunchSpec
    from skyward.providers.bundle import Bundle
    from skyward.transport.keys import KeyPair

GRACE: Final = 5.0  # seconds beyond the lease that a node waits for a client: the first has to find its way
ENDING: Final = 25.0  # seconds to end a node: to connect anew, and to end it by force
LOOKING: Final = 15.0  # seconds to read a log
REMEMBERED: Final = 32  # logs of nodes that have ended: those of the last minutes
MOST_PER_HOST: Final = 64  # beyond that `concurrency` is what is meant
MOST_AT_ONCE: Final = 16  # nodes that are ended at once: more threads would wait for the CPU


class Seat(NamedTuple):
    """One of the places for nodes on a host."""

    host: Host
    number: int  # among those of its host


class SSH(Provider):
    """Nodes on other machines: ``sky.Compute(sky.SSH(["alice@h1", "h2:2222"]), concurrency=4)``.

    ``hosts`` are strings such as ``"alice@h1:2222"``, names of ``~/.ssh/config``, or `sky.Host`, each one node unless
    ``nodes_per_host`` says more; ``hostfile`` is a file with one on each line. ``user``, ``port``, ``identity``,
    ``python`` and ``setup`` are for hosts that do not say it themselves: see `sky.Host`.

    ``ssh_config``: a file instead of ``~/.ssh/config``. ``known_hosts``: a file instead of those that ssh knows.
    ``trust_first_use``: take the key of a host that is not known, and remember it; one that has changed never.
    ``tunnel``: reach nodes through SSH, where a firewall hides their ports. ``node_port``: the port that nodes listen
    at, and following ones for more nodes of one host; 0: any that is free.
    """

    name: ClassVar[str] = "ssh"
    paths: ClassVar[tuple[str, ...]] = ("hostfile", "identity", "ssh_config", "known_hosts")

    def __init__(
        self,
        hosts: Iterable[str | Host] = (),
        *,
        hostfile: str | None = None,
        user: str | None = None,
        port: int | None = None,
        identity: str | None = None,
        python: str | None = None,
        setup: str | None = None,
        ssh_config: str | None = None,
        known_hosts: str | None = None,
        trust_first_use: bool = False,
        tunnel: bool = False,
        node_port: int = 0,
        nodes_per_host: int = 1,
    ) -> None:
        """Check the hosts; raises `ConfigError`."""
        for name, path in (("hostfile", hostfile), ("ssh_config", ssh_config), ("known_hosts", known_hosts)):
            check_path(name, path)
        others = usual(user=user, port=port, identity=identity, python=python, setup=setup)
        named = parse_all(hosts) + (_read(hostfile) if hostfile is not None else [])
        self._hosts = tuple(host.otherwise(others) for host in named)
        if not self._hosts:
            raise ConfigError("sky.SSH needs at least one host, in hosts or in a hostfile")
        if twice := sorted(host for host, times in Counter(map(str, self._hosts)).items() if times > 1):
            raise ConfigError(f"sky.SSH was given a host twice ({', '.join(twice)}): nodes_per_host= says more")
        nodes_per_host = check_whole("nodes_per_host", nodes_per_host, 1, MOST_PER_HOST)
        node_port = check_whole("node_port", node_port, 0, 65_535)
        check_flag("trust_first_use", trust_first_use)
        check_flag("tunnel", tunnel)
        if node_port > 65_535 - nodes_per_host:
            raise ConfigError(f"node_port={node_port} leaves no ports for {nodes_per_host} nodes of a host")
        self._trust = Trust(ssh_config=ssh_config, known_hosts=known_hosts, first_use=trust_first_use)
        self._tunnel, self._node_port, self._per_host = tunnel, node_port, nodes_per_host
        self._pid = os.getpid()
        self._lock = threading.Condition()  # of all that follows; notified when a launch is over
        self._launches = 0  # under way
        self._seats: dict[Seat, str] = {}  # taken ones, with the names of their nodes, "" before they have one
        self._failures: dict[Seat, int] = {}
        self._connections: dict[str, Connection] = {}
        self._bundles: dict[Platform, Bundle] = {}
        self._packing = threading.Lock()
        self._launched: dict[str, Launched] = {}
        self._kept: set[str] = set()  # names of nodes that shall outlive us
        self._entered: set[Host] = set()  # where a launch may have left something, whatever came of it
        self._last_words: dict[str, tuple[str, ...]] = {}
        self._closing = False  # nothing is launched any more
        self._closed = False
        self._cancelled = threading.Event()  # set by `close`

    def __repr__(self) -> str:
        return f"sky.SSH({[str(host) for host in self._hosts]})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the settings alone."""
        return self._maker(), ()

    def for_pool(self) -> Self:
        """Return an unused provider with the same settings."""
        return self._maker()()

    def _maker(self) -> partial[Self]:
        return partial(
            type(self),
            self._hosts,
            ssh_config=self._trust.ssh_config,
            known_hosts=self._trust.known_hosts,
            trust_first_use=self._trust.first_use,
            tunnel=self._tunnel,
            node_port=self._node_port,
            nodes_per_host=self._per_host,
        )

    def recipe(self) -> dict[str, Any]:
        """Return the settings with the hosts by name: a hostfile may change, and the nodes stay where they are."""
        plain = type(self)(["h"])._maker().keywords
        said = {name: value for name, value in self._maker().keywords.items() if value != plain[name]}
        return {"hosts": [line_of(host) for host in self._hosts], **said}

    def default_nodes(self) -> Nodes:
        """Return all that there is room for."""
        return Nodes(len(self._hosts) * self._per_host)

    def check_nodes(self, nodes: Nodes) -> None:
        """Raise `ConfigError` if there is no room for so many."""
        if nodes.most > (room := len(self._hosts) * self._per_host):
            raise ConfigError(
                f"{self!r} has room for {counted(room, 'node')}, {self._per_host} on each host, and {nodes.most} were "
                "asked for: name more hosts, or say nodes_per_host="
            )

    def keys(self) -> KeyPair:
        """Return a pair of its own for every pool, which is never written anywhere."""
        from skyward.transport.keys import make_pair

        return make_pair()

    def accept(self, image: Image) -> None:
        """Raise `ConfigError` for another Python than the client's, and for files that are not there."""
        check(image, Platform.here())
        list(image.files(os.getcwd()))

    def prepare(self) -> None:
        """See to a place for the sockets of connections; raises `ProvisionError`."""
        self._refuse_if_closed()
        control_directory()

    def _refuse_if_closed(self) -> None:
        if self._closing:
            raise ProvisionError("this provider was closed with its pool; make another one")

    # --- launching ---------------------------------------------------------------------------

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Make a host a node and return when it serves; raises `ProvisionError`."""
        with self._lock:
            self._refuse_if_closed()
            seat = self._free_seat()
            self._seats[seat] = ""
            self._launches += 1
        try:
            launched = self._launch(spec, seat, cancelled)
            with self._lock:
                self._seats[seat] = launched.ident
                self._launched[launched.ident] = launched
                if spec.persist:
                    self._kept.add(launched.ident)
        except BaseException:
            with self._lock:
                self._failures[seat] = self._failures.get(seat, 0) + 1
                del self._seats[seat]
            raise
        finally:
            with self._lock:
                self._launches -= 1
                self._lock.notify_all()
        return launched

    def _free_seat(self) -> Seat:
        free = [seat for seat in self._all_seats() if seat not in self._seats]
        if not free:
            raise ProvisionError(
                f"{counted(len(self._hosts), 'host')} with {counted(self._per_host, 'node')} each, and all run: name "
                "more hosts, or say nodes_per_host="
            )
        return min(free, key=lambda seat: self._failures.get(seat, 0))  # the first of these

    def _all_seats(self) -> list[Seat]:
        return [Seat(host, number) for number in range(self._per_host) for host in self._hosts]

    def _launch(self, spec: LaunchSpec, seat: Seat, cancelled: threading.Event) -> Launched:
        launch = Launch(
            self._connection(seat.host),
            self._trust,
            self._config(spec, seat),
            lambda platform: self._bundle(spec.image, platform),
            mesh=spec.mesh,
            python=spec.image.python or Platform.here().python,
            port=self._node_port and self._node_port + seat.number,
            tunnel=self._tunnel,
            tell=self.tell,
        )
        try:
            return launch.run(spec.start_timeout, lambda: cancelled.is_set() or self._cancelled.is_set())
        finally:
            if launch.entered:
                with self._lock:
                    self._entered.add(seat.host)

    def _config(self, spec: LaunchSpec, seat: Seat) -> NodeConfig:
        alone = 0.0 if spec.persist else spec.lease + GRACE
        # The host says at which address it is reached.
        keys = KEYS if spec.persist else ""
        return spec.node_config(bind="", alone=alone, seat=seat.number, seats=self._per_host, keys=keys)

    def _connection(self, host: Host) -> Connection:
        with self._lock:
            return self._connections.setdefault(str(host), Connection(host, self._trust))

    def _bundle(self, image: Image, platform: Platform) -> Bundle:
        with self._packing:  # the others wait for the one that packs, and use what it made
            if platform not in self._bundles:
                self._bundles[platform] = make_bundle(image, root=os.getcwd(), platform=platform)
            return self._bundles[platform]

    # --- ending ------------------------------------------------------------------------------

    def terminate(self, launched: Launched) -> None:
        """End a node and all below it, and return when they are gone; of another provider, too, with these hosts.

        Raises `ProvisionError` if its host cannot be reached, unless it is of this provider and will end by itself.
        """
        place = Place.parse(launched.ident)
        if place is None or self._closed or os.getpid() != self._pid:
            return
        with self._lock:
            ours = launched.ident in self._launched and launched.ident not in self._kept
            gone = launched.ident in self._last_words
        if not gone:
            self._end(launched.ident, place, quietly=ours)

    def _end(self, ident: str, place: Place, *, quietly: bool) -> None:
        connection = self._connection(self._host_of(place.host))
        patience = Patience(ENDING, f"{place.host}: ending a node")
        words: tuple[str, ...] = ()
        try:
            words = ssh_scripts.last_words(connection.run(ssh_scripts.end(place.node), patience))
        except MeshError as error:
            if not quietly:
                raise
            self.tell(f"{place.host}: cannot end its node, which will end by itself: {error.args[0]}")
        with self._lock:
            launched = self._launched.pop(ident, None)
            self._kept.discard(ident)
            self._seats = {seat: name for seat, name in self._seats.items() if name != ident}
            self._last_words[ident] = words
            if len(self._last_words) > REMEMBERED:
                del self._last_words[next(iter(self._last_words))]
        if launched is not None and self._tunnel:
            connection.forget(launched.endpoint)

    def _host_of(self, name: str) -> Host:
        for host in self._hosts:
            if str(host) == name:
                return host
        raise ProvisionError(f"{name} is no host of {self!r}, so how to reach it is not known")

    def log_tail(self, launched: Launched) -> tuple[str, ...]:
        """Return the last lines of a node's log, as it was at its end or as it is; nothing if out of reach."""
        try:
            return self.read_log(launched)
        except MeshError:
            return ()

    def read_log(self, launched: Launched) -> tuple[str, ...]:
        """Return the same; raises `ProvisionError` if it is out of reach."""
        with self._lock:
            words = self._last_words.get(launched.ident)
        if words is not None:
            return words
        place = Place.parse(launched.ident)
        if place is None or self._closed:
            raise ProvisionError(f"{launched.ident} is no node that {self!r} can look at")
        connection = self._connection(self._host_of(place.host))
        answer = connection.run(ssh_scripts.tail(place.node), Patience(LOOKING, f"{place.host}: reading a log"))
        if not ssh_scripts.has_log(answer):
            raise ProvisionError(f"{place.host}: there is no {place.node}/log")
        return ssh_scripts.last_words(answer)

    # --- meshes ------------------------------------------------------------------------------

    def adopt(self, nodes: Collection[Launched]) -> None:
        """Take note of nodes that have seats already."""
        with self._lock:
            for ident in (node.ident for node in nodes):
                place = Place.parse(ident)
                free = [seat for seat in self._all_seats() if seat not in self._seats]
                seat = next((seat for seat in free if place is not None and str(seat.host) == place.host), None)
                if seat is not None:
                    self._seats[seat] = ident

    def sweep(self, mesh: str = "", *, keep: Collection[str] = (), dry_run: bool = False) -> tuple[str, ...]:
        """End what is left of nodes that belong to a mesh: to this one, or to none of ``keep``."""
        return self._sweep(self._hosts, mesh, keep, dry_run=dry_run)

    def undo(self, mesh: str) -> tuple[str, ...]:
        """End what is left of a mesh on the hosts that a launch has entered."""
        with self._lock:
            entered = [host for host in self._hosts if host in self._entered]
        return self._sweep(entered, mesh)

    def _sweep(
        self, hosts: Collection[Host], mesh: str, keep: Collection[str] = (), *, dry_run: bool = False
    ) -> tuple[str, ...]:
        """Look at hosts side by side: one that cannot be reached keeps no other from being swept."""
        gone: list[str] = []
        problems: list[MeshError] = []

        def look(host: Host) -> None:
            try:
                patience = Patience(ENDING, f"{host}: looking for nodes")
                answer = self._connection(host).run(ssh_scripts.LIST, patience)
                for node, theirs in ssh_scripts.listed(answer).items():
                    place = Place(str(host), node)
                    if (theirs == mesh and str(place) not in keep) if mesh else theirs not in keep:
                        if not dry_run:
                            self._end(str(place), place, quietly=False)
                        gone.append(f"{place} of the mesh {theirs}")
            except MeshError as error:
                problems.append(error)

        with ThreadPoolExecutor(MOST_AT_ONCE, "skyward-ssh-sweep") as threads:
            list(threads.map(look, hosts))
        for line in sorted(gone) if problems and not dry_run else ():
            self.tell(f"ended {line}")
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise ProvisionError("\n".join(sorted(map(str, problems))))
        return tuple(sorted(gone))

    def close(self) -> None:
        """End all nodes but those that shall persist, and all connections. In a forked child it does nothing."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            closing, self._closing = self._closing, True
            self._cancelled.set()
            self._lock.wait_for(lambda: self._launches == 0)
            mine = [ident for ident in self._launched if ident not in self._kept] if not closing else []
            connections = list(self._connections.values())
        places = [(ident, place) for ident in mine if (place := Place.parse(ident)) is not None]
        if places or connections:
            with ThreadPoolExecutor(max_workers=MOST_AT_ONCE, thread_name_prefix="skyward-ssh-end") as threads:
                for end in [threads.submit(self._end, ident, place, quietly=True) for ident, place in places]:
                    end.result()
                for end in [threads.submit(connection.close) for connection in connections]:
                    end.result()
        self._closed = True


def _read(path: str) -> list[Host]:
    try:
        with open(os.path.expanduser(path), encoding="utf-8", errors="replace") as file:
            return parse_file(file, path)
    except OSError as error:
        raise ConfigError(f"cannot read the hostfile {path}: {error.strerror}") from error
