"""`skyward-mesh status`, `nodes`, `ping`, `logs`: what they show, and what they end with."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from skyward.meshes import files, raising
from skyward.model import counted
from skyward.providers.local import Local
from skyward_scripts.cli import main
from skyward_scripts.meshes import showing
from skyward_scripts.meshes.looking import _Logs
from tests.meshing import Homes, bring_up, family, make_homes, start
from tests.rules.work import LONG, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.meshes.files import Mesh, State


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Return a mesh that tests only look at: it takes a second to bring up."""
    with pytest.MonkeyPatch.context() as patch, make_homes(tmp_path_factory.mktemp("homes"), patch):
        made = bring_up(nodes=2)
        until(lambda: len(family(made)) == 2 * 3)  # workers that come later would look like leaks
        yield made
        raising.down("dev")


def run(*arguments: str, code: int = 0) -> Result:
    """Run the command, and expect its exit code."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result


def test_status_shows_all_meshes_or_one(mesh: Mesh) -> None:
    """As aligned lines, where there is no terminal."""
    heads, row = run("status").output.splitlines()
    assert heads.split() == ["mesh", "provider", "state", "nodes", "running", "queued", "age"]
    assert re.fullmatch(r"dev +local +up +2 of 2 +0 +0 +\d+ s", row)
    first, heads, *rows = run("status", "dev").output.splitlines()
    assert re.fullmatch(r"mesh dev: up, for \d+ s, local, 2 of 2 nodes answer", first)
    assert heads.split() == ["node", "state", "slots", "running", "queued", "ping", "host", "endpoint"]
    for number, (line, node) in enumerate(zip(rows, mesh.nodes, strict=True)):
        assert re.fullmatch(rf"{number} +up +1 +0 +0 +[\d.]+ ms +\S+ +{node.endpoint}", line), line


def test_status_tells_programs_the_same(mesh: Mesh) -> None:
    """Every number, and whether each node answers."""
    [told] = json.loads(run("status", "--json").output)
    assert told["name"] == "dev"
    assert json.loads(run("status", "dev", "--json").output)["nodes"][1]["endpoint"] == mesh.nodes[1].endpoint
    assert [(node["ok"], node["slots"], node["running"], node["problem"]) for node in told["nodes"]] == [
        (True, 1, 0, ""),
        (True, 1, 0, ""),
    ]


def test_nodes_are_listed_with_their_keys(mesh: Mesh) -> None:
    """From the file alone."""
    _, *rows = run("nodes", "dev").output.splitlines()
    assert [row.split()[1:] for row in rows] == [[node.ident, node.endpoint, node.public_key] for node in mesh.nodes]
    told = json.loads(run("nodes", "dev", "--json").output)
    assert [node["ident"] for node in told] == [node.ident for node in mesh.nodes]


@pytest.mark.parametrize(
    ("command", "shape"),
    [
        (("status",), "one JSON object, or without NAME an array of them."),
        (("nodes", "dev"), "one JSON array."),
        (("ping", "dev"), "one JSON array."),
    ],
)
def test_help_says_what_json_there_is(mesh: Mesh, command: tuple[str, ...], shape: str) -> None:
    """An array is called one."""
    assert f"Print {shape}" in " ".join(run(command[0], "--help").output.split())
    assert isinstance(json.loads(run(*command, "--json").output), list)


def test_ping_says_how_long_answers_take(mesh: Mesh) -> None:
    """The best and the middle of some rounds; all of them for programs."""
    lines = run("ping", "dev", "-c", "2").output.splitlines()
    for number, line in enumerate(lines):
        assert re.fullmatch(rf"node {number} at \S+: [\d.]+ ms at best, [\d.]+ ms in the middle", line)
    told = json.loads(run("ping", "dev", "-c", "2", "--json").output)
    assert [(len(node["seconds"]), node["problem"]) for node in told] == [(2, ""), (2, "")]
    assert all(0 < seconds < 5 for node in told for seconds in node["seconds"])


def test_logs_are_those_of_the_nodes(mesh: Mesh) -> None:
    """Marked with the node, as lines for people or for programs; of one node if that is wanted."""
    lines: list[str] = []

    def both() -> bool:
        """Look; a node's first line waits for what writes lines."""
        lines[:] = run("logs", "dev", "-n", "50").output.splitlines()
        return {line[:8] for line in lines} == {"[node 0]", "[node 1]"}

    until(both)
    assert re.fullmatch(r"\[node 0\] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d info (serving|session \w+) \w+=.*", lines[0])
    told = [json.loads(line) for line in run("logs", "dev", "--node", "1", "-n", "50", "--json").output.splitlines()]
    assert {line["node"] for line in told} == {1}
    assert json.loads(told[-1]["line"])["event"] in ("serving", "session opened", "session closed")
    assert run("logs", "dev", "-n", "0").output == ""
    assert "mesh dev has no node 7: it has 2" in run("logs", "dev", "--node", "7", code=1).output


@pytest.mark.rule("R30")
def test_log_that_cannot_be_read_is_told(homes: Homes) -> None:
    """With the reason, and exit code 6; the others are shown, and one that is empty is no failure."""
    gone, there = bring_up(nodes=2).nodes
    until(lambda: len(Local().log_tail(there)) > 0)
    Local().terminate(gone)
    done = run("logs", "dev", code=6)
    assert re.fullmatch(r"\[node 0\] its log cannot be read: /\S+/log: No such file or directory\n", done.stderr)
    assert done.stdout
    assert all(line.startswith("[node 1] ") for line in done.stdout.splitlines())
    assert run("logs", "dev", "--node", "0", "--json", code=6).stdout == ""
    run("logs", "dev", "--node", "1")
    with start("logs", "-f", "dev") as logs:
        assert logs.stdout is not None
        said = ""
        while "[node 1]" not in said or "[node 0]" not in said:
            said += logs.stdout.readline()
        logs.send_signal(signal.SIGINT)
        said += logs.communicate(timeout=LONG)[0]
    assert (logs.returncode, said.count("cannot be read")) == (6, 1)
    raising.down("dev")


@pytest.mark.rule("R30")
@pytest.mark.parametrize(("state", "told"), [("up", True), ("growing", True), ("ending", False)])
def test_log_that_is_lost_is_told_while_the_mesh_serves(homes: Homes, state: State, told: bool) -> None:
    """A mesh that grows does, too; the logs of one that is being ended go with its nodes."""
    mesh = bring_up()
    Local().terminate(mesh.nodes[0])
    files.write(replace(mesh, state=state))
    logs = _Logs("dev", Local(), {0: mesh.nodes[0]}, as_json=False)
    logs.show()
    assert bool(logs.problems) == told
    raising.down("dev")


def test_node_that_is_gone_is_seen(homes: Homes) -> None:
    """In each way of looking, with exit code 6."""
    gone = bring_up(nodes=2).nodes[0]
    Local().terminate(gone)
    said = run("status", "dev", code=6).output
    assert "1 of 2 nodes answer" in said
    assert re.search(rf"^0 +down +{gone.endpoint}$", said, re.MULTILINE)
    assert said.endswith("node 0: does not answer: Connection refused\n")
    assert "1 of 2" in run("status", code=6).output
    assert f"node 0 at {gone.endpoint}: 0 of 3 answers: does not answer" in run("ping", "dev", code=6).output
    assert json.loads(run("ping", "dev", "--json", code=6).output)[0]["problem"]
    raising.down("dev")


def test_no_mesh_is_no_error(homes: Homes) -> None:
    """And what to do is said."""
    assert run("status").output == "there is no mesh; `skyward-mesh up NAME` makes one\n"
    assert json.loads(run("status", "--json").output) == []


def test_mesh_without_logs_is_told(homes: Homes) -> None:
    """It has no nodes; or somebody else has started them."""
    bring_up()
    raising.resize("dev", 0)
    said = run("logs", "dev", code=2).output
    assert said == "Error: mesh dev has no nodes: `skyward-mesh resize dev N` starts some\n"
    raising.down("dev")
    hand = homes.work / "hand.toml"
    hand.write_text('name = "lab"\nnodes = [{endpoint = "ipc:///nowhere.sock"}]\n')
    hand.chmod(0o600)
    said = run("logs", "hand.toml", code=2).output
    assert said == "Error: the nodes of mesh lab were started by somebody else: their logs are where they run\n"


@pytest.mark.parametrize("end", ["down", "interrupt"])
def test_logs_are_followed_until_the_end(homes: Homes, end: str) -> None:
    """What a node logs comes when it is logged; the end of the mesh, or Ctrl-C, ends it, and that is no failure."""
    bring_up()
    with start("logs", "-f", "dev", "-n", "1") as logs:
        assert logs.stdout is not None
        while "session opened" not in (line := logs.stdout.readline()):
            assert line.startswith("[node 0]")
            run("ping", "dev", "-c", "1")
        if end == "down":
            raising.down("dev")
        else:
            logs.send_signal(signal.SIGINT)
        rest, _ = logs.communicate(timeout=LONG)
    assert logs.returncode == 0
    if end == "down":
        assert rest.splitlines()[-1] == "mesh dev is gone"
    else:
        raising.down("dev")


def test_age_and_tables_read_well() -> None:
    """As people write times, and in columns."""
    ages = {0: "0 s", 59: "59 s", 61: "1 min 1 s", 3_600: "1 h 0 min", 90_000: "1 d 1 h", -1: "0 s"}
    assert {seconds: showing.age(seconds) for seconds in ages} == ages
    assert [counted(count, "node") for count in (0, 1, 2)] == ["0 nodes", "1 node", "2 nodes"]
    assert list(showing.lines_of(["a", "bb"], [["ccc", ""], ["", "d"]])) == ["a    bb", "ccc", "     d"]


def test_waiting_is_told_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no terminal: not at once, and less and less often."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    teller = showing.Plain()
    for second in range(40):
        now[0] = float(second)
        teller.waiting(f"waiting, {second}")
    assert capsys.readouterr().out.splitlines() == ["waiting, 5", "waiting, 15", "waiting, 35"]


def test_file_that_is_loose_is_refused(homes: Homes) -> None:
    """By every command, with what mends it."""
    files.claim(files.Mesh(name="dev"))
    path = files.path_of("dev")
    os.chmod(path, 0o644)
    for command in ("status", "nodes", "ping", "logs", "down"):
        assert f"chmod 0600 {path}" in run(command, "dev", code=2).output
    os.chmod(path, 0o600)
