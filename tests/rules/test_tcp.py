"""TCP: CURVE always, both sides authenticated, listed keys only."""

from __future__ import annotations

import os
import re
import subprocess
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest
import zmq

import skyward as sky
from skyward.transport.keys import make_pair
from skyward.transport.sockets import make_dealer
from skyward.wire.codec import encode
from skyward.wire.messages import PROTOCOL, Beat, Hello
from tests.rules.byhand import COMMAND, ByHand, client_pair, environment, keys
from tests.rules.processes import family
from tests.rules.work import BUSY, add, echo, hold, let_go, place, runs, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., ByHand]

SOON: Final = 1.0 * BUSY  # seconds in which a refusal has to be told


@pytest.fixture
def tcp() -> Iterator[sky.Compute]:
    """Return an open pool of this machine whose two nodes are reached over TCP."""
    with sky.Compute(sky.Local(transport="tcp"), nodes=2) as pool:
        yield pool


def hello(session: bytes = b"s" * 16) -> bytes:
    """Return the greeting of a good client."""
    python = ".".join(map(str, __import__("sys").version_info[:3]))
    return encode(Hello(PROTOCOL, python, {}, session, 0, 0, 0.0, 0.25, 1.0, 0, "stranger:1"))


# --- pools of this machine -----------------------------------------------------------------


@pytest.mark.rule("R42")
@pytest.mark.rule("R31")
def test_local_pool_works_over_tcp(tcp: sky.Compute) -> None:
    """Calls, groups, broadcasts, and arrays too large for one packet; nothing above the links knows."""
    import numpy as np

    assert add(1, 2) >> tcp == 3
    assert sky.gather(*[echo(i) for i in range(500)]) >> tcp == tuple(range(500))
    assert [node for _, _, node in place() @ tcp] == [0, 1]
    array = np.arange(2_000_000)
    assert (echo(array) >> tcp).sum() == array.sum()
    for node in tcp.snapshot().nodes:
        assert re.fullmatch(r"tcp://127\.0\.0\.1:\d+", node.endpoint)


@pytest.mark.rule("R42")
def test_pool_pins_the_key_of_each_node(tcp: sky.Compute) -> None:
    """Every node has its own; none is the pool's."""
    engine = tcp._engine
    assert engine is not None
    assert engine.hub.keys is not None
    public = {mate.launched.public_key for mate in engine.crew.mates.values()} | {engine.hub.keys.public}
    assert len(public) == 3
    for mate in engine.crew.mates.values():
        assert mate.link is not None
        assert mate.link.socket.getsockopt(zmq.MECHANISM) == zmq.CURVE


# --- nodes that somebody has started -------------------------------------------------------


@pytest.mark.rule("R42")
def test_nodes_started_by_hand_take_part(by_hand: Start, tmp_path: Path) -> None:
    """With the slots they were started with; they run on when the pool is closed, for the next one."""
    nodes = [by_hand("--concurrency", "2"), by_hand("--concurrency", "2", "--executor", "thread")]
    provider = sky.Static([node.address for node in nodes])
    for _ in range(2):
        with sky.Compute(provider) as pool:
            assert pool.current_nodes() == 2
            assert sky.gather(*[add(i, i) for i in range(100)]) >> pool == tuple(2 * i for i in range(100))
            held = [hold(str(tmp_path), str(i)) > pool for i in range(4)]
            for i in range(4):
                runs(tmp_path, str(i))
                let_go(tmp_path, str(i))
            assert [future.result() for future in held] == ["0", "1", "2", "3"]
            assert [(node.slots, node.pid) for node in pool.snapshot().nodes] == [(2, None), (2, None)]
        assert all(node.process.poll() is None for node in nodes)
    until(lambda: all(node.events().count("session closed") == 2 for node in nodes))


@pytest.mark.rule("R33")
def test_size_of_a_pool_is_what_its_nodes_say(by_hand: Start) -> None:
    """`concurrency` is what the narrowest of them has, whatever the option; more nodes than there are is an error."""
    nodes = [by_hand("--concurrency", "3"), by_hand("--concurrency", "2")]
    with sky.Compute(sky.Static([node.address for node in nodes]), concurrency=7) as pool:
        assert (pool.current_nodes(), pool.concurrency) == (2, 2)
        with pytest.raises(sky.ConfigError, match="there are 2 nodes in"):
            pool.resize(3)
        assert pool.current_nodes() == 2
        assert add(1, 2) >> pool == 3


@pytest.mark.rule("R42")
def test_two_clients_share_a_node(by_hand: Start, tmp_path: Path) -> None:
    """Each under its own key, with tasks of the same numbers, in processes of their own."""
    node = by_hand("--concurrency", "2")
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    with sky.Compute(sky.Static([node.address])) as first:
        from skyward.transport.keys import read_or_make_pair

        node.admit(read_or_make_pair(str(other / "key")).public)
        until(lambda: admitted(node, str(other / "key")))
        with sky.Compute(sky.Static([node.address], key=str(other / "key"))) as second:
            pids = [(place() >> pool)[1] for pool in (first, second)]
            assert pids[0] != pids[1]


def admitted(node: ByHand, key: str) -> bool:
    """Return whether the node lets a client in now."""
    try:
        with sky.Compute(sky.Static([node.address], key=key)):
            return True
    except sky.AuthError:
        return False


@pytest.mark.rule("R42")
@pytest.mark.rule("F33")
def test_unlisted_client_is_refused_at_once(by_hand: Start) -> None:
    """The error has the command that admits it, which does, without a restart."""
    node = by_hand(admit=False)
    until(lambda: "no client is admitted yet" in node.events())
    pool = sky.Compute(sky.Static([node.address]))
    began = time.monotonic()
    with pytest.raises(
        sky.AuthError, match=r"it does not admit our key; on the node, run: skyward-node keys add"
    ) as caught:
        pool.open()
    assert time.monotonic() - began < SOON
    (key,) = re.findall(r"keys add '(.{40})'", str(caught.value))
    assert key == client_pair().public
    node.admit(key)
    until(lambda: admitted(node, os.path.join(os.environ["XDG_CONFIG_HOME"], "skyward", "client", "client.key")))
    until(lambda: "session opened" in node.events())


@pytest.mark.rule("R42")
@pytest.mark.rule("F34")
def test_node_with_another_key_is_refused_and_told_nothing(by_hand: Start) -> None:
    """Whoever answers there is not who we were told of."""
    node = by_hand()
    with pytest.raises(sky.AuthError, match="it cannot prove to own the key that we were given for it"):
        sky.Compute(sky.Static([(node.endpoint, make_pair().public)])).open()
    assert "session opened" not in node.events()
    with sky.Compute(sky.Static([node.address])) as pool:
        assert add(1, 2) >> pool == 3


@pytest.mark.rule("R42")
def test_node_without_a_key_is_refused() -> None:
    """Before anything is dialled."""
    with pytest.raises(sky.ConfigError, match="needs its public key"):
        sky.Compute(sky.Static(["tcp://127.0.0.1:7700"]))


@pytest.mark.rule("R42")
@pytest.mark.rule("F33")
@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "tcp://0.0.0.0:0"])
@pytest.mark.parametrize("who", ["null", "plain", "stranger"])
def test_other_clients_never_reach_the_node(by_hand: Start, bind: str, who: str) -> None:
    """Whatever the address it listens at: no answer, no session, and who is admitted is served beside them."""
    node = by_hand("--log-level", "debug", bind=bind)
    endpoint = f"tcp://127.0.0.1:{node.port}"
    with zmq.Context() as context:
        socket = (
            make_dealer(context) if who != "stranger" else make_dealer(context, keys=make_pair(), server_key=node.key)
        )
        if who == "plain":
            socket.setsockopt_string(zmq.PLAIN_USERNAME, "root")
            socket.setsockopt_string(zmq.PLAIN_PASSWORD, "root")
        socket.setsockopt(zmq.IMMEDIATE, 0)
        with socket:
            socket.connect(endpoint)
            for _ in range(10):
                socket.send(hello())
            with sky.Compute(sky.Static([f"{endpoint} {node.key}"])) as pool:
                assert add(1, 2) >> pool == 3
            assert not socket.poll(300)
    until(lambda: "session closed" in node.events())
    assert node.events().count("session opened") == 1
    assert "client refused" not in node.events()


@pytest.mark.rule("R42")
@pytest.mark.parametrize("name", ["node.key", "clients", "."])
def test_node_does_not_start_with_keys_that_others_may_use(by_hand: Start, name: str) -> None:
    """It says which, and the command that mends it."""
    node = by_hand()
    (node.keys / name).chmod(0o755)
    done = subprocess.run(
        [COMMAND, "--bind", "tcp://127.0.0.1:0", "--keys", str(node.keys)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert re.search(r"keys must be their owner's alone; run: chmod 0[67]00 ", done.stderr)


@pytest.mark.rule("R42")
def test_session_ends_within_a_second_of_its_key(by_hand: Start, tmp_path: Path) -> None:
    """What it runs is killed; it is refused from then on; when it is admitted again it goes on. No restart."""
    node = by_hand()
    with sky.Compute(sky.Static([node.address]), retries=0, node_wait=60.0) as pool:
        pid = (place() >> pool)[1]
        held = hold(str(tmp_path), "a") > pool
        runs(tmp_path, "a")
        keys(node.keys, "remove", client_pair().public)
        removed = time.monotonic()
        with pytest.raises(sky.NodeLostError, match="this key is not admitted any more"):
            held.result()
        assert time.monotonic() - removed < SOON
        until(lambda: not psutil.pid_exists(pid), timeout=5.0)
        until(lambda: any("does not admit our key" in cause for cause in causes(pool)))
        node.admit(client_pair().public)
        assert add(1, 2) >> pool == 3
    assert node.process.poll() is None


def causes(pool: sky.Compute) -> list[str]:
    """Return why nodes were lost."""
    assert pool._engine is not None
    return list(pool._engine.crew.membership.causes)


@pytest.mark.rule("R43")
@pytest.mark.rule("F39")
def test_admitted_client_that_talks_nonsense_hurts_itself_alone(by_hand: Start) -> None:
    """Garbage frames, messages of another type, and a session that is not its own, beside a pool that works."""
    node = by_hand()
    with sky.Compute(sky.Static([node.address])) as pool, zmq.Context() as context:
        assert pool._engine is not None
        frames: list[list[bytes]] = [
            [b""],
            [b"\x01"],
            [b"\x01\x02rubbish"],
            [os.urandom(1_000)],
            [b"\x01\x06\x94\xcf" + b"\xff" * 20],
            [b"x"] * 70_000,
            [encode(Beat(2**63 - 1, 2**63 - 1, 0.0))],
        ]
        for message in frames:
            with make_dealer(context, keys=client_pair(), server_key=node.key) as socket:
                socket.connect(node.endpoint)
                assert socket.poll(30_000, zmq.POLLOUT)
                socket.send_multipart(message)
                assert socket.poll(30_000), message[:1]
                assert socket.recv()[1] == 44, "it is refused"
        assert sky.gather(*[add(i) for i in range(100)]) >> pool == tuple(range(100))
        assert pool.snapshot().rerun == 0


def note_pid(path: str) -> int:
    """Leave the pid of the process that runs this; return it."""
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    return os.getpid()


class WhereOpened:
    """Becomes the pid of the process that unpickles it, which is noted."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        """Be made by noting the pid."""
        return note_pid, (self.path,)


@pytest.mark.rule("R43")
def test_only_the_worker_that_runs_a_task_opens_its_arguments(tcp: sky.Compute, tmp_path: Path) -> None:
    """Neither a daemon does, nor the client again."""
    calls = [place(WhereOpened(tmp_path / "opened")) for _ in range(20)]
    for opened, worker, _ in sky.gather(*calls) >> tcp:
        assert opened == worker
    pids = [int(line) for line in (tmp_path / "opened").read_text().splitlines()]
    assert len(pids) == len(calls)
    assert not set(pids) & {os.getpid(), *(node.pid for node in tcp.snapshot().nodes)}


# --- secrets -------------------------------------------------------------------------------


def told_by(process: psutil.Process) -> str:
    """Return what any user of the machine, or anybody who looks over a shoulder, can read of a process."""
    return "\0".join([*process.cmdline(), *(f"{name}={value}" for name, value in process.environ().items())])


@pytest.mark.rule("T19")
@pytest.mark.rule("R42")
def test_no_secret_leaves_the_process_of_a_pool(tcp: sky.Compute) -> None:
    """Not by argv, environment, files, logs or reprs, also of the nodes that were told whom to admit."""
    assert add(1, 2) >> tcp == 3
    engine = tcp._engine
    assert engine is not None
    pair = engine.hub.keys
    assert pair is not None
    assert pair.public in repr(pair)
    shown = [told_by(process) for process in [psutil.Process(), *family(tcp)]]
    shown += [repr(thing) for thing in (tcp, engine, engine.hub, engine.crew, pair, engine.crew._launcher._spec)]
    shown += [str(engine.crew._launcher.provider.log_tail(mate.launched)) for mate in engine.crew.mates.values()]
    shown.append(str(sky.gather(*[echo(1)]) >> tcp))
    assert len(shown) > 8
    assert not [text for text in shown if pair.secret in text]


@pytest.mark.rule("T19")
@pytest.mark.rule("R42")
def test_no_secret_of_a_node_started_by_hand_is_shown(by_hand: Start, tmp_path: Path) -> None:
    """Nor one of its client, also not by a traceback that shows the locals of every frame."""
    node = by_hand("--log-level", "debug", admit=False)
    shown: list[str] = []
    for provider in (sky.Static([node.address]), sky.Static([(node.endpoint, make_pair().public)])):
        with pytest.raises(sky.AuthError) as caught:
            sky.Compute(provider).open()
        report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        shown.append("".join(report.format()))
        assert "provider" in shown[-1]
    node.admit(client_pair().public)
    until(lambda: admitted(node, str(Path(os.environ["XDG_CONFIG_HOME"], "skyward", "client", "client.key"))))
    with sky.Compute(sky.Static([node.address])) as pool:
        assert add(1, 2) >> pool == 3
        shown += [told_by(process) for process in [psutil.Process(), *node.family()]]
    shown += [str(node.log), keys(node.keys, "show"), keys(node.keys, "list"), repr(client_pair())]
    assert client_pair().public in "".join(shown)
    secrets = [node.secret(), client_pair().secret]
    assert not [text for text in shown for secret in secrets if secret in text]


# --- nodes that start with the program -----------------------------------------------------


@pytest.mark.rule("R32")
def test_program_may_be_started_together_with_its_nodes(by_hand: Start, short_path: Path) -> None:
    """A daemon that does not serve yet is waited for, as a node of any pool is."""
    endpoints = [f"ipc://{short_path}/late{number}" for number in range(2)]
    for endpoint in endpoints:
        by_hand(bind=endpoint, wait=False)
    with sky.Compute(sky.Static(endpoints)) as pool:
        assert add(1, 1) @ pool == [2, 2]
