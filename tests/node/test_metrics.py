"""Health and metrics of a daemon, over HTTP, from its own loop."""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import select
import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from skyward.errors import ConfigError
from skyward_node import metrics as module
from skyward_node.core import Core, Identity, Limits, standing
from skyward_node.http import LONGEST, Request
from skyward_node.metrics import Metrics, answer, family_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.node.conftest import Client, Daemon


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    """Return what answers for a core that nobody drives."""
    core = Core(Limits(2, False, True, 30.0, 1_000), Identity(1, "3.11.7", {}, "host", "", 1, []), time.monotonic())
    made = Metrics(0, core, {"host": "h"})
    yield made
    made.close()


def connect(metrics: Metrics) -> socket.socket:
    """Return a connection."""
    return socket.create_connection(("127.0.0.1", metrics.port), timeout=10)


def ask(metrics: Metrics, data: bytes) -> bytes:
    """Return what is said to some bytes."""
    with connect(metrics) as link:
        link.sendall(data)
        return hear(metrics, link)


def hear(metrics: Metrics, link: socket.socket) -> bytes:
    """Return all that is said over a connection, with the loop turning."""
    link.setblocking(False)
    said = b""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        turn(metrics)
        try:
            data = link.recv(65_536)
        except BlockingIOError:
            continue
        except ConnectionResetError:
            return said
        if not data:
            return said
        said += data
    raise AssertionError("the connection does not end")


def turn(metrics: Metrics, now: float | None = None) -> None:
    """Do what a turn of the daemon's loop does."""
    moment = time.monotonic() if now is None else now
    metrics.look(moment)
    metrics.serve(moment)


def test_metrics_are_what_prometheus_reads(metrics: Metrics) -> None:
    """The exposition format, and its content type."""
    said = ask(metrics, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").decode()
    assert said.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
    assert "\nskyward_slots 2\n" in said
    assert 'skyward_info{host="h"} 1' in said


def test_health_says_whether_it_takes_tasks(metrics: Metrics) -> None:
    """200 while it serves, 503 when it drains."""
    assert ask(metrics, b"GET /health HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\nserving\n")
    metrics._core.node.draining = True
    said = ask(metrics, b"GET /health HTTP/1.1\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 503 ")
    assert said.endswith(b"draining\n")


def test_other_questions_are_refused(metrics: Metrics) -> None:
    """Other places, other methods, and nonsense."""
    stands = metrics._stands
    assert [answer(Request("GET", path), stands, {}).status for path in ("/", "/x", "/metrics/")] == [200, 404, 404]
    assert [answer(Request(method, "/metrics"), stands, {}).status for method in ("HEAD", "POST")] == [200, 405]
    assert ask(metrics, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert ask(metrics, b"GET /" + b"x" * LONGEST).startswith(b"HTTP/1.1 431 ")


def test_request_may_come_in_pieces(metrics: Metrics) -> None:
    """A byte at a time, between which the loop does other things."""
    with connect(metrics) as link:
        for byte in b"GET /health HTTP/1.1\r\n\r\n":
            link.sendall(bytes([byte]))
            turn(metrics)
        assert hear(metrics, link).endswith(b"serving\n")


def test_who_says_nothing_is_hung_up_on(metrics: Metrics) -> None:
    """After two seconds; and at once whoever hangs up himself."""
    with connect(metrics) as silent, connect(metrics) as leaving:
        while len(metrics._askers) < 2:
            turn(metrics)
        leaving.close()
        while len(metrics._askers) == 2:
            turn(metrics)
        turn(metrics, time.monotonic() + module.PATIENCE + 1)
        assert metrics._askers == {}
        assert silent.recv(1) == b""


def test_askers_are_bounded(metrics: Metrics) -> None:
    """Those that are too many wait to be accepted, and are served when others have gone."""
    links: list[socket.socket] = []
    try:
        for _ in range(module.MOST + 4):
            links.append(connect(metrics))
            turn(metrics)
        assert len(metrics._askers) == module.MOST
        turn(metrics, time.monotonic() + module.PATIENCE + 1)
        links[-1].sendall(b"GET /health HTTP/1.1\r\n\r\n")
        assert hear(metrics, links[-1]).endswith(b"serving\n")
    finally:
        for link in links:
            link.close()


def test_connection_for_which_there_is_no_descriptor_waits(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not keep the loop awake, and is served when there is one again."""

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(listener, name)

        def accept(self) -> Any:
            raise OSError(errno.EMFILE, "too many open files")

    listener = metrics._listener
    with connect(metrics) as link:
        monkeypatch.setattr(metrics, "_listener", Refusing())
        metrics.serve(time.monotonic())
        assert not select.select([metrics], [], [], 0)[0]
        monkeypatch.setattr(metrics, "_listener", listener)
        link.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        assert hear(metrics, link).endswith(b"serving\n")


def test_reader_that_does_not_read_holds_nobody_up(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not take waits for it, and its time runs."""
    monkeypatch.setattr(standing, "exposition", lambda *_: "x" * 2**24)
    with connect(metrics) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        while not any(asker.answer for asker in metrics._askers.values()):
            turn(metrics)
        began = time.monotonic()
        assert ask(metrics, b"GET /health HTTP/1.1\r\n\r\n").endswith(b"serving\n")
        assert time.monotonic() - began < 10
        assert len(hear(metrics, slow)) > 2**24


def test_port_that_is_taken_is_told(metrics: Metrics) -> None:
    """By its number, before the node serves."""
    with pytest.raises(ConfigError, match=f"cannot serve metrics at 127.0.0.1:{metrics.port}: Address already in use"):
        Metrics(metrics.port, metrics._core, {})


def test_memory_is_that_of_the_whole_family() -> None:
    """At least our own, and that of a child as well."""
    own = module.resident(os.getpid())
    assert own > 2**20
    assert family_memory() >= own / 2
    assert module.resident(2**30) == 0


def test_port_is_of_the_loopback_interface_alone(metrics: Metrics) -> None:
    """Nobody from elsewhere can ask."""
    assert metrics._listener.getsockname()[0] == "127.0.0.1"


def get(port: int, path: str) -> tuple[int, str]:
    """Ask a daemon."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as link:
        link.request("GET", path)
        response = link.getresponse()
        return response.status, response.read().decode()


def value(text: str, name: str) -> float:
    """Return the value of a metric."""
    [found] = re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(found)


def test_daemon_answers_while_its_tasks_run(serve: Callable[..., tuple[Daemon, Client]], directory: Path) -> None:
    """A task that runs is seen, and counted when it is done."""
    daemon, client = serve(metrics=0)
    port = json.loads(daemon.line)["metrics"]
    assert get(port, "/health") == (200, "serving\n")
    task = client.submit(wait_for_file, str(directory / "go"))
    while value(get(port, "/metrics")[1], "skyward_tasks_running") < 1:
        pass
    (directory / "go").touch()
    assert client.value(task) == 7
    text = get(port, "/metrics")[1]
    assert value(text, "skyward_tasks_done_total") == 1
    assert value(text, "skyward_sessions") == 1
    assert value(text, "skyward_memory_bytes") > 2**24


def wait_for_file(path: str) -> int:
    """Return when the file is there."""
    while not os.path.exists(path):
        time.sleep(0.002)
    return 7
