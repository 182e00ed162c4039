"""`skyward-mesh up`, `down`, `resize`, `gc`: what they print, ask, and end with."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from skyward.errors import ProvisionError
from skyward.meshes import asking, files, raising
from skyward.providers.base import Quote
from skyward.providers.local import Local
from skyward_scripts.cli import main
from skyward_scripts.meshes import lifecycle
from tests.meshing import bring_up, family, living, nothing_is_left, start, stopped

if TYPE_CHECKING:
    from tests.meshing import Homes

LOCAL = ("--provider", "local")


def run(*arguments: str, code: int = 0, **settings: Any) -> Result:
    """Run the command, and expect its exit code."""
    result = CliRunner().invoke(main, arguments, **settings)
    assert result.exit_code == code, result.output
    return result


@pytest.mark.rule("R30")
def test_mesh_lives_from_up_to_down(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """In processes of their own: what one starts another finds, and a third ends, from another directory."""
    homes.describe("[mesh.dev]\nnodes = 2")
    with start("up", "dev") as up:
        said, _ = up.communicate()
    assert up.returncode == 0, said
    lines = said.splitlines()
    assert lines[0] == "mesh dev: 2 nodes of sky.Local(transport='tcp'), 1 task at once each"
    assert sorted(line[:7] for line in lines[1:3]) == ["node 0 ", "node 1 "]
    assert lines[3].startswith('mesh dev is up: sky.Compute(mesh="dev")')
    processes = family(files.load("dev"))
    assert living(processes)
    assert "2 of 2 nodes answer" in run("status", "dev").output
    monkeypatch.chdir("/")
    with start("down", "dev", cwd="/") as down:
        said, _ = down.communicate()
    assert said.splitlines()[-1] == "mesh dev is gone"
    assert not living(processes)
    nothing_is_left(homes)


@pytest.mark.rule("R30")
def test_up_can_be_rehearsed(homes: Homes) -> None:
    """What would be started, as lines and as JSON; nothing is, and nothing is written."""
    said = run("up", "dev", *LOCAL, "-n", "3", "--concurrency", "4", "--dry-run").output
    assert said == "mesh dev: 3 nodes of sky.Local(transport='tcp'), 4 tasks at once each\nnothing was started\n"
    told = json.loads(run("up", "dev", *LOCAL, "-n", "3", "--dry-run", "--json").output)
    assert told == {
        "name": "dev", "nodes": 3, "provider": "sky.Local(transport='tcp')", "machines": "", "usd_per_hour": 0.0,
    }  # fmt: skip
    nothing_is_left(homes)


@pytest.fixture
def dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nodes of this machine cost money."""
    monkeypatch.setattr(Local, "quote", lambda _, spec, count: Quote(f"{count} × gold", count * 1.5))


@pytest.mark.rule("R30")
@pytest.mark.usefixtures("dear")
def test_price_is_told_before_anything_costs(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """And agreed to: by -y, by a person, or not at all."""
    price = "2 × gold: about $3.00 an hour, until it is ended"
    assert price in run("up", "dev", *LOCAL, "-n", "2", "--dry-run").output
    refused = run("up", "dev", *LOCAL, "-n", "2", code=2)
    assert price in refused.output
    assert "this costs money, and there is nobody to ask: say -y" in refused.output
    monkeypatch.setattr(lifecycle, "is_asked", lambda: True)
    assert "nothing was started" in run("up", "dev", *LOCAL, "-n", "2", code=7, input="n\n").output
    nothing_is_left(homes)
    run("up", "dev", *LOCAL, "-n", "1", input="y\n")
    assert "1 × gold: about $1.50 an hour" in run("resize", "dev", "2", "--dry-run").output
    assert "nothing was started" in run("resize", "dev", "2", code=7, input="n\n").output
    assert "nothing was ended" in run("down", "dev", code=7, input="n\n").output
    assert run("resize", "dev", "2", "-y").output.endswith("mesh dev has 2 nodes\n")
    assert run("up", "two", *LOCAL, "-n", "1", "-y").output.endswith("then: down two\n")
    assert run("down", "--all", "-y").output.count("is gone") == 2
    nothing_is_left(homes)


@pytest.mark.rule("R30")
def test_name_that_is_taken_or_unknown_is_told(homes: Homes) -> None:
    """With exit codes of their own, and the names that there are."""
    bring_up()
    homes.describe("[mesh.lab]")
    taken = run("up", "dev", *LOCAL, code=4)
    assert "a mesh 'dev' is there already; `skyward-mesh status dev` shows it" in taken.output
    assert "there is no mesh 'prod'; there are lab; looked in" in run("up", "prod", code=3).output
    assert "there is no mesh 'prod'; there are dev" in run("status", "prod", code=3).output
    assert "there is no mesh 'prod'; there are dev" in run("down", "prod", code=3).output
    assert "say which mesh, or --all" in run("down", code=2).output
    run("down", "dev")


MISTAKES = [
    (("up", "dev", "--provider", "gcp"), "there is no provider 'gcp': there are"),
    (("up", "a b", *LOCAL), "'a b' is no name of a mesh"),
    (("up", "dev", *LOCAL, "--set", "transport"), "--set takes KEY=VALUE, got 'transport'"),
    (("up", "dev", *LOCAL, "--set", "transprt=tcp"), "transprt is no setting of sky.Local; did you mean 'transport'?"),
    (("up", "dev", *LOCAL, "--set", "transport=udp"), "'ipc' or 'tcp', got 'udp'"),
    (("up", "dev", *LOCAL, "--set", "transport=ipc"), "reached over TCP: leave out transport='ipc'"),
    (("up", "dev", *LOCAL, "-n", "0"), "0 is not in the range"),
]  # fmt: skip


@pytest.mark.rule("R30")
@pytest.mark.parametrize(("arguments", "complaint"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistake_is_wrong_usage(homes: Homes, arguments: tuple[str, ...], complaint: str) -> None:
    """Exit code 2, and nothing was started."""
    assert complaint in run(*arguments, code=2).output
    nothing_is_left(homes)


def test_mesh_that_was_made_with_another_setting_is_ended(homes: Homes) -> None:
    """What is refused for new nodes keeps none from going."""
    files.write(replace(bring_up(), settings={"transport": "ipc"}))
    assert "reached over TCP" in run("resize", "dev", "2", code=2).output
    run("down", "dev", "-y")
    nothing_is_left(homes)


def test_description_that_makes_no_sense_is_told_with_its_line(homes: Homes) -> None:
    """The same as a program would be told."""
    path = homes.describe("[mesh.dev]\nnodes = 'two'")
    assert f"Error: {path}, line 2: mesh.dev.nodes is wrong" in run("up", "dev", code=2).output


@pytest.mark.rule("R30")
def test_node_that_does_not_start_ends_the_command(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 5, with the end of its log; nothing is left."""
    monkeypatch.setattr(raising, "LOG_LEVEL", "nonsense")
    said = run("up", "dev", *LOCAL, "-n", "1", code=5).output
    assert "it went wrong: ending what was started" in said
    assert "local node 0 did not start" in said
    assert "last lines of its log" in said
    nothing_is_left(homes)


@pytest.mark.rule("R30")
def test_interrupt_rolls_back(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when the nodes are there, and the command is not at its end: exit code 130, and nothing is left."""
    processes: list[Any] = []

    def interrupt(*_: object) -> None:
        processes.extend(family(files.load("dev")))
        raise KeyboardInterrupt

    monkeypatch.setattr(asking, "ask", interrupt)
    ended = run("up", "dev", *LOCAL, "-n", "2", code=130)
    assert len(processes) >= 4
    first, last = ended.stderr.splitlines()
    assert first == "interrupted: ending what was started; waiting for nodes to be gone: 2 that serve"
    assert last == "interrupted"
    assert not living(processes)
    nothing_is_left(homes)


@pytest.mark.rule("R30")
def test_down_needs_no_file(homes: Homes) -> None:
    """The marks of the nodes are enough, if it is known where to look."""
    processes = family(bring_up())
    os.unlink(files.path_of("dev"))
    assert "say --provider and --set to look" in run("down", "dev", code=3).output
    assert living(processes)
    said = run("down", "dev", *LOCAL).output
    assert "of mesh dev on this machine" in said
    assert not living(processes)
    assert "has nothing of that name" in run("down", "dev", *LOCAL, code=3).output
    nothing_is_left(homes)


@pytest.mark.rule("R30")
def test_gc_ends_what_nobody_looks_after(homes: Homes) -> None:
    """A mesh whose file is gone is; one whose file is there is not."""
    kept, lost = bring_up("kept"), bring_up("lost")
    assert run("gc").output == "0 things ended\n"
    os.unlink(files.path_of("lost"))
    told = json.loads(run("gc", "--dry-run", "--json").output)
    assert told["dry_run"] is True
    assert [line.endswith("of mesh lost on this machine") for line in told["gone"]] == [True]
    processes = family(lost)
    assert living(processes)
    assert run("gc").output.endswith("1 thing ended\n")
    assert not living(processes)
    assert living(family(kept))
    run("down", "kept")


@pytest.mark.rule("R30")
@pytest.mark.parametrize("toml", ["x = [", '[mesh.bad]\nprovider = "moon"\n'])
def test_gc_needs_no_description_that_makes_sense(homes: Homes, toml: str) -> None:
    """It ends what it finds on this machine, and then says what is wrong with the file."""
    lost = bring_up("lost")
    processes = family(lost)
    os.unlink(files.path_of("lost"))
    (homes.work / "skyward.toml").write_text(toml)
    done = run("gc", code=2)
    assert done.stdout.endswith("1 thing ended\n")
    assert not living(processes)
    assert done.stderr.startswith("Error: ")
    assert "skyward.toml" in done.stderr
    assert json.loads(run("gc", "--json", code=2).stdout) == {"dry_run": False, "gone": []}


def test_settings_are_read_as_toml_writes_them(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers, lists and words; files are named from the working directory."""
    texts = {"3": 3, "true": True, "[1, 2]": [1, 2], "eu-west-1": "eu-west-1", '"3"': "3", "a b": "a b"}
    assert {text: lifecycle.setting(text) for text in texts} == texts
    assert lifecycle.setting("[" * 10_000) == "[" * 10_000  # which is refused by what it is for
    monkeypatch.setattr(Local, "paths", ("transport",))
    assert lifecycle._settings("local", ("transport=x",)) == {"transport": str(homes.work / "x")}


def test_up_tells_programs_what_there_is(homes: Homes) -> None:
    """One JSON object on stdout; the rest goes to stderr."""
    with start("up", "dev", *LOCAL, "-n", "1", "--json") as up:
        said, _ = up.communicate()
    told = json.loads(said[said.index("{") :])
    assert (told["name"], told["state"], len(told["nodes"])) == ("dev", "up", 1)
    assert told["nodes"][0]["endpoint"].startswith("tcp://")
    run("down", "dev")


def test_nothing_to_end_is_fine(homes: Homes) -> None:
    """All of no meshes is none."""
    assert run("down", "--all").output == "there is no mesh\n"


@pytest.mark.rule("R30")
def test_mesh_that_cannot_be_ended_does_not_stop_the_others(homes: Homes) -> None:
    """Nor does a file that cannot be read: all are tried, and the failures are named at the end, with their code."""
    last = bring_up("zeta")
    processes = family(last)
    homes.state.joinpath("meshes").mkdir(parents=True, exist_ok=True)
    for name in ("alpha", "beta"):
        with open(files.path_of(name), "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write("no mesh")
    assert "beta.json holds no mesh" in run("gc", code=5).output
    said = run("down", "--all", "-y", code=2).output
    assert "2 of the meshes could not be ended" in said
    assert all(f"mesh {name}: {files.path_of(name)} holds no mesh" in said for name in ("alpha", "beta"))
    assert "mesh zeta is gone" in said
    assert not living(processes)
    for name in ("alpha", "beta"):
        files.remove(name)
    nothing_is_left(homes)


@pytest.mark.rule("R30")
def test_file_that_makes_no_sense_keeps_no_mesh_alive(homes: Homes) -> None:
    """Other meshes are shown all the same; `down` finds the nodes by their marks where it is told to look."""
    processes = family(bring_up("bad"))
    bring_up("good")
    path = Path(files.path_of("bad"))
    for text in ("{bad", "[" * 100_000, Path(files.path_of("good")).read_text()):
        path.write_text(text)
        shown = run("status", code=2)
        assert "good" in shown.stdout
        assert "bad.json" in shown.stderr
        assert "say --provider and --set to look for its nodes, or --force" in run("down", "bad", code=2).output
        assert "bad.json" in run("gc", code=5).output
    assert living(processes)
    ended = run("down", "bad", *LOCAL).output
    assert "of mesh bad on this machine" in ended
    assert "removed the mesh file" in ended
    assert not living(processes)
    path.write_text("{")
    assert run("down", "bad", "--force").output.endswith("mesh bad is gone\n")
    assert "1 of 1" in run("status").output
    run("down", "good")
    nothing_is_left(homes)


@pytest.mark.rule("R30")
def test_place_that_makes_no_sense_keeps_gc_from_no_other(homes: Homes) -> None:
    """What it finds elsewhere is ended, and then it says what is wrong."""
    lost = bring_up("lost")
    processes = family(lost)
    os.unlink(files.path_of("lost"))
    files.write(files.Mesh(name="far", kind="ssh", settings={"hostfile": "/nonexistent/hosts"}))
    done = run("gc", code=2)
    assert done.stdout.endswith("1 thing ended\n")
    assert "/nonexistent/hosts" in done.stderr
    assert not living(processes)
    assert "/nonexistent/hosts" in run("down", "far", code=2).output
    assert "forgotten, with what may run on" in run("down", "far", "--force").output


@pytest.mark.rule("R30")
def test_down_can_be_forced(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be reached is forgotten, and told."""
    bring_up()

    def refuse(*_: object, **__: object) -> tuple[str, ...]:
        raise ProvisionError("out of reach")

    with monkeypatch.context() as patch:
        patch.setattr(Local, "sweep", refuse)
        assert "skyward-mesh down dev --force" in run("down", "dev", code=5).output
        assert "out of reach" in run("down", "dev", "--force").output
    nothing_is_left(homes)


@pytest.mark.rule("R33")
@pytest.mark.parametrize("how", ["gone", "stopped"])
def test_commands_do_with_the_nodes_that_answer(homes: Homes, how: str) -> None:
    """And the number of nodes that a mesh has replaces the others."""
    mesh = bring_up(nodes=2)
    if how == "gone":
        Local().terminate(mesh.nodes[1])
    with stopped(mesh.nodes[1]) if how == "stopped" else nullcontext():
        run("exec", "-m", "dev", "true")
        assert run("resize", "dev", "2").output.endswith("mesh dev has 2 nodes\n")
        assert "2 of 2 nodes answer" in run("status", "dev").output
    run("down", "dev")
