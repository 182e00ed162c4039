"""`skyward-mesh keys`: keys as the arguments of commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from skyward.meshes import raising
from skyward.transport.keys import LENGTH
from skyward_scripts.cli import main
from skyward_scripts.meshes.admitting import add, remove
from tests.meshing import bring_up

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
