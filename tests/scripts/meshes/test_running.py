"""`skyward-mesh run`, `exec`, `keys`: the user's code and commands on the nodes of a mesh."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from skyward.meshes import files, raising
from skyward.meshes.attached import client_pair
from skyward.transport.keys import make_pair
from skyward_scripts.cli import main
from skyward_scripts.meshes import loading
from skyward_scripts.meshes.running import exit_code
from tests.meshing import bring_up, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.meshing import Homes

PROGRAM = '''
"""A program of a user."""
import sys
import skyward as sky
import helper

@sky.function
def scale(x: float, *, by: int = 2) -> float:
    """Scale a number.

    Args:
        x: The number.
        by: How much.
    """
    print("scaling", x)
    return helper.times(x, by)

def plain(text: str) -> dict[str, str]:
    return {"text": text, "where": str(sky.instance_info().node)}

@sky.function
def count(n: int):
    yield from range(n)

@sky.function
def fail(word: str):
    raise ValueError(word)

@sky.function
def quit(code: int):
    sys.exit(code)

if __name__ == "__main__":
    print(sys.argv[1:], scale(3.0) >> sky)
    if "bad" in sys.argv:
        raise RuntimeError("on purpose")
'''


@pytest.fixture(autouse=True)
def dev(homes: Homes) -> Iterator[None]:
    """Bring up a mesh of two nodes, and write a user's files."""
    (homes.work / "app.py").write_text(PROGRAM)
    (homes.work / "helper.py").write_text("def times(a, b):\n    return a * b\n")
    before = list(sys.path)
    bring_up(nodes=2)
    yield
    raising.down("dev")
    sys.path[:] = before
    for name in ("app", "helper"):
        sys.modules.pop(name, None)


def run(*arguments: str, code: int = 0) -> Result:
    """Run the command, and expect its exit code."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result


@pytest.mark.rule("R30")
def test_function_runs_with_its_parameters_as_flags(homes: Homes) -> None:
    """Marked or plain; on any node, on one, on all; what it prints comes before what it returns."""
    done = run("run", "app.py::scale", "--x", "4", "--by", "3")
    assert done.stdout.splitlines()[-1] == "12.0"
    assert any(line.endswith("] scaling 4.0") for line in done.output.splitlines())
    told = json.loads(run("run", "-m", "dev", "--on", "1", "--json", "app.py::plain", "--text", "a b").stdout)
    assert told == {"text": "a b", "where": "1"}
    everywhere = run("run", "--on", "all", "app.py::plain", "--text", "x").stdout.splitlines()
    assert everywhere == [f"node {rank}: {{'text': 'x', 'where': '{rank}'}}" for rank in (0, 1)]
    assert run("run", "app.py::count", "--n", "3").stdout == "0\n1\n2\n"
    assert run("run", "--on", "all", "app.py::count", "--n", "2").stdout == "node 0: [0, 1]\nnode 1: [0, 1]\n"


@pytest.mark.rule("R30")
def test_json_is_alone_on_stdout(homes: Homes) -> None:
    """One document: an array of all nodes, or of what a generator yields; what is printed meanwhile goes to stderr."""
    (homes.work / "app.py").write_text("print('loaded')\n" + PROGRAM)
    done = run("run", "--json", "app.py::scale", "--x", "4")
    assert json.loads(done.stdout) == 8.0
    assert "loaded\n" in done.stderr
    assert "] scaling 4.0\n" in done.stderr
    everywhere = run("run", "--on", "all", "--json", "app.py::scale", "--x", "4")
    assert json.loads(everywhere.stdout) == [8.0, 8.0]
    assert everywhere.stderr.count("] scaling 4.0\n") == 2
    assert json.loads(run("run", "--json", "app.py::count", "--n", "3").stdout) == [0, 1, 2]
    assert json.loads(run("run", "--json", "--on", "all", "app.py::count", "--n", "2").stdout) == [[0, 1], [0, 1]]
    failed = run("run", "--json", "app.py::fail", "--word", "oops", code=1)
    assert (failed.stdout, "ValueError: oops" in failed.stderr) == ("", True)


def test_result_is_printed_whatever_it_is(homes: Homes) -> None:
    """What is no JSON is its repr with --json, and what is no text as in a literal without it."""
    (homes.work / "app.py").write_text(
        "def keys():\n    return {(1, 2): float('nan'), 'b': [1.5, {2}]}\n"
        "def half():\n    return '\\ud800 ä'\n"
        "def halves():\n    yield from '\\ud800\\udcff'\n"
    )
    assert json.loads(run("run", "--json", "app.py::keys").stdout) == {"(1, 2)": "nan", "b": [1.5, "{2}"]}
    assert run("run", "app.py::half").stdout == "\\ud800 ä\n"
    assert run("run", "--on", "all", "app.py::halves").stdout.startswith("node 0: ['\\ud800', '\\udcff']\n")
    assert run("run", "app.py::halves").stdout == "\\ud800\n\\udcff\n"
    assert json.loads(run("run", "--json", "app.py::half").stdout) == "\ud800 ä"


def test_program_runs_with_the_mesh_as_its_pool(homes: Homes) -> None:
    """As `python FILE` does, with its arguments; it fails as there."""
    assert run("run", "app.py", "one", "--two").stdout.splitlines()[-1] == "['one', '--two'] 6.0"
    failed = run("run", "app.py", "bad", code=1)
    assert "RuntimeError: on purpose" in failed.output


def test_failure_of_the_function_is_shown_as_it_is(homes: Homes) -> None:
    """With the remote traceback, and exit code 1."""
    said = run("run", "app.py::fail", "--word", "oops", code=1).output
    assert "ValueError: oops" in said
    assert "raise ValueError(word)" in said
    assert "exited with code 3" in run("run", "app.py::quit", "--code", "3", code=1).output
    for function in (("app.py::scale", "--x", "1"), ("app.py::count", "--n", "1")):
        said = run("run", "--on", "7", *function, code=1).stderr
        assert said == "Error: there is no node 7: --on takes 0, 1, any, all, or head\n"
    assert "there is no node 7: --on takes 0, 1, any" in run("exec", "--on", "7", "pwd", code=1).stderr
    (homes.work / "app.py").write_text(PROGRAM.replace("scale(3.0) >>", "scale(3.0).on(7) >>"))
    assert "use .on(rank) with one of these" in run("run", "app.py", code=1).stderr


def test_mistake_before_it_runs_is_told(homes: Homes) -> None:
    """No file, no function, no mesh, flags that do not fit."""
    (homes.work / "app.py").write_text(PROGRAM + "\nfrom pathlib import Path\nLIMIT, most = 3, max\n")
    assert "there is no file 'nope.py'" in run("run", "nope.py", code=2).output
    assert "is no name of a function" in run("run", "app.py::a b", code=2).output
    there = "those marked with @sky.function are scale, count, fail, quit"
    assert there in run("run", "app.py::nope", code=2).output
    assert "'Path' in " in (said := run("run", "app.py::Path", code=2).output)
    assert f"app.py is a class, and no function that can be run: {there}" in said
    assert "is of type int, and no function that can be run" in run("run", "app.py::LIMIT", code=2).output
    assert "is of type builtin_function_or_method, and no" in run("run", "app.py::most", code=2).output
    (homes.work / "skyward.toml").touch()
    said = run("run", "skyward.toml::f", code=2).output
    assert "skyward.toml is no Python file: the name of one with functions ends in .py" in said
    said = run("run", "--json", "app.py", code=2).output
    assert "--json needs FILE::FUNCTION: a program returns nothing, it prints" in said
    assert "--on needs FILE::FUNCTION" in run("run", "--on", "all", "app.py", code=2).output
    assert "No such option '--z'" in run("run", "app.py::scale", "--z", "1", code=2).output
    assert (
        "there is no mesh 'prod'; there are dev" in run("run", "-m", "prod", "app.py::scale", "--x", "1", code=3).output
    )
    (homes.work / "bad.py").write_text("def f(: pass")
    assert "SyntaxError" in run("run", "bad.py::f", code=1).output
    for place in ("some", "-1", "1.5"):
        said = f"Invalid value for '--on': {place!r} is no place: say any, all, head, or the number of a node"
        assert said in run("run", "--on", place, "app.py", code=2).output
        assert said in run("exec", "--on", place, "pwd", code=2).output
    said = run("run", "app.py::scale", "--help").output
    assert "--x FLOAT The number. [required]" in " ".join(said.split())
    assert said.startswith("Usage: skyward-mesh run app.py::scale [OPTIONS]\n")


def test_mesh_must_be_named_when_there_are_two(homes: Homes) -> None:
    """Nobody's work goes where it was not meant to go."""
    files.claim(files.Mesh(name="other"))
    said = run("run", "app.py::scale", "--x", "1", code=3).output
    assert "there are dev, other; say which with -m NAME" in said
    files.remove("other")


def test_silent_mesh_is_unreachable(homes: Homes) -> None:
    """Exit code 6, and which node it is."""
    from skyward.providers.local import Local

    mesh = files.load("dev")
    for node in mesh.nodes:
        Local().terminate(node)
    assert "no node answers" in run("run", "app.py::scale", "--x", "1", code=6).output


def test_file_that_would_be_silent_is_refused(homes: Homes) -> None:
    """What only defines functions does nothing as a program: they are named, and how to call one; nobody is asked."""
    (homes.work / "lib.py").write_text("import sys\nLIMIT = 3\n\ndef first():\n    pass\n\ndef _own():\n    pass\n")
    said = run("run", "-m", "prod", "lib.py", code=2).output
    assert "lib.py only defines functions" in said
    assert "call one of first: skyward-mesh run lib.py::first --help" in said


@pytest.mark.rule("R30")
def test_command_runs_on_all_nodes(homes: Homes) -> None:
    """What it prints is marked with the node; the highest exit code is the command's."""
    with start("exec", "sh", "-c", "echo hello; echo there >&2; exit 3") as done:
        said, _ = done.communicate()
    assert done.returncode == 3
    assert sorted(said.splitlines()) == ["[node 0] hello", "[node 0] there", "[node 1] hello", "[node 1] there"]
    assert run("exec", "--on", "1", "true").output == ""
    assert "no-such: No such file or directory" in run("exec", "no-such", code=127).output
    run("exec", "sh", "-c", "kill -9 $$", code=137)
    assert [exit_code(code) for code in (0, 3, -9)] == [0, 3, 137]


@pytest.mark.rule("R42")
def test_others_are_let_in_and_out(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with a copy of the file and a key that was added may use the mesh, until it is removed."""
    copy = homes.root / "copy.json"
    copy.write_bytes(Path(files.path_of("dev")).read_bytes())
    copy.chmod(0o600)
    own = client_pair().public
    assert run("keys", "show").output == f"{own}\n"
    assert json.loads(run("keys", "show", "--json").output) == {"key": own}
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(homes.root / "guest"))
        guest = run("keys", "show").output.strip()
        assert "does not admit our key" in run("run", "-m", str(copy), "app.py::scale", "--x", "1", code=6).output
    run("keys", "add", guest, "guest")
    assert run("keys", "list").output == f"{guest} guest\n"
    assert json.loads(run("keys", "list", "--json").output) == [{"key": guest, "label": "guest", "nodes": [0, 1]}]
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(homes.root / "guest"))
        assert until_admitted(str(copy)) == "2.0"
    run("keys", "remove", "guest")
    assert run("keys", "list").output == ""
    assert "no client 'guest' is admitted" in run("keys", "remove", "guest", code=1).output
    assert "is no key" in run("keys", "add", "short", code=2).output
    assert make_pair().public != own


def until_admitted(copy: str) -> str:
    """Return what a function prints, once the nodes have looked at their lists."""
    while True:
        result = CliRunner().invoke(main, ["run", "-m", copy, "app.py::scale", "--x", "1"])
        if result.exit_code == 0:
            return result.stdout.splitlines()[-1]
        assert result.exit_code == 6, result.output


def test_file_of_a_package_is_imported_as_a_part_of_it(homes: Homes) -> None:
    """Its relative imports work."""
    package = homes.work / "pack"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text("from .two import two\n\ndef three():\n    return two() + 1\n")
    (package / "two.py").write_text("def two():\n    return 2\n")
    assert run("run", "pack/one.py::three").stdout == "3\n"
    assert loading.load(str(package / "one.py")).__name__ == "pack.one"
    for name in ("pack", "pack.one", "pack.two"):
        sys.modules.pop(name, None)
    assert os.getcwd() == str(homes.work)
