"""`skyward-mesh doctor`: what it looks at besides the machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from click.testing import CliRunner

from skyward.meshes import files, raising
from skyward.providers.local import Local
from skyward_scripts.cli import main
from skyward_scripts.meshes.diagnosis import check_meshes
from tests.meshing import bring_up

if TYPE_CHECKING:
    from tests.meshing import Homes


def texts() -> dict[str, str]:
    """Return what is wrong, by its name."""
    return {finding.name: f"{finding.text}; {finding.advice}" for finding in check_meshes() if not finding.ok}


def test_doctor_is_content_with_what_is_well(homes: Homes) -> None:
    """The machine, the keys, what is described, and a mesh whose nodes answer."""
    without = f"ok    skyward.toml    there is none in {homes.work} or above: none is needed\n"
    assert without in CliRunner().invoke(main, ["doctor"]).output
    homes.describe("")
    assert f"skyward.toml    no mesh in {homes.work}/skyward.toml" in CliRunner().invoke(main, ["doctor"]).output
    homes.describe("[mesh.a]")
    bring_up()
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "ok    mesh dev        1 of 1 nodes answer" in result.output
    assert f"ok    skyward.toml    a in {homes.work}/skyward.toml" in result.output
    assert result.output.endswith("all is well\n")
    told = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).output)
    assert told["ok"] is True
    assert {"node", "your key", "skyward.toml", "ssh", "aws", "mesh dev"} <= {row["name"] for row in told["findings"]}
    raising.down("dev")


def test_doctor_finds_what_is_wrong(homes: Homes) -> None:
    """Files that make no sense or are loose, meshes that are silent or half-way, and what lies about."""
    mesh = bring_up()
    Local().terminate(mesh.nodes[0])
    files.claim(files.Mesh(name="half", state="starting"))
    files.claim(files.Mesh(name="loose"))
    Path(files.path_of("loose")).chmod(0o666)
    path = homes.describe("[mesh.a]\nnodes = 0")
    stray = f"{files.home()}/x.txt"
    with open(stray, "w"):
        pass
    found = texts()
    assert found["mesh dev"] == "node 0 does not answer: Connection refused; skyward-mesh status dev"
    assert "it is starting" in found["mesh half"]
    assert "chmod 0600" in found["mesh loose"]
    assert f"{path}, line 2" in found["skyward.toml"]
    assert f"remove {stray}" in found["mesh files"]
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "FAIL  mesh dev        node 0 does not answer" in result.output
    assert result.output.endswith("not all is well\n")
