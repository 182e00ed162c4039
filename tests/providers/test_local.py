"""Nodes on this machine, with real daemons."""

from __future__ import annotations

import os
import pickle
import re
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import skyward.providers.daemon as daemons
from skyward.errors import ConfigError, ProvisionError
from skyward.machine.cpus import usable_cpus
from skyward.model import Nodes
from skyward.providers.base import Launched, LaunchSpec
from skyward.providers.local import Local, Surroundings, free_seat

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward.model import NodeConfig

PATIENCE = 20.0  # seconds for what should take milliseconds
ORPHANED = 10.0  # seconds in which local daemons are gone after their client: two, on a machine that is idle
CLIENT = """
import sys, threading
from skyward.providers.base import LaunchSpec
from skyward.providers.local import Local
provider = Local()
provider.prepare()
for index in range(2):
    print(provider.launch(LaunchSpec(), index, threading.Event()).pid, flush=True)
sys.stdin.read()
"""


def launch(provider: Local, index: int = 0, **spec: Any) -> Launched:
    """Start a node."""
    return provider.launch(LaunchSpec(**spec), index, threading.Event())


def environ_of(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def place_of(launched: Launched) -> Path:
    """Return the path of a node's socket."""
    return Path(launched.endpoint.removeprefix("ipc://"))


@pytest.mark.rule("R31")
def test_daemon_is_a_child_whose_argv_names_it(provider: Local) -> None:
    """``ps`` shows skyward-node, and nothing of its configuration but a descriptor."""
    launched = launch(provider)
    assert launched.pid is not None
    argv = Path(f"/proc/{launched.pid}/cmdline").read_text().rstrip("\0").split("\0")
    assert argv[-3:-1] == ["skyward-node", "--nursery-fd"]
    assert launched.pid in daemons.children(os.getpid())


@pytest.mark.rule("R52")
def test_daemon_has_a_session_and_an_input_of_its_own(provider: Local) -> None:
    """Ctrl-C at the terminal does not reach it, nor does what is typed."""
    pid = launch(provider).pid
    assert pid is not None
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"


@pytest.mark.rule("R42")
def test_socket_is_in_a_private_directory(provider: Local) -> None:
    """Only the user who opened the pool can connect."""
    path = place_of(launch(provider))
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.rule("R31")
def test_default_is_a_node_per_cpu_up_to_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that does not say how many nodes it has gets one per usable CPU."""
    assert Local().default_nodes().desired == min(8, usable_cpus())
    monkeypatch.setattr("skyward.providers.local.usable_cpus", lambda: 64)
    nodes = Local().default_nodes()
    assert (nodes.least, nodes.desired, nodes.most) == (8, 8, 8)


@pytest.mark.rule("R31")
def test_transport_is_checked() -> None:
    """There are two, and what else is asked for is told so."""
    assert Local().transport == Local("ipc").transport == "ipc"
    assert Local("tcp").for_pool().transport == "tcp"
    with pytest.raises(ConfigError, match="'ipc' or 'tcp', got 'udp'"):
        Local("udp")  # type: ignore[arg-type]  # a user without a type checker


def test_nodes_of_a_mesh_are_not_reached_over_files() -> None:
    """Who says so is told, in time; whoever says nothing has them over TCP."""
    for mine in (Local("ipc"), Local("ipc").for_pool(), pickle.loads(pickle.dumps(Local("ipc")))):
        with pytest.raises(ConfigError, match="nodes of a mesh are reached over TCP"):
            mine.for_mesh("dev").check_nodes(Nodes(1))
        mine.check_nodes(Nodes(1))
    for mine in (Local(), Local("tcp")):
        mine.for_mesh("dev").check_nodes(Nodes(1))
        assert mine.for_mesh("dev").transport == "tcp"


def test_repr_says_how_to_make_it() -> None:
    """It reads as the call that made it."""
    assert repr(Local()) == "sky.Local(transport='ipc')"
    assert repr(Local("tcp")) == "sky.Local(transport='tcp')"


@pytest.mark.rule("R42")
def test_pools_over_tcp_have_keys_of_their_own() -> None:
    """A pair for each pool, in memory; sockets in a private directory need none."""
    local = Local("tcp")
    one, two = local.for_pool().keys(), local.for_pool().keys()
    assert one is not None
    assert two is not None
    assert one.public != two.public
    assert Local("ipc").keys() is None


@pytest.mark.rule("R42")
def test_node_over_tcp_admits_the_pool_alone() -> None:
    """It listens on the loopback interface, with a key of its own, and has been told the pool's."""
    local = Local("tcp")
    try:
        local.prepare()
        first, second = (launch(local, index, client_key="a" * 40) for index in range(2))
        for launched in (first, second):
            assert re.fullmatch(r"tcp://127\.0\.0\.1:\d+", launched.endpoint)
        assert len({first.public_key, second.public_key, ""}) == 3
    finally:
        local.close()


@pytest.mark.rule("R31")
def test_surroundings_are_those_of_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nodes that start later find the environment as it was when the pool opened."""
    monkeypatch.setenv("SKYWARD_TEST_WORD", "then")
    local = Local()
    local.prepare()
    try:
        monkeypatch.setenv("SKYWARD_TEST_WORD", "now")
        pid = launch(local).pid
        assert pid is not None
        assert environ_of(pid)["SKYWARD_TEST_WORD"] == "then"
    finally:
        local.close()


@pytest.mark.rule("R31")
def test_surroundings_hold_what_workers_inherit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Working directory, umask and ``sys.path`` are noted; relative entries mean the directory of that moment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "lib", *sys.path])
    old = os.umask(0o027)
    try:
        noted = Surroundings()
    finally:
        os.umask(old)
    assert (noted.cwd, noted.umask) == (str(tmp_path), 0o027)
    assert noted.sys_path == (f"{tmp_path}/", f"{tmp_path}/lib", *sys.path[2:])


def test_surroundings_survive_a_directory_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A client whose working directory was removed can still open a pool."""
    home, gone = os.getcwd(), tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    try:
        gone.rmdir()
        assert Surroundings().cwd == ""
        local = Local()
        launch(local)
        local.close()
    finally:
        os.chdir(home)


@pytest.mark.rule("R50")
def test_daemons_know_how_many_share_the_machine(provider: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPUs are divided among the slots of all nodes of the pool."""
    told: list[NodeConfig] = []

    def start(_path: object, _env: object, make_config: Callable[..., NodeConfig], **_: object) -> None:
        told.append(make_config())
        raise ProvisionError("that is enough")

    monkeypatch.setattr("skyward.providers.local.Daemon", start)
    with pytest.raises(ProvisionError):
        launch(provider, nodes=3, concurrency=2)
    assert [(config.seats, config.concurrency) for config in told] == [(3, 2)]


@pytest.mark.rule("R50")
def test_seat_of_a_node_that_is_gone_is_given_away() -> None:
    """Fewest nodes have the one that is given; a pool may be resized beyond what it was meant to be."""
    assert [free_seat(taken, 2) for taken in ([], [0], [1], [0, 1], [0, 1, 0])] == [0, 1, 0, 0, 1]


@pytest.mark.rule("R43")
def test_module_beside_the_script_does_not_run_in_the_daemon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, provider: Local
) -> None:
    """A user's file that is called like a library leaves the daemon alone."""
    for name in ("zmq", "structlog", "select", "click"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    local = Local()
    try:
        launch(local, log_level="debug")
    finally:
        local.close()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("flag", "expected"), [("-O", ["-P", "-O"]), ("-I", ["-P", "-I"]), ("-Werror", ["-Werror"])])
def test_daemon_runs_with_the_flags_of_the_client(flag: str, expected: list[str]) -> None:
    """What changes how code runs here changes it there: optimization, isolation, warnings."""
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from skyward.providers.interpreter import interpreter_flags
print(*interpreter_flags())
"""
    ran = subprocess.run([sys.executable, flag, "-c", code], capture_output=True, text=True, check=True)
    assert set(expected) <= set(ran.stdout.split())


@pytest.mark.rule("R30")
def test_failed_start_shows_the_log(provider: Local) -> None:
    """A daemon that dies before it serves is an error with its last words."""
    with pytest.raises(ProvisionError) as caught:
        launch(provider, 7, log_level="nonsense")
    assert "local node 7 did not start: its process exited with code 1 before it served" in str(caught.value)
    assert any("KeyError: 'nonsense'" in line for line in caught.value.log)


@pytest.mark.rule("R30")
def test_daemon_that_cannot_serve_says_why(provider: Local) -> None:
    """What the daemon says of its failure is the error."""
    place = place_of(launch(provider))
    (place.parent / "n1.sock").write_text("in the way")
    with pytest.raises(ProvisionError, match=r"local node 1 did not start: .*the file exists and is no socket"):
        launch(provider, 1)


def test_log_is_kept_after_the_end(provider: Local) -> None:
    """The last lines can be read while a node runs, and when it has ended."""
    launched = launch(provider, log_level="info")
    deadline = time.monotonic() + PATIENCE
    while not any('"serving"' in line for line in provider.log_tail(launched)):
        assert time.monotonic() < deadline, "nothing is logged"
        time.sleep(0.01)  # a log has no event
    provider.terminate(launched)
    log = provider.log_tail(launched)
    assert any('"serving"' in line for line in log)
    assert any('"the launcher is gone"' in line for line in log)


@pytest.mark.rule("R30")
def test_socket_and_directory_go_with_the_pool() -> None:
    """Also those of a daemon that was killed and could not clean up."""
    local = Local()
    launched = launch(local)
    place = place_of(launched)
    assert launched.pid is not None
    os.kill(launched.pid, signal.SIGKILL)
    local.close()
    assert not place.exists()
    assert not place.parent.exists()


@pytest.mark.rule("R30")
def test_forked_child_leaves_the_nodes_alone(provider: Local) -> None:
    """A child that inherited the provider can close it without harm to its parent's nodes."""
    launched = launch(provider)
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            provider.terminate(launched)
            provider.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert launched.death_fd is not None
    assert place_of(launched).exists()
    assert not select.select([launched.death_fd], [], [], 0)[0]


@pytest.mark.rule("R40")
def test_forked_child_does_not_hold_lifelines() -> None:
    """A lifeline ends with the client even if a child that it forked lives on."""
    write, read = daemons.open_lifeline()
    done, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(done, 1)
        os._exit(0)
    try:
        daemons.close_lifeline(write)
        daemons.close_lifeline(write)  # its number may be another file's by now
        assert select.select([read], [], [], PATIENCE)[0], "the child holds it"
    finally:
        os.close(go)
        os.waitpid(child, 0)
        os.close(read)
        os.close(done)


@pytest.mark.rule("F1")
@pytest.mark.rule("R40")
def test_killed_client_leaves_nothing(short_path: Path) -> None:
    """After ``kill -9`` of the client its daemons, and the directory of their sockets, are gone in two seconds."""
    env = {**os.environ, "TMPDIR": str(short_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    assert client.stdout is not None
    assert client.stdin is not None
    with client:
        pids = [int(client.stdout.readline()) for _ in range(2)]
        pidfds = [os.pidfd_open(pid) for pid in pids]
        assert os.listdir(short_path)
        client.kill()
        try:
            for pidfd in pidfds:
                assert select.select([pidfd], [], [], ORPHANED)[0], "a daemon is left"
        finally:
            for pidfd in pidfds:
                os.close(pidfd)
    assert os.listdir(short_path) == []
