"""Meshes whose `resize` was killed, and files of meshes that make no sense: nothing runs on that nobody can end."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from skyward.meshes import collecting, files, raising
from skyward.meshes.launches import Launches
from skyward.providers.base import Launched
from skyward.providers.local import Local
from tests.meshes.test_raising import Notes
from tests.meshing import bring_up, killed, nothing_is_left

if TYPE_CHECKING:
    import threading

    from skyward.providers.base import LaunchSpec
    from tests.meshing import Homes

GROW = """
import sys
from skyward.meshes import raising
from tests.meshes.test_growing import Unnoted
raising.provider_of = lambda mesh: Unnoted(int(sys.argv[1]))
raising.resize("dev", 2)
"""


@pytest.mark.rule("R30")
def test_interrupt_before_a_node_is_noted_takes_it_back(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has come, and its command has heard so, at that moment."""
    note, struck = Launches._note, list[Launched]()

    def interrupt(self: Launches, node: Launched) -> None:
        if not struck:
            struck.append(node)
            raise KeyboardInterrupt
        note(self, node)

    mesh = bring_up()
    with monkeypatch.context() as patch:
        patch.setattr(Launches, "_note", interrupt)
        with pytest.raises(KeyboardInterrupt):
            raising.resize("dev", 3)
    assert struck
    assert files.load("dev").nodes == mesh.nodes
    assert len(Local().sweep("dev", dry_run=True)) == 1


class Unnoted(Local):
    """Says on a descriptor that a node serves, and does not return."""

    def __init__(self, fd: int) -> None:
        super().__init__("tcp")
        self._fd = fd

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Start it, and hold."""
        launched = super().launch(spec, index, cancelled)
        os.write(self._fd, b"x")
        cancelled.wait()
        return launched


@pytest.mark.rule("R33")
@pytest.mark.parametrize("how", ["gc", "resize", "down"])
def test_killed_resize_leaves_what_others_find(homes: Homes, how: str) -> None:
    """The file says that the mesh was growing: nodes of it that the file does not name are ended, and no others."""
    mesh = bring_up()
    with killed(GROW):
        assert collecting.collect([Local()], dry_run=True) == []  # it is at it
    assert (files.load("dev").state, files.load("dev").nodes) == ("growing", mesh.nodes)
    with sky.Compute(mesh="dev") as pool:  # what serves serves on
        assert pool.current_nodes() == 1
    [lost] = Local().sweep("dev", keep=[mesh.nodes[0].ident], dry_run=True)
    if how == "down":
        raising.down("dev")
        nothing_is_left(homes)
        return
    if how == "gc":
        assert collecting.collect([Local()], dry_run=True) == [lost]
        assert collecting.collect([Local()]) == [lost]
        assert collecting.collect([Local()]) == []
    else:
        notes = Notes()
        raising.resize("dev", 1, notes)
        assert notes.lines[0].startswith(f"ended {lost}")
    assert files.load("dev") == replace(mesh, number=2)
    assert len(Local().sweep("dev", dry_run=True)) == 1


@pytest.mark.rule("R33")
@pytest.mark.parametrize("what", ["ending", "up", "gone", "busy"])
def test_mesh_that_changes_before_gc_has_it_is_left_alone(
    homes: Homes, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Another command has ended it, or finished it, or is at it: what the file said before does not count."""
    mesh = bring_up()
    files.write(replace(mesh, state="growing"))
    is_busy = collecting._is_busy
    with ExitStack() as stack, monkeypatch.context() as patch:

        def change(name: str) -> bool:
            busy = is_busy(name)
            if what == "busy":
                stack.enter_context(files.locked(name))
            elif what == "gone":
                raising.down(name)
            else:
                files.write(replace(mesh, state="ending" if what == "ending" else "up"))
            return busy

        patch.setattr(collecting, "_is_busy", change)
        assert collecting.collect([]) == []
    if what == "gone":
        nothing_is_left(homes)
        return
    assert files.load("dev").state == ("growing" if what == "busy" else what)
    raising.down("dev")


@pytest.mark.rule("R33")
def test_mesh_that_comes_up_before_gc_has_it_stays(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command was starting it, and has ended well."""
    mesh = bring_up()
    files.write(replace(mesh, state="starting"))
    is_busy = collecting._is_busy
    with monkeypatch.context() as patch:

        def finish(name: str) -> bool:
            files.write(mesh)
            return is_busy(name)

        patch.setattr(collecting, "_is_busy", finish)
        assert collecting.collect([]) == []
    assert files.load("dev") == mesh
    raising.down("dev")
    nothing_is_left(homes)
