"""Pools on the nodes of a mesh that runs: several at once, fairly, and without ending it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from skyward.errors import ConfigError, ProvisionError, UnknownMeshError
from skyward.meshes import asking, files, raising
from skyward.meshes.attached import Attached, client_pair
from skyward.providers.base import LaunchSpec
from skyward.providers.local import Local
from tests.meshing import bring_up, stopped
from tests.rules.work import add, place, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.meshing import Homes

MANY = 15_000  # calls: a second's work, of which the other client must not wait for the end
PROGRAM = """
import sys
import skyward as sky
@sky.function
def square(x):
    return x * x
with sky.Compute(mesh=sys.argv[1]) as pool:
    print(sky.gather(*[square(i) for i in range(5)]) >> pool, pool.concurrency)
"""


@sky.function
def note(path: str, who: str) -> None:
    """Note that it runs: on a node with one slot, in the order in which calls do."""
    with open(path, "a", encoding="ascii") as file:
        file.write(who)


@pytest.mark.rule("R30")
def test_pool_takes_part_and_leaves(homes: Homes, tmp_path: Path) -> None:
    """By name, or by the path of a copy of the file; in another process and directory; the mesh serves on."""
    mesh = bring_up(nodes=2, concurrency=2)
    copy = tmp_path / "copy.json"
    copy.write_bytes(Path(files.path_of("dev")).read_bytes())
    copy.chmod(0o600)
    for name in ("dev", str(copy)):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, name], cwd="/", capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert done.stdout == "(0, 1, 4, 9, 16) 2\n"
    pool = sky.Compute(mesh="dev")
    assert pool.concurrency == 2  # also before any node has said so
    with pool:
        assert pool.current_nodes() == 2
        assert {rank for _, _, rank in place() @ pool} == {0, 1}
        assert pool.slots == 4
    assert [report.ok for report in asking.ask(mesh.nodes, client_pair())] == [True] * 2
    assert files.load("dev") == mesh


@pytest.mark.rule("R30")
def test_clients_share_a_mesh_fairly(homes: Homes, tmp_path: Path) -> None:
    """Whoever comes second does not wait until all calls of the first have run: their turns alternate."""
    bring_up()
    notes = tmp_path / "notes"
    with sky.Compute(mesh="dev") as first, sky.Compute(mesh="dev") as second:
        many = sky.gather(*[note(str(notes), "a") for _ in range(MANY)]) > first
        until(lambda: notes.exists() and notes.stat().st_size)
        sky.gather(*[note(str(notes), "b") for _ in range(5)]) >> second
        many.result()
    order = notes.read_text()
    assert (order.count("a"), order.count("b")) == (MANY, 5)
    assert order.rindex("b") < 0.9 * MANY, "the second client had to wait"


@pytest.mark.rule("R30")
def test_options_of_the_pool_count_and_those_of_the_nodes_too(homes: Homes) -> None:
    """How many tasks a node runs, and in what, was said where it was started."""
    bring_up(concurrency=2, executor="thread")
    with sky.Compute(mesh="dev", retries=7, concurrency=1) as pool:
        assert (pool.concurrency, pool._options.worker.executor, pool._options.retries) == (2, "thread", 7)


@pytest.mark.rule("R30")
def test_silent_node_is_passed_over_as_long_as_there_is_another(homes: Homes) -> None:
    """And named, with what to do, when there is none."""
    mesh = bring_up(nodes=2)
    Local().terminate(mesh.nodes[0])
    with sky.Compute(mesh="dev", nodes=1) as pool:
        assert add(1, 2) >> pool == 3
    with sky.Compute(mesh="dev", nodes=sky.Nodes(2, min=1)) as pool:
        assert add(1, 2) >> pool == 3
    with pytest.raises(ProvisionError) as caught:
        sky.Compute(mesh="dev", nodes=2).open()
    text = str(caught.value)
    assert f"node 1 answers; node 0 at {mesh.nodes[0].endpoint} does not answer: Connection refused; " in text
    assert "skyward-mesh status dev" in text
    assert "sky.Compute(mesh='dev', nodes=1) does with fewer" in text


@pytest.mark.rule("R30")
@pytest.mark.parametrize("dead", [0, 1, 2])
def test_pool_that_is_told_no_number_takes_the_nodes_that_answer(
    homes: Homes, dead: int, caplog: pytest.LogCaptureFixture
) -> None:
    """All of them, from its first call on; who does not is told once."""
    mesh = bring_up(nodes=3)
    Local().terminate(mesh.nodes[dead])
    with sky.Compute(mesh="dev") as pool:
        assert pool.current_nodes() == 2
        assert len(add(1, 2) @ pool) == 2
    [told] = _told(caplog)
    passed = f"node {dead} at {mesh.nodes[dead].endpoint} does not answer: Connection refused"
    assert f"1 of 3 nodes are passed over: {passed}; " in told


@pytest.mark.rule("R30")
def test_node_that_is_stopped_is_passed_over_as_one_that_is_gone(
    homes: Homes, caplog: pytest.LogCaptureFixture
) -> None:
    """By a pool of all that answer, and by one that needs fewer than there are; each tells of it once."""
    mesh = bring_up(nodes=3)
    passed = f"1 of 3 nodes are passed over: node 0 at {mesh.nodes[0].endpoint} {asking.UNANSWERED}; "
    with stopped(mesh.nodes[0]):
        for nodes, count in ((None, 2), (1, 1), ((1, 3), 1)):
            caplog.clear()
            with sky.Compute(mesh="dev", nodes=nodes) as pool:
                assert len(add(1, 2) @ pool) == count
            [told] = _told(caplog)
            assert passed in told
    with sky.Compute(mesh="dev") as pool:
        assert pool.current_nodes() == 3


@pytest.mark.rule("R30")
def test_too_few_nodes_that_answer_are_an_error_that_says_which_do(homes: Homes) -> None:
    """And which do not, whatever the reason, and what to do."""
    mesh = bring_up(nodes=4)
    Local().terminate(mesh.nodes[0])
    with stopped(mesh.nodes[2]), pytest.raises(ProvisionError) as caught:
        sky.Compute(mesh="dev", nodes=3).open()
    assert str(caught.value) == (
        f"mesh 'dev': nodes 1, 3 answer; node 0 at {mesh.nodes[0].endpoint} does not answer: Connection refused; "
        f"node 2 at {mesh.nodes[2].endpoint} {asking.UNANSWERED}; `skyward-mesh status dev` shows its nodes, "
        "`skyward-mesh resize dev 4` replaces those that do not answer, and sky.Compute(mesh='dev', nodes=2) does with "
        "fewer"
    )


@pytest.mark.rule("R30")
def test_launch_that_is_not_wanted_any_more_takes_no_node(homes: Homes) -> None:
    """It can be taken later."""
    [node] = bring_up().nodes
    provider = Attached("dev")
    provider.prepare()
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(ProvisionError, match="not wanted any more"):
        provider.launch(LaunchSpec(), 0, cancelled)
    assert provider.launch(LaunchSpec(), 1, threading.Event()).endpoint == node.endpoint


@pytest.mark.rule("R36")
def test_node_has_three_heartbeats_for_its_answer(homes: Homes) -> None:
    """As it has in the pool: whoever says that the network is slow is believed before, too."""
    bring_up()
    provider = Attached("dev")
    provider.fitting(sky.Options(heartbeat=5.0))
    assert provider.for_pool()._patience == 15.0


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "skyward"]


@pytest.mark.rule("R30")
def test_mesh_of_which_no_node_answers_is_an_error(homes: Homes) -> None:
    """It names them all."""
    mesh = bring_up(nodes=2)
    for node in mesh.nodes:
        Local().terminate(node)
    with pytest.raises(ProvisionError, match="mesh 'dev': no node answers; ") as caught:
        sky.Compute(mesh="dev").open()
    assert all(node.endpoint in str(caught.value) for node in mesh.nodes)


@pytest.mark.rule("R30")
@pytest.mark.parametrize("count", [1, 2])
def test_fewer_nodes_are_no_advice_if_none_answers(homes: Homes, count: int) -> None:
    """And of a file the path is named, as it was given: there may be no mesh of its name."""
    nodes = ", ".join(f'{{endpoint = "ipc:///nowhere/{number}.sock"}}' for number in range(count))
    (homes.work / "hand.toml").write_text(f'name = "lab"\nnodes = [{nodes}]\n')
    (homes.work / "hand.toml").chmod(0o600)
    with pytest.raises(ProvisionError, match=r"mesh 'lab': no node answers; node 0 at ipc:///nowhere/0\.") as caught:
        sky.Compute(mesh="hand.toml").open()
    assert str(caught.value).endswith("; `skyward-mesh status hand.toml` shows its nodes")


@pytest.mark.rule("R30")
def test_file_is_named_as_it_was_given(homes: Homes, caplog: pytest.LogCaptureFixture) -> None:
    """In what is said to do."""
    gone = bring_up(nodes=2).nodes[1]
    copy = homes.work / "copy.json"
    copy.write_bytes(Path(files.path_of("dev")).read_bytes())
    copy.chmod(0o600)
    Local().terminate(gone)
    with sky.Compute(mesh="./copy.json") as pool:
        assert pool.current_nodes() == 1
    [told] = _told(caplog)
    assert told.endswith("; `skyward-mesh status ./copy.json` shows its nodes")
    with pytest.raises(ProvisionError) as caught:
        sky.Compute(mesh="./copy.json", nodes=2).open()
    assert "`skyward-mesh status ./copy.json`" in str(caught.value)
    assert "sky.Compute(mesh='./copy.json', nodes=1) does with fewer" in str(caught.value)


@pytest.mark.rule("R33")
def test_pool_grows_with_its_mesh(homes: Homes) -> None:
    """A node that was added while the pool was open can be taken into it."""
    bring_up()
    with sky.Compute(mesh="dev") as pool:
        assert pool.current_nodes() == 1
        raising.resize("dev", 2)
        pool.resize(2)
        until(lambda: pool.current_nodes() == 2)
        assert {rank for _, _, rank in place() @ pool} == {0, 1}


MISTAKES: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: sky.Compute(mesh="nope"), UnknownMeshError, "no mesh 'nope'; there are dev; .*up nope"),
    (lambda: sky.Compute(mesh="./nope.json"), ConfigError, "cannot read .*/nope.json: No such file"),
    (lambda: sky.Compute(sky.Local(), mesh="dev"), TypeError, "not both"),
    (lambda: sky.Compute(mesh=3), TypeError, "mesh must be a name"),  # type: ignore[arg-type]  # a user without checker
    (lambda: sky.Compute(mesh="dev", image=sky.Image(apt=["x1"])).open(), ProvisionError, "run already.*leave out"),
    (lambda: sky.Compute("nope"), UnknownMeshError, "no mesh 'nope', nor any other; there is no skyward.toml"),
    (lambda: sky.Compute("dev"), UnknownMeshError, r"one of that name runs: sky.Compute\(mesh='dev'\) attaches"),
    (lambda: sky.Compute(msh="dev"), TypeError, "did you mean 'mesh'"),  # type: ignore[call-arg]  # a user without checker
]  # fmt: skip


@pytest.mark.rule("R30")
def test_mistake_is_told_with_what_to_do(homes: Homes) -> None:
    """A name that there is not, two places at once, an image for nodes that are as they are."""
    bring_up()
    for make, error, complaint in MISTAKES:
        with pytest.raises(error, match=complaint):
            make()


@pytest.mark.rule("R30")
@pytest.mark.parametrize(("state", "complaint"), [("starting", "still coming up"), ("ending", "being ended")])
def test_mesh_that_is_not_up_is_not_for_pools(homes: Homes, state: files.State, complaint: str) -> None:
    """Its nodes may be gone in a moment."""
    files.claim(files.Mesh(name="dev", state=state))
    with pytest.raises(ConfigError, match=f"mesh 'dev' is {complaint}.*skyward-mesh down dev"):
        sky.Compute(mesh="dev")
    files.write(replace(files.load("dev"), state="up"))
    with pytest.raises(ConfigError, match="has no nodes: `skyward-mesh resize dev N`"):
        sky.Compute(mesh="dev")


@pytest.mark.rule("R30")
def test_name_as_provider_is_a_pool_as_described(homes: Homes) -> None:
    """Nodes, image and options are those of `skyward.toml`, unless the call says otherwise; the nodes are its own."""
    homes.describe(
        "[mesh.dev]\nnodes = 2\n[mesh.dev.image]\nenv = {MODE = 'fast'}\n[mesh.dev.options]\nretries = 1\nlease = 9.0"
    )
    with sky.Compute("dev", retries=2) as pool:
        assert sky.function(_mode)() @ pool == ["fast"] * 2
        assert (pool._options.retries, pool._options.lease) == (2, 9.0)
    assert files.known() == ()
    with sky.Compute("dev", nodes=1, image=sky.Image(), options=sky.Options(heartbeat=0.5)) as pool:
        assert sky.function(_mode)() @ pool == [None]
        assert (pool._options.retries, pool._options.heartbeat) == (3, 0.5)


def _mode() -> str | None:
    return os.environ.get("MODE")


@pytest.mark.rule("R42")
def test_client_that_is_not_admitted_is_refused(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the file is not enough."""
    bring_up()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(homes.root / "elsewhere"))
    with pytest.raises(sky.AuthError, match="does not admit our key"):
        sky.Compute(mesh="dev").open()


def test_file_has_nothing_that_is_secret(homes: Homes) -> None:
    """Public keys and addresses alone: our own secret stays where it is."""
    bring_up()
    text = Path(files.path_of("dev")).read_text()
    assert client_pair().secret not in text
    assert set(json.loads(text)["nodes"][0]) == {
        "ident", "endpoint", "public_key", "pid", "address", "private_address",
    }  # fmt: skip
