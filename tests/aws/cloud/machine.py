"""A machine that runs an instance's user data: a process tree with pids, mounts, a network and a disk of its own.

Its disk is this machine's, copied on write; its network reaches nothing but S3 and the metadata service; the commands
``shutdown`` and ``apt-get`` are played, and say in files what they were asked. ``DIRECTORY/ID/`` has them:

    userdata        what it runs
    log/            /var/log
    console         /dev/console
    shutdown.log    each call of shutdown, with the time
    apt.log         each call of apt-get
    notice          write it, and the metadata service gives notice
    minute          how many seconds a minute of shutdown's timer takes; 60 if it is not there, nor in DIRECTORY
    why             what has ended it: "now", or the "timer"
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from tests.aws.cloud.namespaces import Metadata, Relay
from tests.leaks import MARK

if TYPE_CHECKING:
    from pathlib import Path

# As cloud-init has it; and where this Python is, which a real image has among the others.
PATH = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{sys.base_prefix}/bin"

INIT = r"""
set -e
read -r address gateway cache
box=$1
mount -t tmpfs -o size=2g tmpfs "$box/disk"
mkdir "$box/disk/up" "$box/disk/work" "$box/disk/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$box/disk/up,workdir=$box/disk/work" "$box/disk/root"
root=$box/disk/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"
mount --bind "$box/console" "$root/dev/console"
mkdir -p "$root/fake" "$root/usr/local/sbin" "$root/var/log" "$root/var/cache/skyward"
mount --bind "$box/log" "$root/var/log"
if [ "$cache" != none ]; then mount --bind "$cache" "$root/var/cache/skyward"; fi
mount --bind "$box" "$root/fake"
cp "$box/shutdown" "$box/apt-get" "$root/usr/local/sbin/"
ip link set lo up
ip address add 169.254.169.254/32 dev lo
ip address add "$address/30" dev eth0
ip link set eth0 up
mount -t tmpfs tmpfs "$root/tmp"
echo up
read -r go
cd /
chroot "$root" /bin/sh -c '
    cd /
    umask 022
    rm -rf /etc/ssh/ssh_host_* /root/.ssh && mkdir -p /run/sshd
    ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
    setsid /usr/sbin/sshd -e -f /dev/null -o HostKey=/etc/ssh/ssh_host_ed25519_key \
        -o PermitRootLogin=forced-commands-only -o PasswordAuthentication=no -o PidFile=none \
        </dev/null >/fake/sshd.log 2>&1
    setsid sh /fake/userdata </dev/null >/fake/cloud-init.log 2>&1 &
    read -r word </fake/power
'
"""

SHUTDOWN = r"""#!/bin/sh
echo "$(date +%s.%N) $*" >> /fake/shutdown.log
off() { echo "$1" > /fake/why; echo off > /fake/power; }
if [ -e /fake/timer ]; then kill "$(cat /fake/timer)" 2>/dev/null; rm -f /fake/timer; fi
case "$2" in
    now) off now & ;;
    +*)
        minute=60; if [ -e /fake/minute ]; then minute=$(cat /fake/minute); fi
        seconds=$(awk "BEGIN { print ${2#+} * $minute }")
        setsid sh -c "echo \$\$ > /fake/timer; sleep $seconds; echo timer > /fake/why; echo off > /fake/power" \
            </dev/null >/dev/null 2>&1 & ;;
esac
"""

APT = r"""#!/bin/sh
echo "$*" >> /fake/apt.log
for each in "$@"; do
    case $each in no-such-*) echo "E: Unable to locate package $each" >&2; exit 100 ;; esac
done
"""


class Machine:
    """One machine, which runs until `stop`, or until it shuts itself down."""

    def __init__(self, box: Path, user_data: bytes, address: str, gateway: str, s3_port: int, cache: str) -> None:
        """Start it. ``address`` is its own, ``gateway`` ours at the other end of its one wire."""
        self.box = box
        for name in ("log", "disk"):
            (box / name).mkdir(parents=True)
        if (box.parent / "minute").exists():
            shutil.copy(box.parent / "minute", box / "minute")
        for name, text in (("shutdown", SHUTDOWN), ("apt-get", APT), ("console", "")):
            (box / name).write_text(text)
            (box / name).chmod(0o755)
        (box / "userdata").write_bytes(user_data)
        os.mkfifo(box / "power")
        command = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL"]
        self._process = subprocess.Popen(
            [*command, "sh", "-c", INIT, "init", str(box)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(box / "init.log").open("wb"),
            env={"PATH": PATH, MARK: os.environ.get(MARK, "")},
            start_new_session=True,
        )
        self._relay: Relay | None = None
        self._metadata: Metadata | None = None
        try:
            self._wire(address, gateway)
            self._boot(address, gateway, cache, s3_port)
        except BaseException:
            self.stop()
            raise

    def _wire(self, address: str, gateway: str) -> None:
        own = self._process.pid
        while os.readlink(f"/proc/{own}/ns/net") == os.readlink("/proc/self/ns/net"):
            if self._process.poll() is not None:
                raise OSError((self.box / "init.log").read_text())
        end = f"sky{self._process.pid}"
        _ip("link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", str(own))
        _ip("address", "add", f"{gateway}/30", "dev", end)
        _ip("link", "set", end, "up")

    def _boot(self, address: str, gateway: str, cache: str, s3_port: int) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        # The loopback has to be up before anybody can listen there.
        _tell(stdin, f"{address} {gateway} {cache or 'none'}\n")
        if stdout.readline() != b"up\n":
            raise OSError((self.box / "init.log").read_text())
        facts = {"instance-id": self.box.name, "local-ipv4": address, "public-ipv4": address}
        self._metadata = Metadata(self._process.pid, facts, self.box / "notice")
        self._relay = Relay(self._process.pid, s3_port)
        _tell(stdin, "go\n")

    @property
    def pid(self) -> int:
        """Return the pid of the process that holds its namespaces."""
        return self._process.pid

    def is_off(self) -> bool:
        """Return whether it has shut itself down, or was stopped."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """End everything on it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        if self._relay is not None:
            self._relay.close()
        if self._metadata is not None:
            self._metadata.shutdown()
            self._metadata.server_close()
        shutil.rmtree(self.box / "disk", ignore_errors=True)


def _tell(pipe: IO[bytes], line: str) -> None:
    pipe.write(line.encode())
    pipe.flush()


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
