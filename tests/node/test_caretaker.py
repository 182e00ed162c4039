"""What looks after the end of a machine: beside a daemon, in a process of its own."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from skyward_node import caretaker
from skyward_node.caretaker import MOST, Log, Metadata, connections, keep
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

TOKEN = "t0ken"  # noqa: S105 - of a service that was made up


class Service(http.server.ThreadingHTTPServer):
    """A metadata service, version 2."""

    action = ""
    stale = False  # it forgets the token that it gave
    asked = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.host = f"127.0.0.1:{self.server_address[1]}"


class Asked(http.server.BaseHTTPRequestHandler):
    """A question that it was asked."""

    def do_PUT(self) -> None:
        """Give out the token."""
        self.say(200, TOKEN)

    def do_GET(self) -> None:
        """Answer, if the token is right."""
        service = self.server
        assert isinstance(service, Service)
        service.asked += 1
        if self.headers["X-aws-ec2-metadata-token"] != TOKEN or service.stale:
            service.stale = False
            self.say(401, "")
        elif service.action and self.path == "/latest/meta-data/spot/instance-action":
            self.say(200, service.action)
        else:
            self.say(404, "")

    def say(self, status: int, text: str) -> None:
        """Answer with a text."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    """Yield a metadata service that runs."""
    with serving(Service()) as made:
        yield made


@pytest.fixture
def timer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file in which a played shutdown writes what it was asked."""
    command = tmp_path / "shutdown"
    command.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "asked"


@pytest.fixture
def daemon() -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that says when it was asked to drain, and ends when its stdin does."""
    code = "import signal, sys; signal.signal(15, lambda *_: print('drains', flush=True)); print(flush=True)"
    code += "; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def kept(pid: int, port: int, service: Service | None, every: float = 60.0) -> threading.Thread:
    """Return a thread that keeps a daemon."""
    metadata = Metadata(service.host if service else "127.0.0.1:1")
    arguments = {"metadata": metadata, "log": Log("/nowhere"), "poll": 0.01, "every": every}
    thread = threading.Thread(target=keep, args=[pid, port, 1440], kwargs=arguments)
    thread.start()
    return thread


def line(process: subprocess.Popen[bytes]) -> bytes:
    """Return the next line that a process says."""
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.rule("F50")
def test_notice_drains_the_daemon(service: Service, timer: Path, daemon: subprocess.Popen[bytes]) -> None:
    """A machine that is about to be taken away has its daemon hand back its work, once."""
    thread = kept(daemon.pid, 1, service)
    service.action = json.dumps({"action": "terminate", "time": "2030-01-01T00:00:00Z"})
    assert line(daemon) == b"drains\n"
    assert daemon.stdin is not None
    daemon.stdin.close()
    thread.join()


@pytest.mark.parametrize("action", ['{"action": "dance"}', "{}", "[]", "nonsense"])
def test_nonsense_is_no_notice(service: Service, action: str) -> None:
    """What is not understood ends nothing."""
    service.action = action
    assert Metadata(service.host).notice() == ""


def test_token_that_is_too_old_is_renewed(service: Service) -> None:
    """A token lives for six hours, a node may live longer."""
    metadata = Metadata(service.host)
    assert metadata.notice() == ""
    service.stale = True
    service.action = '{"action": "stop"}'
    assert metadata.notice() == "stop"


def test_machine_without_the_service_is_left_alone() -> None:
    """Where nobody answers there is no notice."""
    assert Metadata("127.0.0.1:1").notice() == ""


def test_connections_are_counted() -> None:
    """Those that stand to the port, seen from the machine: not others, and not those that have ended."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert connections(port) == 0
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            assert connections(port) == 1
        assert connections(port) == 0


def test_timer_is_pushed_out_only_while_a_client_is_there(timer: Path, daemon: subprocess.Popen[bytes]) -> None:
    """A busy pool never meets the timer; a machine that everybody has forgotten does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            thread = kept(daemon.pid, port, None, every=0.0)
            while not timer.exists() or timer.read_text().count("-h +1440") < 3:
                pass
        assert daemon.stdin is not None
        daemon.stdin.close()
        thread.join()
    alone = subprocess.Popen(["sleep", "60"])
    timer.unlink()
    thread = kept(alone.pid, port, None, every=0.0)
    while not timer.exists():
        pass
    thread.join(0.3)
    alone.kill()
    alone.wait()
    thread.join()
    assert timer.read_text().count("-h +1440") == 1  # that at the beginning


def test_it_ends_with_the_daemon(timer: Path) -> None:
    """Whoever started it then shuts the machine down; a daemon that is gone already is no exception."""
    with subprocess.Popen(["sleep", "60"]) as process:
        command = [sys.executable, "-m", "skyward_node.caretaker", "--port", "1", "--life", "1440"]
        ready = json.dumps({"ready": {"pid": process.pid}}).encode()
        places = str(Path(caretaker.__file__).parents[1])
        keeper = subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | {"PYTHONPATH": places})
        assert keeper.stdin is not None
        keeper.stdin.write(ready)
        keeper.stdin.close()
        while not timer.exists():
            pass
        process.send_signal(signal.SIGKILL)
        assert keeper.wait(20) == 0
    keep(process.pid, 1, 1440, metadata=Metadata(), log=Log("/nowhere"))


class Bucket(http.server.ThreadingHTTPServer):
    """What takes in a log, under any link."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taken)
        self.link = f"http://127.0.0.1:{self.server_address[1]}/log?signature=x"
        self.status = 200
        self.got: list[str] = []


class Taken(Asked):
    """A log that is sent."""

    def do_PUT(self) -> None:
        """Take it in."""
        bucket = self.server
        assert isinstance(bucket, Bucket)
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if bucket.status == 200:
            bucket.got.append(text)
        self.say(bucket.status, "")


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    """Yield what takes in a log."""
    with serving(Bucket()) as made:
        yield made


@contextmanager
def machine_log(place: Path) -> Generator[Path]:
    """Make a file our stdout, and its directory ours, as the boot script does."""
    file = place / "machine.log"
    before = os.getcwd()
    os.chdir(place)
    try:
        with file.open("w") as stdout, redirect_stdout(stdout):
            stdout.write("set up\n")
            stdout.flush()
            yield file
    finally:
        os.chdir(before)


@pytest.mark.rule("R30")
def test_log_is_handed_on_while_it_grows(tmp_path: Path, bucket: Bucket) -> None:
    """Whole lines, behind those of the set-up; nothing if nothing is new; what could not be sent goes with the next."""
    node = tmp_path / "log"
    node.write_text("one\ntw")
    with machine_log(tmp_path) as machine:
        log = Log(str(tmp_path), str(machine), bucket.link)
        log.hand_on()
        log.hand_on()
        assert bucket.got == ["set up\none\n"]
        bucket.status = 503
        with node.open("a") as file:
            file.write("o\nthree\n")
        log.hand_on()
        bucket.status = 200
        log.hand_on()
        assert bucket.got[1:] == ["set up\none\ntwo\nthree\n"]
        with node.open("a") as file:
            file.write("last words")
        node.unlink()
        log.close()
    assert machine.read_text() == "set up\none\ntwo\nthree\nlast words"


def test_flood_of_lines_is_cut(tmp_path: Path, bucket: Bucket) -> None:
    """The end of it counts, and it is said that lines are missing."""
    (tmp_path / "log").write_text("x" * MOST + "\n" + "end\n")
    with machine_log(tmp_path) as machine:
        log = Log(str(tmp_path), str(machine), bucket.link)
        log.hand_on()
        log.close()
    [got] = bucket.got
    assert len(got) == MOST
    assert got.endswith("x\nend\n")
    assert "set up\nskyward: lines of the node are missing here\n" in machine.read_text()


def test_log_that_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    """Nor one that cannot be sent: what looks after a machine goes on."""
    with machine_log(tmp_path) as machine:
        log = Log(str(tmp_path), str(tmp_path / "nowhere"), "http://127.0.0.1:1/")
        log.hand_on()
        log = Log(str(tmp_path), str(machine), "http://127.0.0.1:1/")
        log.hand_on()
        log.close()
    assert machine.read_text() == "set up\n" + 2 * "skyward: the node has no log\n"


def test_log_stays_where_nobody_asks_for_it(tmp_path: Path) -> None:
    """Without a link, and without a log."""
    (tmp_path / "log").write_text("one\n")
    with machine_log(tmp_path) as machine:
        for node in (str(tmp_path), "/nowhere"):
            log = Log(node, str(machine))
            log.hand_on()
            log.close()
    assert machine.read_text() == "set up\none\nskyward: the node has no log\n"
