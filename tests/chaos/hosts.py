"""Hosts of this machine, each with a network of its own, joined by a bridge; and what may befall a host.

The process of the tests has a cable to the bridge, and is the client. A host is a network namespace and a daemon,
whose port and key stay the same when it is started again. Everything ends with the process that made it, however that
ends: the bridge has a namespace, too, cables end with either of the two they join, and namespaces with what runs there.
"""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psutil

from skyward.transport.keys import write_clients
from skyward_node.access import CLIENTS
from tests.rules.byhand import ByHand, client_pair
from tests.ssh.machines import run

if TYPE_CHECKING:
    import signal
    from pathlib import Path
    from typing import Self

    from skyward.transport.keys import Client

PACKAGES: Final = {"ip": "iproute2", "tc": "iproute2", "iptables": "iptables"}  # by command
PORT: Final = 7_700
MOST: Final = 8  # hosts of a net
SETUP: Final = "ip link set lo up && ip address add $0/24 dev eth0 && ip link set eth0 up"
INTO: Final = ("-A", "INPUT", "-i", "eth0")  # packets that come to a host
OUT_OF: Final = ("-A", "OUTPUT", "-o", "eth0")
DROP: Final = ("-j", "DROP")
# A packet with data is answered by a reset; those that open a connection pass.
RESET: Final = ("-p", "tcp", "--tcp-flags", "PSH", "PSH", "-j", "REJECT", "--reject-with", "tcp-reset")
QUEUE: Final = "50ms"  # how long packets may wait at a slow link; what would wait longer is dropped


class Network:
    """A network namespace, as long as a process of ours holds it, and we live."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        self.pid = str(self._holder.pid)
        self.enter = ("nsenter", f"--net=/proc/{self.pid}/ns/net")

    def inside(self, *command: str) -> str:
        """Run a command there; return what it prints."""
        return run(*self.enter, *command)

    def close(self) -> None:
        """Let it go."""
        for pipe in (self._holder.stdin, self._holder.stdout):
            assert pipe is not None
            pipe.close()
        self._holder.wait()


class Net:
    """A bridge and the hosts on it. ``subnet`` is the second number of their addresses."""

    def __init__(self, subnet: int, place: Path) -> None:
        self._prefix = f"10.{subnet}.0"
        self._place = place
        self._switch = Network()
        self._uplink = f"sky{os.getpid()}"
        self.hosts: list[Host] = []
        self._switch.inside("sh", "-c", "ip link add bridge type bridge && ip link set bridge up")
        run("ip", "link", "add", self._uplink, "type", "veth", "peer", "name", "client", "netns", self._switch.pid)
        self._switch.inside("ip", "link", "set", "client", "master", "bridge", "up")
        run("ip", "address", "add", f"{self._prefix}.1/24", "dev", self._uplink)
        run("ip", "link", "set", self._uplink, "up")

    def add(self, count: int, *options: str) -> list[Host]:
        """Return so many new hosts, whose daemons serve; ``options`` are those of ``skyward-node``."""
        assert len(self.hosts) + count <= MOST
        made: list[Host] = []
        for number in range(len(self.hosts), len(self.hosts) + count):
            host = Host(self._switch, f"{self._prefix}.{number + 2}", self._place / f"host{number}", options)
            self.hosts.append(host)
            made.append(host)
            host.start(wait=False)
        for host in made:
            host.node.wait_serving()
        return made

    def close(self) -> None:
        """End all hosts."""
        for host in self.hosts:
            host.close()
        run("ip", "link", "delete", self._uplink)
        self._switch.close()


class Host:
    """One of them. What its methods do to packets lasts until `heal`."""

    def __init__(self, switch: Network, address: str, keys: Path, options: tuple[str, ...]) -> None:
        self.ip = address
        self._keys = keys
        self._options = options
        self._switch = switch
        self._end = f"host{address.rpartition('.')[2]}"  # of its cable, at the bridge
        write_clients(str(keys / CLIENTS), [_client()])
        self._network = Network()
        self.inside = self._network.inside
        switch.inside(
            "ip", "link", "add", self._end, "type", "veth", "peer", "name", "eth0", "netns", self._network.pid
        )
        switch.inside("ip", "link", "set", self._end, "master", "bridge", "up")
        self.inside("sh", "-c", SETUP, address)
        self.node: ByHand
        self.printed: list[str] = []  # by daemons that are gone, and those below them, beside what they logged

    def close(self) -> None:
        """End its daemon and its network."""
        with suppress(AttributeError):  # it was never started
            self.node.end()
        self._switch.inside("ip", "link", "delete", self._end)
        self._network.close()

    # --- its daemon ------------------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> Self:
        """Start its daemon; the thread that does has to outlive it."""
        bind = f"tcp://{self.ip}:{PORT}"
        self.node = ByHand(self._keys, *self._options, bind=bind, prefix=self._network.enter, wait=wait)
        return self

    def restart(self) -> None:
        """Bury its daemon, and start another, which need not serve yet."""
        self.node.end()
        self.printed += self.node.printed
        self.start(wait=False)

    @property
    def address(self) -> str:
        """Return what a client is told."""
        return self.node.address

    def workers(self) -> list[psutil.Process]:
        """Return its workers: the children of its template, which is the child of its daemon."""
        found: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            for template in psutil.Process(self.node.pid).children():
                found += template.children()
        return found

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its daemon, if it lives."""
        with suppress(ProcessLookupError):
            os.kill(self.node.pid, number)

    # --- its network -----------------------------------------------------------------------------

    def _table(self, *rule: str) -> None:
        self.inside("iptables", "-w", "10", *rule)

    def deafen(self) -> None:
        """Lose all that is sent to it."""
        self._table(*INTO, *DROP)

    def mute(self) -> None:
        """Lose all that it sends."""
        self._table(*OUT_OF, *DROP)

    def cut_off(self) -> None:
        """Lose all that is sent to it or by it, without a word."""
        self.deafen()
        self.mute()

    def lose(self, share: float) -> None:
        """Lose such a share of the packets to it, and of those it sends."""
        for way in (INTO, OUT_OF):
            self._table(*way, "-m", "statistic", "--mode", "random", "--probability", str(share), *DROP)

    def reset(self) -> None:
        """Answer data that is sent to it by a reset."""
        self._table(*INTO, *RESET)

    def forget(self, *ports: int) -> None:
        """Lose what belongs to the connections from these ports of the client, as a router does that forgot them."""
        for port in ports:
            self._table(*INTO, "-p", "tcp", "--sport", str(port), *DROP)
            self._table(*OUT_OF, "-p", "tcp", "--dport", str(port), *DROP)

    def heal(self) -> None:
        """Lose nothing any more."""
        self._table("-F")

    def slow_down(self, bits: int) -> None:
        """Let so many bits a second pass, in each direction, for good."""
        shape = ("root", "tbf", "rate", str(bits), "burst", "32kbit", "latency", QUEUE)
        self.inside("tc", "qdisc", "add", "dev", "eth0", *shape)
        self._switch.inside("tc", "qdisc", "add", "dev", self._end, *shape)

    def ports(self) -> list[int]:
        """Return the ports of the client's connections to its daemon, those first by which most has come."""
        lines = self.inside("ss", "-HOtni", "state", "established", "sport", f"= :{PORT}").splitlines()
        found = {int(line.split()[3].rpartition(":")[2]): _received(line) for line in lines}
        return sorted(found, key=lambda port: -found[port])


def _received(line: str) -> int:
    match = re.search(r"bytes_received:(\d+)", line)
    return int(match[1]) if match else 0


def _client() -> Client:
    from skyward.transport.keys import Client

    return Client(client_pair().public, "test")
