"""The command ``skyward-mesh bench``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from skyward_scripts.bench.catalogue import PEER_NAMES, PEERS
from skyward_scripts.bench.environments import Environments, InstallError, _own, directory_name, own
from skyward_scripts.bench.results import from_json
from skyward_scripts.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture(autouse=True)
def no_environment_of_ours(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Have skyward run where the tests do, which installs nothing."""
    if "slow" not in request.keywords:
        monkeypatch.setattr("skyward_scripts.bench.environments.own", tuple)


def run(*arguments: str) -> Result:
    """Run the command with these arguments."""
    return CliRunner().invoke(main, ["bench", "--quick", *arguments])


def test_bench_measures_and_reports(tmp_path: Path) -> None:
    """The report has tables and targets, and the file has the same figures."""
    file = tmp_path / "figures.json"
    chosen = ("--workload", "import", "--workload", "futures", "--peer", "multiprocessing", "--json", str(file))
    result = run(*chosen)
    assert result.exit_code == 0, result.output
    assert "futures: independent no-op calls, a future each (more is better)" in result.stdout
    assert "≥ 2 × multiprocessing" in result.stdout
    assert "futures 1/1: skyward-tcp" in result.stderr
    found = from_json(json.loads(file.read_text(encoding="utf-8")))
    assert set(found.showings) == {"futures", "import"}
    assert set(found.showings["futures"]) == {"skyward", "skyward-main", "skyward-tcp", "multiprocessing"}
    assert all(showing.turns and not showing.failure for showing in found.showings["futures"].values())
    assert found.facts["environments"] == {}


def test_bench_refuses_what_it_does_not_know() -> None:
    """A mistyped name is wrong usage, and the names there are are shown."""
    result = run("--workload", "lonely")
    assert result.exit_code == 2
    assert "'lone'" in result.output


def test_failure_of_ours_is_a_failure_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures without skyward are none."""
    monkeypatch.setattr("skyward_scripts.bench.rounds.launches.import_it", _fail)
    result = run("--workload", "import", "--peer", "none")
    assert result.exit_code == 1
    assert "import: skyward: nothing works" in result.stdout


def _fail(*_: object) -> None:
    from skyward_scripts.bench.session import ContestantError

    raise ContestantError("nothing works")


def test_environment_is_made_once(tmp_path: Path) -> None:
    """A failure is remembered as well as a success; without requirements the interpreter is ours."""
    made = Environments(str(tmp_path / "cache"))
    with pytest.raises(InstallError):
        made.python(("no such==requirement",))
    with pytest.raises(InstallError):
        made.python(("no such==requirement",))
    assert made.versions() == {}
    assert directory_name(("a==1",)) != directory_name(("a==2",))
    assert directory_name(("a==1",)).startswith("a-")


def test_environment_of_ours_has_what_a_user_has() -> None:
    """The tree that somebody works on, and what it needs; whatever else is installed is used as it is."""
    versions = {"pyzmq": "27.1", "numpy": "2.4"}
    tree = '{"url": "file:///a%20tree", "dir_info": {"editable": true}}'
    assert _own(tree, versions) == ("--editable=/a tree", "pyzmq==27.1", "numpy==2.4")
    assert directory_name(_own(tree, versions)).startswith("skyward-")
    assert _own('{"url": "https://somewhere/skyward.whl", "archive_info": {}}', versions) == ()
    assert _own(None, versions) == ()
    assert {need.partition("==")[0] for need in own()[1:]} >= {"pyzmq", "msgspec", "cloudpickle", "numpy"}


def test_skyward_is_measured_without_an_environment_of_its_own(tmp_path: Path) -> None:
    """If none can be made, as where there is no index."""
    made = Environments(str(tmp_path), ("--editable=/nowhere", "no such==requirement"))
    assert made.python(()) == sys.executable
    assert made.versions() == {}


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("peer", PEER_NAMES)
def test_peer_does_all_workloads(peer: str, tmp_path: Path) -> None:
    """Each peer can be installed, started, and measured in whatever it takes part in."""
    file = tmp_path / "figures.json"
    result = run("--peer", peer, "--json", str(file))
    assert result.exit_code == 0, result.output
    found = from_json(json.loads(file.read_text(encoding="utf-8")))
    assert found.failures(entry.name for entry in PEERS) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_chart_is_drawn(tmp_path: Path) -> None:
    """matplotlib, in an environment of its own, writes a PNG."""
    file = tmp_path / "figures.png"
    result = run("--workload", "import", "--peer", "none", "--png", str(file))
    assert result.exit_code == 0, result.output
    assert file.read_bytes().startswith(b"\x89PNG")
