"""`skyward-mesh keys`: keys as the arguments of commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import skyward as sky
from skyward.meshes import asking, files, raising
from skyward.meshes.attached import client_pair
from skyward.transport.keys import LENGTH
from skyward_scripts.cli import main
from skyward_scripts.meshes.admitting import add, remove
from tests.meshing import bring_up
from tests.rules.work import hold, runs, until

if TYPE_CHECKING:
    from tests.meshing import Homes

LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
DASHED = "-)^EUjS@@Puur2LGZ[a1EFLmmB>5X!^Yo/Q0+IuM"
beginnings = st.sampled_from(["-", "-m", "--", "-h", "--mesh", "--m=", "-="])
keys = beginnings.flatmap(
    lambda beginning: st.text(LETTERS, min_size=LENGTH - len(beginning), max_size=LENGTH - len(beginning)).map(
        beginning.__add__
    )
).filter(lambda key: not key.startswith("--mesh="))


@pytest.mark.rule("R42")
@given(keys, st.sampled_from([[], ["-m", "dev"], ["-mdev"], ["--mesh", "dev"], ["--mesh=dev"]]), st.booleans())
def test_key_that_begins_with_a_dash_is_no_option(key: str, mesh: list[str], first: bool) -> None:
    """Whatever letters it has; options stand before or behind it."""
    name = "dev" if mesh else None
    for command, words, more in ((add, [key, "ann"], {"label": "ann"}), (remove, [key], {})):
        arguments = [*mesh, *words] if first else [*words, *mesh]
        assert command.make_context("keys", arguments).params == {"mesh": name, "key": key, **more}


@pytest.mark.rule("R42")
def test_client_is_shut_out_of_a_mesh_that_it_keeps_busy(
    homes: Homes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is no task of its own: it waits for no slot. What the client runs is killed."""
    mesh = bring_up()
    copy = homes.root / "copy.json"
    copy.write_bytes(Path(files.path_of("dev")).read_bytes())
    copy.chmod(0o600)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(homes.root / "guest"))
        guest = client_pair()
        assert invoke("keys", "add", guest.public, "guest", home=homes.root / "config") == ""
        until(lambda: asking.ask(mesh.nodes, guest)[0].ok)
        with sky.Compute(mesh=str(copy), node_wait=1.0) as pool:
            held = [hold(str(tmp_path), str(i)) > pool for i in range(3)]
            runs(tmp_path, "0")
            assert invoke("keys", "list", home=homes.root / "config") == f"{guest.public} guest\n"
            assert invoke("keys", "remove", "guest", home=homes.root / "config") == ""
            for future in held:
                with pytest.raises(sky.SkywardError):
                    future.result()
    [report] = asking.ask(mesh.nodes, client_pair())
    assert (report.running, report.queued) == (0, 0)


def invoke(*arguments: str, home: Path) -> str:
    """Return what the owner's command prints."""
    result = CliRunner().invoke(main, arguments, env={"XDG_CONFIG_HOME": str(home)})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.rule("R42")
def test_key_that_begins_with_a_dash_is_let_in_and_out(homes: Homes) -> None:
    """By the nodes of a mesh."""
    bring_up()
    for arguments, said in (
        (["add", DASHED, "ann", "-m", "dev"], ""),
        (["list"], f"{DASHED} ann\n"),
        (["remove", DASHED], ""),
        (["list"], ""),
    ):
        result = CliRunner().invoke(main, ["keys", *arguments])
        assert (result.exit_code, result.output) == (0, said)
    raising.down("dev")
