"""The commands in a terminal: tables, and what is waited for, without a trace of it in what is left."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from skyward.meshes import files
from tests.meshing import COMMAND, bring_up, nothing_is_left
from tests.scripts.meshes.terminal import Terminal

if TYPE_CHECKING:
    from tests.meshing import Homes


@pytest.mark.rule("R30")
def test_mesh_lives_in_a_terminal(homes: Homes) -> None:
    """What is waited for is shown and goes; tables are coloured; whoever is asked answers."""
    up = Terminal([*COMMAND, "up", "dev", "--provider", "local", "-n", "2"])
    left = up.end(code=0)
    assert re.search(r"waiting for \d node", up.sent)
    assert left[0] == "mesh dev: 2 nodes of sky.Local(transport='tcp'), 1 task at once each"
    assert sorted(line[:14] for line in left[1:3]) == ["node 0 serves ", "node 1 serves "]
    assert left[3:] == ['mesh dev is up: sky.Compute(mesh="dev"), skyward-mesh run -m dev; then: down dev']
    status = Terminal([*COMMAND, "status", "dev"])
    left = status.end(code=0)
    assert "\x1b[32mup" in status.sent
    assert left[1].split() == ["node", "state", "slots", "running", "queued", "ping", "host", "endpoint"]
    assert [line.split()[:3] for line in left[2:]] == [["0", "up", "1"], ["1", "up", "1"]]
    for answer, code, last in ((b"n\n", 7, "Error: nothing was ended"), (b"y\n", 0, "mesh dev is gone")):
        assert files.known() == ("dev",)
        down = Terminal([*COMMAND, "down", "dev"])
        down.wait_for("end dev? [y/N]: ")
        down.type(answer)
        assert down.end(code)[-1] == last
    nothing_is_left(homes)


@pytest.mark.rule("R30")
@pytest.mark.parametrize("width", [160, 80])
def test_keys_can_be_copied(homes: Homes, width: int) -> None:
    """Whole, however narrow the terminal is: what does not fit beside the rest has a line of its own."""
    mesh = bring_up(nodes=2)
    left = Terminal([*COMMAND, "nodes", "dev"], size=(60, width)).end(code=0)
    rows = [[str(number), node.ident, node.endpoint, node.public_key] for number, node in enumerate(mesh.nodes)]
    if width > 80:
        assert [line.split() for line in left[1:]] == rows
    else:
        names = ["node      ", "ident     ", "endpoint  ", "public key"]
        blocks = [[f"{name}  {cell}" for name, cell in zip(names, row, strict=True)] for row in rows]
        assert left == [*blocks[0], "", *blocks[1]]


@pytest.mark.rule("R30")
def test_ctrl_c_in_a_terminal_rolls_back(homes: Homes) -> None:
    """As soon as it waits for nodes: exit code 130, the spinner is gone, and so is everything else."""
    up = Terminal([*COMMAND, "up", "dev", "--provider", "local", "-n", "2"])
    up.wait_for("waiting for 2 nodes")
    up.type(b"\x03")
    left = up.end(code=130)
    assert left[-1].endswith("interrupted")
    assert any("interrupted: ending what was started" in line for line in left)
    nothing_is_left(homes)
