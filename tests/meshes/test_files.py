"""Mesh files: what they hold, whom they let read, who may change them."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from skyward.errors import ConfigError, MeshExistsError, UnknownMeshError
from skyward.meshes import files
from skyward.meshes.described import check_name
from skyward.meshes.files import Mesh
from skyward.providers.base import Launched
from skyward.transport.keys import make_pair

if TYPE_CHECKING:
    from tests.meshing import Homes

KEY = make_pair().public
NODE = Launched(ident="local-1-2-a", endpoint="tcp://127.0.0.1:7700", public_key=KEY, pid=1, death_fd=9)
MESH = Mesh(name="dev", kind="local", nodes=(NODE,), wanted=1, created=1.5, options={"retries": 0})


def test_what_is_written_is_read_again(homes: Homes) -> None:
    """All but the descriptor, which means nothing to another process."""
    files.claim(MESH)
    found = files.load("dev")
    assert found.nodes[0].death_fd is None
    assert (found.name, found.nodes[0].ident, found.nodes[0].public_key, found.created) == (
        "dev", "local-1-2-a", KEY, 1.5,
    )  # fmt: skip
    assert found == files.read(files.path_of("dev"))
    assert files.known() == ("dev",)


@pytest.mark.rule("R42")
def test_file_is_its_owners_alone(homes: Homes) -> None:
    """Mode 0600, in a directory of mode 0700, whatever the umask is."""
    mask = os.umask(0)
    try:
        files.claim(MESH)
        files.write(MESH)
    finally:
        os.umask(mask)
    path = files.path_of("dev")
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700


@pytest.mark.rule("R42")
def test_file_that_others_could_read_is_refused(homes: Homes) -> None:
    """With what mends it: its owner, and no other, says whom we trust."""
    files.claim(MESH)
    path = files.path_of("dev")
    os.chmod(path, 0o640)
    with pytest.raises(ConfigError, match=f"file {path} has mode 0640 .*mesh files must be .*chmod 0600 {path}"):
        files.load("dev")
    os.chmod(path, 0o600)
    Path(files.home()).chmod(0o755)
    with pytest.raises(ConfigError, match=f"directory {files.home()} has mode 0755 .*chmod 0700"):
        files.load("dev")


@pytest.mark.rule("R42")
def test_file_elsewhere_must_be_safe_from_others(tmp_path: Path) -> None:
    """They may look into its directory, but change nothing there."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"name": "m", "nodes": [{"endpoint": "tcp://h:1", "public_key": KEY}]}))
    path.chmod(0o600)
    tmp_path.chmod(0o755)
    assert files.load(str(path)).nodes[0].ident == "tcp://h:1"
    tmp_path.chmod(0o775)
    with pytest.raises(ConfigError, match="chmod go-w"):
        files.load(str(path))
    tmp_path.chmod(0o755)


def test_file_may_be_written_by_hand_as_toml(tmp_path: Path) -> None:
    """Name and nodes are enough to attach."""
    path = tmp_path / "lab.toml"
    path.write_text(f"name = 'lab'\n[[nodes]]\nendpoint = 'tcp://10.0.0.5:7700'\npublic_key = '{KEY}'\n")
    path.chmod(0o600)
    mesh = files.load(str(path))
    assert (mesh.name, mesh.kind, mesh.state, len(mesh.nodes)) == ("lab", "static", "up", 1)


BAD: list[tuple[Any, str]] = [
    ("{", "p holds no mesh: "),
    ([], "p holds no mesh: it must be an object"),
    ({"nodes": []}, "p: name is missing"),
    ({"name": "a"}, "p: nodes is missing"),
    ({"skyward": 9, "name": "a", "nodes": []}, "p: skyward is 9, and this version knows 1"),
    ({"name": "a", "nodes": [], "nods": 1}, "p: nods means nothing"),
    ({"name": 1, "nodes": []}, "p: name is wrong: 1"),
    ({"name": "a", "nodes": [], "wanted": True}, "p: wanted is wrong: True"),
    ({"name": "a", "nodes": [], "state": "gone"}, "p: state must be one of"),
    ({"name": "a", "nodes": [3]}, r"p: nodes\[0\] must be an object"),
    ({"name": "a", "nodes": [{"endpoint": "tcp://h:1"}]}, r"p: nodes\[0\] is wrong: .*needs its public key"),
    ({"name": "a", "nodes": [{"endpoint": "x"}]}, r"p: nodes\[0\] is wrong: .*is no node"),
    ({"name": "a", "nodes": [{"endpoint": "tcp://h:1", "public_key": KEY, "pid": "1"}]}, r"nodes\[0\].pid is wrong"),
    ({"name": "a", "nodes": [{"endpoint": "tcp://h:1", "key": KEY}]}, r"nodes\[0\].key means nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "complaint"), BAD, ids=range(len(BAD)))
def test_file_that_makes_no_sense_is_told_with_the_key(homes: Homes, data: Any, complaint: str) -> None:
    """It may have been written by hand, or by another version."""
    path = homes.work / "p.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    path.chmod(0o600)
    homes.work.chmod(0o700)
    with pytest.raises(ConfigError, match=complaint.replace("p", str(path), 1) if complaint[0] == "p" else complaint):
        files.load("./p.json")


@pytest.mark.rule("R30")
def test_unknown_mesh_is_told_with_the_known_ones(homes: Homes) -> None:
    """And how to make one."""
    files.claim(MESH)
    with pytest.raises(UnknownMeshError) as caught:
        files.load("prod")
    assert str(caught.value) == "there is no mesh 'prod'; there are dev; `skyward-mesh up prod` makes one"


@pytest.mark.rule("R30")
def test_name_is_taken_once(homes: Homes) -> None:
    """By the faster of two commands."""
    files.claim(MESH)
    with pytest.raises(MeshExistsError, match="a mesh 'dev' is there already; `skyward-mesh status dev`"):
        files.claim(MESH)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "-x", "a" * 64, "ü"])
def test_name_is_checked(homes: Homes, name: str) -> None:
    """It is the name of a file, and a word of a command line."""
    with pytest.raises(ConfigError, match="is no name of a mesh"):
        check_name(name)


def test_one_command_at_a_time_changes_a_mesh(homes: Homes) -> None:
    """Another is told; a third gets its turn when the first has ended; nothing is left of the lock."""
    with files.locked("dev"):
        with pytest.raises(MeshExistsError, match="another command is changing it"), files.locked("dev"):
            pass
        with files.locked("other"):
            pass
    with files.locked("dev"):
        assert os.listdir(files.home()) == [".dev.lock"]
    assert os.listdir(files.home()) == []


def test_lock_of_a_file_that_was_removed_is_none(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opened it before its holder removed it locks the next one instead: else two would hold one."""
    flock, path = fcntl.flock, f"{files.home()}/.dev.lock"

    def late(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        os.unlink(path)  # as its holder does at that moment
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with files.locked("dev"), pytest.raises(MeshExistsError), files.locked("dev"):
        pass
