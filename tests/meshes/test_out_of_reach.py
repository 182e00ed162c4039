"""Meshes of which something cannot be reached: they keep no name that is not needed, and are mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward.errors import ProvisionError
from skyward.meshes import asking, files, raising
from skyward.meshes.attached import client_pair
from skyward.providers.base import Launched, LaunchSpec, Quote
from skyward.providers.local import Local
from tests.meshes.test_raising import Notes, Stubborn
from tests.meshing import bring_up, nothing_is_left, with_provider

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection

    from tests.meshing import Homes


class Unreachable(Local):
    """No node starts, and nothing can be looked for; it may say that there is nothing to look for."""

    def __init__(self, *, untouched: bool) -> None:
        super().__init__("tcp")
        self._untouched = untouched

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Fail."""
        raise ProvisionError("nobody listens there")

    def sweep(self, mesh: str = "", *, keep: Collection[str] = (), dry_run: bool = False) -> tuple[str, ...]:
        """Fail."""
        raise ProvisionError("out of reach")

    def undo(self, mesh: str) -> tuple[str, ...]:
        """Have nothing to do, or try."""
        return () if self._untouched else super().undo(mesh)


@pytest.mark.rule("R30")
def test_place_that_no_launch_has_reached_is_not_swept(homes: Homes) -> None:
    """What cannot be reached keeps no name: the error is the first, and nothing is left."""
    with pytest.raises(ProvisionError) as caught:
        raising.up(with_provider(Unreachable(untouched=True)))
    assert str(caught.value) == "nobody listens there"
    nothing_is_left(homes)


@pytest.mark.rule("R30")
def test_what_may_be_left_is_told_and_can_be_forgotten(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first error, what may be left, and what to do; the file stays until it is ended, or is not wanted."""
    with pytest.raises(ProvisionError, match=r"(?s)nobody listens there.*out of reach.*down dev --force"):
        raising.up(with_provider(Unreachable(untouched=False)))
    assert files.load("dev").state == "ending"
    monkeypatch.setattr("skyward.meshes.raising.provider_of", lambda _: Unreachable(untouched=True))
    with pytest.raises(ProvisionError, match=r"(?s)out of reach.*down dev --force"):
        raising.down("dev")
    notes = Notes()
    raising.down("dev", notes, force=True)
    assert notes.lines == ["forgotten, with what may run on: cannot look for what is left of mesh 'dev': out of reach"]
    nothing_is_left(homes)


@pytest.mark.rule("R30")
def test_force_ends_what_can_be_ended(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """And tells which node is forgotten."""
    mesh = bring_up(nodes=2)
    end = Local.terminate

    def terminate(provider: Local, node: Launched) -> None:
        if node == mesh.nodes[0]:
            raise ProvisionError("it does not end")
        end(provider, node)

    notes = Notes()
    with monkeypatch.context() as patch:
        patch.setattr(Local, "terminate", terminate)
        patch.setattr(Local, "sweep", Unreachable.sweep)
        raising.down("dev", notes, force=True)
    assert files.known() == ()
    assert f"ended node {mesh.nodes[1].ident}" in notes.lines
    assert f"{mesh.nodes[0].ident}: it does not end" in notes.lines[-1]
    end(Local(), mesh.nodes[0])
    nothing_is_left(homes)


@pytest.mark.rule("R33")
@pytest.mark.parametrize("count", [2, 3])
def test_silent_nodes_are_replaced(homes: Homes, count: int) -> None:
    """When a mesh is given as many nodes as it has, or more; those that answer stay."""
    mesh = bring_up(nodes=2)
    Local().terminate(mesh.nodes[0])
    assert raising.growth("dev", count) == Quote()
    mended = raising.resize("dev", count)
    assert mended == files.load("dev")
    assert mended.nodes[0] == mesh.nodes[1]
    assert [report.ok for report in asking.ask(mended.nodes, client_pair())] == [True] * count
    assert (mended.wanted, mended.number) == (count, count + 1)


@pytest.mark.rule("R33")
def test_silent_node_that_cannot_be_ended_leaves_the_mesh_up(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, nothing is started for it, and pools go on with the others."""
    mesh = bring_up(nodes=2)
    Local().terminate(mesh.nodes[0])
    with monkeypatch.context() as patch:
        patch.setattr("skyward.meshes.raising.provider_of", lambda _: Stubborn("tcp"))
        with pytest.raises(ProvisionError, match=f"resize dev N.*\n  {mesh.nodes[0].ident}: it does not end"):
            raising.resize("dev", 2)
    assert files.load("dev") == mesh
    assert raising.resize("dev", 1).nodes == mesh.nodes[1:]
