"""Clients of one node: nobody gets what is another's, and nobody waits for another (F37, F43, F66)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest
import zmq

import skyward as sky
from skyward.transport.keys import KeyPair, make_pair, read_or_make_pair
from skyward.wire.messages import Refused, Results
from tests.rules.processes import script
from tests.rules.work import until
from tests.security.nodes import PATIENCE
from tests.security.work import mark, mark_and_hold, plus, who

if TYPE_CHECKING:
    from pathlib import Path

    from tests.security.conftest import Connect, Start
    from tests.security.peers import Peer


# --- F37 --------------------------------------------------------------------------------------


def held(peer: Peer, path: Path) -> int:
    """Start a task that waits until it is let go, and return its id."""
    (task,) = peer.submit(mark_and_hold, (str(path),))
    until(path.exists, PATIENCE)
    return task


@pytest.mark.rule("F37")
@pytest.mark.rule("R42")
def test_session_belongs_to_its_key(start_node: Start, connect: Connect, short_path: Path) -> None:
    """An admitted client that knows another's session is refused at its hello, and the owner gets the result."""
    owner, thief = make_pair(), make_pair()
    node = start_node(owner, thief)
    victim = connect(node, owner)
    victim.hello()
    task = held(victim, short_path / "task")
    attacker = connect(node, thief)
    attacker.session, attacker.epoch = victim.session, victim.epoch
    attacker.greet()
    assert attacker.wait_for(Refused).code == "auth"
    attacker.beat()
    (short_path / "task-go").touch()
    assert victim.value(task) == str(short_path / "task")
    assert not [message for message in attacker.log if isinstance(message, Results)]
    assert (short_path / "task").read_text() == "x"


@pytest.mark.rule("F37")
@pytest.mark.parametrize("name", [b"victim", b"\x01\x02\x03\x04\x05", b"\x00"])
def test_connection_cannot_name_itself(start_node: Start, connect: Connect, keys: KeyPair, name: bytes) -> None:
    """A client that chooses its routing id is refused: nobody can wait under a name for what is another's."""
    node = start_node(keys)
    honest = connect(node, keys)
    honest.hello()
    named = connect(node, keys, setup=lambda socket: socket.setsockopt(zmq.ROUTING_ID, name))
    named.greet()
    assert named.wait_for(Refused).code == "protocol"
    assert honest.call(plus, 1, 2) == 3


@pytest.mark.rule("F37")
def test_taken_routing_id_is_of_no_use(start_node: Start, connect: Connect, short_path: Path) -> None:
    """A second connection under the id of a first gets nothing, and the first is served like any other."""
    owner, thief = make_pair(), make_pair()
    node = start_node(owner, thief)
    same = lambda socket: socket.setsockopt(zmq.ROUTING_ID, b"same")  # noqa: E731 - said once, for both
    first = connect(node, owner, setup=same)
    first.greet()
    assert first.wait_for(Refused).code == "protocol"
    second = connect(node, thief, setup=same)
    second.greet()
    honest = connect(node, owner)
    honest.hello()
    assert honest.call(plus, 1, 2) == 3
    assert not second.socket.poll(0)


# --- F43 --------------------------------------------------------------------------------------


@pytest.mark.rule("F43")
def test_task_that_comes_twice_runs_once(start_node: Start, connect: Connect, keys: KeyPair, short_path: Path) -> None:
    """Sent again while it waits, while it runs and after it has ended, it has one run and one result."""
    node = start_node(keys)
    peer = connect(node, keys)
    peer.hello()
    runs, waits = short_path / "runs", short_path / "waits"
    messages = [peer.tasks(mark_and_hold, (str(runs),), retries=0), peer.tasks(mark, (str(waits),), retries=0)]
    for message, body in messages * 2:
        peer.send(message, body)
    until(runs.exists, PATIENCE)
    for message, body in messages:
        peer.send(message, body)
    (short_path / "runs-go").touch()
    results: list[Results] = []
    while len(results) < 2:  # without a beat: nothing is acknowledged
        assert peer.socket.poll(int(PATIENCE * 1000))
        if isinstance(said := peer.take(), Results):
            results.append(said)
    for again, body in messages:
        peer.send(again, body)
    assert peer.call(plus, 1, 2) == 3
    assert (runs.read_text(), waits.read_text()) == ("x", "x")
    assert sorted(peer.deliveries) == [1, 2, 3]


@pytest.mark.rule("F43")
def test_batch_that_names_a_task_twice_is_nonsense(
    start_node: Start, connect: Connect, keys: KeyPair, short_path: Path
) -> None:
    """Nothing of it runs."""
    node = start_node(keys)
    peer = connect(node, keys)
    peer.hello()
    path = short_path / "runs"
    message, body = peer.tasks(mark, (str(path),), (str(path),))
    message.ids[1] = message.ids[0]
    peer.send(message, body)
    assert peer.wait_for(Refused).code == "protocol"
    other = connect(node, keys)
    other.hello()
    assert other.call(plus, 1, 2) == 3
    assert not path.exists()


# --- F66 --------------------------------------------------------------------------------------

NEIGHBOUR: Final = """
import json, os, signal, time
import skyward as sky

NAME = "neighbour"

@sky.function
def who():
    time.sleep(0.01)
    return NAME, os.getpid()

@sky.function
def die():
    os.kill(os.getpid(), signal.SIGKILL)

with sky.Compute(sky.Static([(os.environ["NODE"], os.environ["KEY"])], key=os.environ["FILE"])) as pool:
    seen = sky.gather(*[who() for _ in range(20)]) >> pool
    for _ in range(3):
        try:
            die().with_retries(0) >> pool
        except sky.WorkerCrashedError:
            pass
    print(json.dumps(seen + (who() >> pool,)))
"""
MANY: Final = 1_000


@pytest.mark.rule("F66")
def test_two_clients_share_a_node(start_node: Start, short_path: Path) -> None:
    """Each gets its own answers from its own processes; the one with little to do is not behind the one with much."""
    files = [str(short_path / name / "client.key") for name in ("mine", "theirs")]
    node = start_node(*map(read_or_make_pair, files), concurrency=2)
    with sky.Compute(sky.Static([node.address], key=files[0])) as pool:
        mine = sky.gather(*[who() for _ in range(MANY)]) > pool
        neighbour = script(
            NEIGHBOUR, cwd=short_path, env=dict(zip(("NODE", "KEY", "FILE"), (*node.address, files[1]), strict=True))
        )
        output, errors = neighbour.communicate(timeout=PATIENCE)
        assert neighbour.returncode == 0, errors
        assert not mine.done()
        names, pids = map(set, zip(*mine.result(), strict=True))
    theirs = json.loads(output)
    assert names == {"self"}
    assert {name for name, _ in theirs} == {"neighbour"}
    assert pids.isdisjoint(pid for _, pid in theirs)
