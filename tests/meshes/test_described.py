"""`skyward.toml`: what is read from it, and how mistakes are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import skyward as sky
from skyward.errors import ConfigError, UnknownMeshError
from skyward.meshes import described
from skyward.meshes.described import File, line_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.meshing import Homes

WHOLE = """
[mesh.dev]
provider = "local"
nodes = [2, 8]

[mesh.dev.local]
transport = "tcp"

[mesh.dev.image]
pip = ["numpy>=2"]
env = {MODE = "fast"}

[mesh.dev.options]
concurrency = 4
retries = 0

[mesh.small]
"""


def test_description_says_all_that_a_pool_needs() -> None:
    """Provider, its arguments, nodes, image and options."""
    file = File(WHOLE, "/x/skyward.toml")
    assert file.names == ("dev", "small")
    said = file.mesh("dev")
    assert (said.name, said.kind, said.place) == ("dev", "local", "/x/skyward.toml")
    assert said.nodes == sky.Nodes(2, 2, 8)
    assert said.image == sky.Image(pip=["numpy>=2"], env={"MODE": "fast"})
    assert said.options == {"concurrency": 4, "retries": 0}
    assert repr(said.provider()) == "sky.Local(transport='tcp')"


def test_description_may_be_empty() -> None:
    """Nodes of this machine, as many as it has CPUs."""
    said = File(WHOLE, "f").mesh("small")
    assert (said.kind, said.nodes, said.settings, said.options) == ("local", None, {}, {})
    assert said.image.is_empty


@pytest.mark.parametrize(("nodes", "expected"), [("3", (3, 3, 3)), ("[1, 4]", (1, 1, 4)),
    ("{desired = 2, min = 1, max = 4}", (2, 1, 4))])  # fmt: skip
def test_nodes_may_be_said_in_three_ways(nodes: str, expected: tuple[int, int, int]) -> None:
    """A number, min and max, or all three."""
    made = File(f"[mesh.a]\nnodes = {nodes}", "f").mesh("a").nodes
    assert made is not None
    assert (made.desired, made.least, made.most) == expected


SSH = "[mesh.a]\nprovider = 'ssh'\n[mesh.a.ssh]\nhosts = ['h1']\n"
MISTAKES = [
    ("x = ", "f is no TOML: .*line 1"),
    (f"x = {'[' * 5_000}{']' * 5_000}", "f makes no sense: its values are nested too deeply"),
    ("[mesh.a]\n[mesh.a]", "f is no TOML: .*line 2"),
    ("[meshes.a]", r"f, line 1: meshes means nothing; did you mean 'mesh'\?"),
    ("mesh = 3", r"f, line 1: mesh must be a table, such as \[mesh\], got 3"),
    ("[mesh]\na = 3", r"f, line 2: mesh.a must be a table, such as \[mesh.a\], got 3"),
    ("\n[mesh.a]\nprovider = 'gcp'", "f, line 3: mesh.a.provider must be one of .*local.*, got 'gcp'"),
    ("[mesh.a]\nnods = 2", r"f, line 2: mesh.a.nods means nothing; did you mean 'nodes'\?"),
    ("[mesh.a]\n# nodes\nnodes = 0", "f, line 3: mesh.a.nodes is wrong: .*at least one node"),
    ("[mesh.a]\nnodes = [4, 2]", "f, line 2: mesh.a.nodes is wrong: nodes must satisfy"),
    ("[mesh.a]\nnodes = {min = 2}", "f, line 2: mesh.a.nodes needs desired"),
    ("[mesh.a]\nnodes = {desired = 2, mx = 3}", r"f, line 2: mesh.a.nodes.mx means nothing; did you mean 'max'\?"),
    ("[mesh.a.local]\ntransprt = 'tcp'", r"line 2: mesh.a.local.transprt is no setting of sky.Local; did you mean"),
    ("[mesh.a.local]\ntransport = 'udp'", "line 1: mesh.a.local is wrong: .*'ipc' or 'tcp', got 'udp'"),
    ("[mesh.a]\nprovider = 'static'", "line 1: mesh.a.static.nodes is missing: sky.Static needs it"),
    ("[mesh.a.ssh]\nhosts = []", "line 1: mesh.a.ssh means nothing"),
    ("[mesh.a.image]\npipe = []", r"line 2: mesh.a.image.pipe means nothing; did you mean 'pip'\?"),
    ("[mesh.a.image]\npip = ['=']", "line 1: mesh.a.image is wrong: pip has '='"),
    ("[mesh.a.options]\nretrys = 1", "line 1: mesh.a.options is wrong: .*retries"),
    ("[mesh.a.options]\nnodes = 3", "mesh.a.options is wrong: 'nodes' is no option: it stands beside the options"),
    ("[mesh.a.options]\nmesh = 'x'", "mesh.a.options is wrong: 'mesh' is no option: it stands beside the options"),
    (f"{SSH}ssh_config = 5", "line 3: mesh.a.ssh is wrong: .*: ssh_config must be the path of a file, got 5"),
    (f"{SSH}user = 3", "line 3: mesh.a.ssh is wrong: .*: user=3 makes no sense: it must be a string"),
    ("[mesh.'a b']", "line 1: mesh.a b is wrong: 'a b' is no name of a mesh"),
]  # fmt: skip


@pytest.mark.rule("R30")
@pytest.mark.parametrize(("text", "complaint"), MISTAKES)
def test_mistake_is_told_with_file_line_and_key(text: str, complaint: str) -> None:
    """Whatever is wrong, the reader knows where to look."""

    def read() -> None:
        file = File(text, "f")
        for name in file.names:
            file.mesh(name)

    with pytest.raises(ConfigError, match=complaint):
        read()


def test_mistake_in_one_mesh_is_none_of_another() -> None:
    """Who wants a mesh that is described well gets it."""
    assert File("[mesh.good]\n[mesh.bad]\nnodes = 0", "f").mesh("good").name == "good"


def test_line_is_that_of_the_longest_part_that_is_there() -> None:
    """Keys may be dotted, quoted, or in a table within a line."""
    text = "[mesh.a]\nlocal.transport = 'x'\n'options' = {a = 1}\n[mesh.\"b\".image]  # here\npip = []"
    assert line_of(text, ("mesh", "a", "local", "transport")) == 2
    assert line_of(text, ("mesh", "a", "options", "a")) == 3
    assert line_of(text, ("mesh", "b", "image", "env")) == 4
    assert line_of(text, ("mesh", "b", "image", "pip")) == 5
    assert line_of(text, ("other",)) == 0


def test_nearest_file_counts_and_then_the_users(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the working directory or above; what is not there may be in the user's own."""
    homes.describe("[mesh.a]\nnodes = 2")
    own = homes.root / "config" / "skyward"
    own.mkdir(parents=True)
    (own / "skyward.toml").write_text("[mesh.a]\nnodes = 3\n[mesh.b]\nnodes = 4")
    below = homes.work / "deep" / "er"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert described.places() == [str(homes.work / "skyward.toml"), str(own / "skyward.toml")]
    assert [described.load(name).nodes for name in "ab"] == [sky.Nodes(2), sky.Nodes(4)]
    assert {said.name: said.nodes for said in described.load_all()} == {"a": sky.Nodes(2), "b": sky.Nodes(4)}


def test_unknown_name_is_told_with_the_known_ones(homes: Homes) -> None:
    """And with the files that were looked at."""
    path = homes.describe("[mesh.b]\n[mesh.a]")
    with pytest.raises(UnknownMeshError) as caught:
        described.load("c", "do something")
    assert str(caught.value) == f"there is no mesh 'c'; there are a, b; looked in {path}; do something"
    assert (caught.value.name, caught.value.known) == ("c", ("a", "b"))


def test_without_a_file_that_is_said(homes: Homes) -> None:
    """The first step of a beginner."""
    with pytest.raises(UnknownMeshError, match=f"no skyward.toml in {homes.work} or above"):
        described.load("c")


def test_files_are_named_from_where_the_description_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path of a provider's works from every directory."""
    monkeypatch.setattr("skyward.providers.static.Static.paths", ("key",))
    text = "[mesh.a]\nprovider = 'static'\n[mesh.a.static]\nnodes = ['ipc:///x']\nkey = 'my.key'"
    assert File(text, str(tmp_path / "skyward.toml")).mesh("a").settings["key"] == str(tmp_path / "my.key")


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A directory in its place, or bytes that are no text."""
    (tmp_path / "bytes").write_bytes(b"\xff")
    for path in (tmp_path, tmp_path / "bytes"):
        with pytest.raises(ConfigError, match=f"cannot read {path}"):
            File.read(str(path))
