"""Beside a daemon on a machine of a cloud: looks after the machine's end.

- When the daemon has ended, so does this, and the boot script shuts the machine down.
- While clients are connected the timer that ends the machine is pushed out: a busy pool never meets it.
- Every five seconds it asks the metadata service whether the machine is about to be taken away. If so, the daemon
  gets SIGTERM: it hands back what it has not begun, and finishes what it can.
- As often it hands on what the daemon has logged: to stdout, which is the machine's log, and the end of that to S3.

    python -m skyward_node.caretaker --port PORT --life MINUTES [--log LOG --link LINK] < READY

where READY is the daemon's line with its pid and its directory, LOG the machine's log, and LINK a file with a link by
which that may be written. Only the standard library is imported, and Python 3.9 will do: it runs
in whatever the machine has.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

METADATA = "169.254.169.254"
POLL = 5.0  # seconds between looks for a notice, as AWS recommends: it comes two minutes ahead
PUSH = 60.0  # seconds between pushes of the timer, which counts in minutes
PATIENCE = 2.0  # seconds the metadata service, which is on the host, may take
TOKEN_LIFE = 21_600  # seconds, the longest
SENDING = 5  # seconds to send a log; what comes later goes with the next
MOST = 65_536  # bytes of a log that are handed on at a time: its end counts
ESTABLISHED = "01"  # in /proc/net/tcp; see tcp_states.h
ENDINGS = ("terminate", "stop", "hibernate")  # what a notice can announce


class Metadata:
    """The metadata service, version 2: each question carries a token."""

    def __init__(self, host: str = METADATA) -> None:
        self._host = host
        self._token = ""

    def notice(self) -> str:
        """Return what is about to happen to the machine; "" if nothing is, or nobody knows."""
        try:
            status, body = self._ask("GET", "/latest/meta-data/spot/instance-action")
            if status == 401:  # the token is too old
                self._token = ""
                status, body = self._ask("GET", "/latest/meta-data/spot/instance-action")
            action = str(json.loads(body)["action"]) if status == 200 else ""
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
            return ""
        return action if action in ENDINGS else ""

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        if not self._token:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_LIFE)}
            self._token = self._call("PUT", "/latest/api/token", headers)[1].decode("ascii")
        return self._call(method, path, {"X-aws-ec2-metadata-token": self._token})

    def _call(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host, timeout=PATIENCE)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(4096)
        finally:
            connection.close()


class Log:
    """Hands on what a daemon logs."""

    def __init__(self, node: str, machine: str = "", link: str = "") -> None:
        """``node``: the daemon's directory. ``machine``: the file that is stdout. ``link``: where it is sent, or ""."""
        self._machine = machine
        self._link = link
        self._seen = 0  # bytes of the daemon's log
        self._sent = -1  # the machine's log had so many bytes when it was sent
        self._file = -1
        try:
            self._file = os.open(os.path.join(node, "log"), os.O_RDONLY)  # can be read when the directory is gone, too
        except OSError:
            print("skyward: the node has no log", flush=True)  # noqa: T201 - the log

    def hand_on(self) -> None:
        """Hand on the whole lines that have come since the last time. A full disk is no reason to end the machine."""
        with suppress(OSError):
            self._copy(whole=True)
            self._send()

    def close(self) -> None:
        """Hand on the rest to the machine's log, which is sent when the machine ends."""
        with suppress(OSError):
            self._copy(whole=False)
        if self._file >= 0:
            os.close(self._file)

    def _copy(self, *, whole: bool) -> None:
        if self._file < 0:
            return
        end = os.fstat(self._file).st_size
        if end - self._seen > MOST:
            print("skyward: lines of the node are missing here", flush=True)  # noqa: T201 - the log
            self._seen = end - MOST
        data = os.pread(self._file, MOST, self._seen)
        data = data[: data.rfind(b"\n") + 1] if whole else data
        self._seen += len(data)
        sys.stdout.buffer.write(data)
        sys.stdout.flush()

    def _send(self) -> None:
        """Send the end of the machine's log, if it has grown."""
        size = os.path.getsize(self._machine) if self._link else self._sent
        if size == self._sent:
            return
        with open(self._machine, "rb") as file, open("log.end", "wb") as end:
            file.seek(max(0, size - MOST))
            end.write(file.read(MOST))
        command = ["curl", "-fsS", "--max-time", str(SENDING), "-X", "PUT", "--upload-file", "log.end", self._link]
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._sent = size if done.returncode == 0 else self._sent


def connections(port: int, tables: tuple[str, ...] = ("/proc/net/tcp", "/proc/net/tcp6")) -> int:
    """Return how many connections to a port of this machine stand."""
    count = 0
    for table in tables:
        try:
            with open(table, encoding="utf-8") as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        count += sum(row[3] == ESTABLISHED and int(row[1].rpartition(":")[2], 16) == port for row in rows)
    return count


def push(minutes: int) -> None:
    """Set the machine's timer anew."""
    subprocess.run(["shutdown", "-h", f"+{minutes}", "skyward: no client has been here for long"], check=False)  # noqa: S607 - where it is differs between systems


def keep(
    pid: int, port: int, life: int, *, metadata: Metadata, log: Log, poll: float = POLL, every: float = PUSH
) -> None:  # fmt: skip
    """Return when the daemon has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    push(life)  # it serves: what counts from now on is not how long it takes to boot
    log.hand_on()
    pushed = time.monotonic()
    told = False
    while not poller.poll(poll * 1000):
        log.hand_on()
        if not told and (action := metadata.notice()):
            told = True
            print(f"skyward: this machine is about to {action}: draining", flush=True)  # noqa: T201 - the log
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if time.monotonic() - pushed >= every and connections(port):
            push(life)
            pushed = time.monotonic()
    os.close(pidfd)


def main(arguments: list[str]) -> int:
    """Keep until the daemon ends; return the exit code."""
    values = dict(zip(arguments[::2], arguments[1::2]))  # noqa: B905 - Python 3.9 does not know strict=
    ready = json.loads(sys.stdin.readlines()[-1])
    said = ready.get("ready", ready)
    link = ""
    if "--link" in values:
        with open(values["--link"], encoding="utf-8") as file:
            link = file.read()
    log = Log(str(said.get("node", "")), values.get("--log", ""), link)
    keep(int(said["pid"]), int(values["--port"]), int(values["--life"]), metadata=Metadata(), log=log)
    log.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
