"""Hosts with real SSH servers on this machine: each a network, mount and process namespace of its own.

A host has an address that only a veth pair leads to, and no other route: it reaches no package index. Its home, its
temporary directory and ``/etc/ssh`` are its own. What runs on it can be seen, and its files read, from here: by the
process that is its first.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

PACKAGES: Final = {
    "sshd": "openssh-server",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "setpriv": "util-linux",
}  # by command
PATIENCE: Final = 20.0  # seconds for what should take milliseconds
PAUSE: Final = 0.01  # seconds between looks: there is no event for what happens in another namespace

SSHD_CONFIG: Final = """\
Port 22
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
PidFile none
MaxStartups 100
{more}
"""

# Becomes the SSH server, which is the first process of its namespace and buries what others leave.
INIT: Final = """\
set -e
mount --make-rprivate /
cp -r {files} /run/seed 2>/dev/null || true
mount -t tmpfs tmpfs /root
mount -t tmpfs tmpfs /etc/ssh
cp {files}/* /etc/ssh/
chmod 600 /etc/ssh/host_key
mount -t tmpfs tmpfs /run
mkdir -p -m 755 /run/sshd
mount -t tmpfs tmpfs /tmp
mount -t proc proc /proc
ip link set lo up
read -r go
exec {launcher} /usr/sbin/sshd -D -e -f /etc/ssh/sshd_config
"""


def run(*command: str) -> str:
    """Run a command that has to succeed; return what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def make_key(path: Path) -> str:
    """Make a pair of SSH keys, and return the public one."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))
    return path.with_name(f"{path.name}.pub").read_text(encoding="ascii").strip()


class Machine:
    """One host. ``launcher`` is put before its SSH server, ``more`` is added to its configuration."""

    def __init__(self, place: Path, number: int, user_key: str, *, launcher: str = "", more: str = "") -> None:
        self.name = f"m{os.getpid() % 100_000}x{number}"
        self.address, self._near = f"10.{subnet()}.{number}.2", f"10.{subnet()}.{number}.1"
        files = place / self.name
        files.mkdir()
        self.host_key = make_key(files / "host_key")
        (files / "authorized_keys").write_text(f"{user_key}\n", encoding="ascii")
        (files / "sshd_config").write_text(SSHD_CONFIG.format(more=more), encoding="ascii")
        self.log = place / f"{self.name}.log"
        command = ["setpriv", "--pdeathsig", "KILL"]  # a run that is killed leaves no host whose address others take
        command += ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "sh", "-c"]
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                [*command, INIT.format(files=files, launcher=launcher)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )
        self.first = self._first()
        self._join()
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.close()
        self._await_server()

    def _first(self) -> int:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for pid in _children(self._process.pid):
                # Only then has it become another process than ours in all respects.
                if os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net"):
                    return pid
            time.sleep(PAUSE)
        raise AssertionError(self.log.read_text())

    def _join(self) -> None:
        near = self.name
        run("ip", "link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", str(self.first))
        run("ip", "address", "add", f"{self._near}/30", "dev", near)
        run("ip", "link", "set", near, "up")
        self.inside("ip", "address", "add", f"{self.address}/30", "dev", "eth0")
        self.inside("ip", "link", "set", "eth0", "up")

    def _await_server(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection((self.address, 22), 1.0).close()
            except OSError:
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(PAUSE)
            else:
                return

    def admit_only(self, port: int) -> None:
        """Be silent at all other ports of TCP, as behind a firewall: answers from these lead nowhere."""
        self.inside("ip", "rule", "add", "pref", "100", "ipproto", "tcp", "sport", str(port), "lookup", "main")
        self.inside("ip", "rule", "add", "pref", "200", "ipproto", "tcp", "to", self._near, "blackhole")

    def inside(self, *command: str) -> str:
        """Run a command there; return what it prints."""
        return run("nsenter", "--target", str(self.first), "--net", "--mount", "--pid", *command)

    def path(self, path: str) -> Path:
        """Return where a file of it is seen from here."""
        return Path(f"/proc/{self.first}/root{path}")

    def processes(self) -> dict[int, str]:
        """Return what runs there beside the SSH server and its connections: commands, by their numbers here."""
        mine = os.readlink(f"/proc/{self.first}/ns/pid")
        found: dict[int, str] = {}
        for name in os.listdir("/proc"):
            with suppress(OSError):
                if name.isdigit() and int(name) != self.first and os.readlink(f"/proc/{name}/ns/pid") == mine:
                    command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if command:  # else it is dead, and not buried yet
                        found[int(name)] = command.strip()
        return found

    def received(self) -> int:
        """Return how many bytes have been sent to it."""
        return int(Path(f"/sys/class/net/{self.name}/statistics/tx_bytes").read_text(encoding="ascii"))

    def connections(self) -> list[int]:
        """Return the processes that serve connections, by their numbers here."""
        return [pid for pid, command in self.processes().items() if command.startswith("sshd: root")]

    def leftovers(self) -> list[str]:
        """Return what should not be there when no pool is open."""
        nodes = [str(path) for path in self.path("/tmp").glob("skyward-*/node-*")]
        return [*self.processes().values(), *nodes]

    def number_here(self, pid: int) -> int:
        """Return the number here of a process there."""
        for found in self.processes():
            status = Path(f"/proc/{found}/status").read_text(encoding="ascii", errors="replace")
            numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
            if numbers[-1] == str(pid):
                return found
        raise AssertionError(f"{self.name} has no process {pid}: {self.processes()}")

    def clear(self) -> None:
        """End all that runs there but the server, and remove what nodes have left."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for path in self.path("/tmp").glob("skyward-*"):
            shutil.rmtree(path, ignore_errors=True)

    def wipe(self) -> None:
        """Remove what skyward has left there for the next pool."""
        shutil.rmtree(self.path("/root/.cache"), ignore_errors=True)

    def close(self) -> None:
        """End it, and all that runs there."""
        with suppress(ProcessLookupError):
            os.kill(self.first, signal.SIGKILL)
        self._process.wait(PATIENCE)


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(number) for number in file.read().split()]


_held: list[int] = []


def subnet() -> int:
    """Return the second number of the addresses of this process's hosts: no other process of this machine has it."""
    if not _held:
        for number in range(200, 255):
            fd = os.open(f"/tmp/.skyward-subnet-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                continue
            if f" 10.{number}." in run("ip", "-o", "address"):  # somebody has it who does not see this file
                os.close(fd)
                continue
            _held.extend([number, fd])
            break
    return _held[0]
