"""A node as a service: its systemd unit, what systemd is told, and its end when systemd asks for it."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from skyward_node import cli, unit

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = ["--bind", "tcp://127.0.0.1:0", "--metrics", "0"]


def rendered(*arguments: str) -> configparser.ConfigParser:
    """Return the unit that the command prints."""
    result = CliRunner().invoke(cli.command, ["unit", *arguments])
    assert result.exit_code == 0, result.output
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser documents it
    parser.read_string(result.output)
    return parser


def test_unit_starts_the_node_and_lets_it_drain() -> None:
    """SIGTERM for the daemon alone, and more time than a drain takes; it logs to the journal."""
    service = rendered(*OPTIONS)["Service"]
    command = shlex.split(service["ExecStart"])
    assert command[-len(OPTIONS) - 2 :] == [*OPTIONS, "--log-format", "journal"]
    assert os.path.isabs(command[0])
    assert (service["Type"], service["KillMode"], service["KillSignal"]) == ("notify", "mixed", "SIGTERM")
    assert int(service["TimeoutStopSec"]) > 30
    assert service["Restart"] == "on-failure"


def test_unit_of_the_system_runs_as_a_user() -> None:
    """It starts with the machine, and may not become anybody else."""
    made = rendered("--user", "skyward", *OPTIONS)
    assert made["Service"]["User"] == "skyward"
    assert made["Service"]["NoNewPrivileges"] == "yes"
    assert made["Install"]["WantedBy"] == "multi-user.target"
    assert rendered(*OPTIONS)["Install"]["WantedBy"] == "default.target"
    assert "User" not in rendered(*OPTIONS)["Service"]


def test_unit_leaves_a_log_of_ones_own_alone() -> None:
    """Whoever says how or where the node logs means it."""
    for more in (["--log-format", "json"], ["--log-file", "/var/log/x"]):
        assert rendered(*OPTIONS, *more)["Service"]["ExecStart"].endswith(" ".join(more))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["--bogus"], "No such option"), (["--concurrency", "2"], "say where to listen"), ([], "Missing argument"),
     (["--bind", "tcp://h:1", "--lease", "x"], "not a valid float")],
)  # fmt: skip
def test_unit_takes_only_what_a_node_takes(arguments: list[str], complaint: str) -> None:
    """A mistake is told now, not by systemd."""
    result = CliRunner().invoke(cli.command, ["unit", *arguments])
    assert result.exit_code == 2
    assert complaint in result.output


@pytest.mark.parametrize(
    ("word", "expected"),
    [("a-b", "a-b"), ("a b", '"a b"'), ('a"b', '"a\\"b"'), ("50%", '"50%%"'), ("$HOME", '"$$HOME"'), ("", '""')],
)
def test_words_are_quoted_as_systemd_reads_them(word: str, expected: str) -> None:
    """It has specifiers and variables of its own."""
    assert unit.quoted(word) == expected


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here that could read it")
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """Without a warning."""
    path = tmp_path / "skyward-node.service"
    path.write_text(CliRunner().invoke(cli.command, ["unit", *OPTIONS]).output)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert "skyward-node.service" not in done.stderr


def test_systemd_is_told_and_the_node_drains(short_path: Path) -> None:
    """READY when it serves, STOPPING at SIGTERM, and exit code 0."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(str(short_path / "notify"))
        manager.settimeout(30)
        log = short_path / "log"
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NOTIFY_SOCKET": str(short_path / "notify")}
        keys = ["--keys", str(short_path / "keys"), "--log-format", "json", "--log-file", str(log)]
        with subprocess.Popen(
            [sys.executable, "-m", "skyward_node", *OPTIONS, *keys], env=env, start_new_session=True
        ) as node:
            assert manager.recv(4096).startswith(b"READY=1\nSTATUS=serving at tcp://127.0.0.1:")
            node.send_signal(signal.SIGTERM)
            assert manager.recv(4096) == b"STOPPING=1\nSTATUS=draining"
            assert node.wait(30) == 0
        events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
        assert events[0] == "serving"
        assert "draining" in events


def test_abstract_socket_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a socket that is gone is no error; afterwards the environment does not have it."""
    from skyward_node import notify

    name = f"skyward-test-{os.getpid()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        monkeypatch.setattr(notify, "_address", "")
        notify.take_over()
        assert "NOTIFY_SOCKET" not in os.environ
        notify.tell(notify.READY, "fine")
        assert manager.recv(100) == b"READY=1\nSTATUS=fine"
    notify.tell(notify.READY, "nobody")


def test_log_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    """On the terminal of whoever has started it."""
    done = subprocess.run(
        [sys.executable, "-m", "skyward_node", *OPTIONS, "--log-file", str(tmp_path / "no" / "log")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"cannot log to {tmp_path}/no/log: No such file or directory" in done.stderr


def test_failure_is_told_where_the_log_goes_elsewhere(tmp_path: Path) -> None:
    """Whoever starts a node by hand sees why it does not serve, not only in its file."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "skyward_node", "--bind", "tcp://127.0.0.1:0", "--metrics", str(port), "--keys",
             str(tmp_path / "keys"), "--log-file", str(tmp_path / "log")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert f"cannot serve metrics at 127.0.0.1:{port}: Address already in use" in done.stderr
