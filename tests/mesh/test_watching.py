"""Looking at a pool, and showing it."""

from __future__ import annotations

import io
import queue
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from skyward.mesh import watching as module
from skyward.mesh.view import Sight, Tally
from skyward.mesh.watching import draw, is_terminal, look
from skyward.model import Nodes
from tests.mesh.scripted import LONG

if TYPE_CHECKING:
    from tests.mesh.meshes import Mesh

SIGHT = Sight(ready=2, target=2, starting=(), queued=3, running=2, done=5, failed=0, names=("f", "f"))


def test_look_sees_nodes_and_tasks(mesh: Mesh) -> None:
    """Those that start, and what is queued, runs and is done."""
    (node,) = mesh.open()
    task, _ = mesh.send(node)
    seen = look(mesh.engine)
    assert (seen.ready, seen.target, seen.starting) == (1, 1, ())
    assert (seen.queued, seen.running, seen.done, seen.failed) == (0, 1, 0, 0)
    assert seen.names == (task.name,)
    node.finish([task.id])
    mesh.outcome(_)
    assert look(mesh.engine)._replace(names=()) == seen._replace(running=0, done=1, names=())


def test_look_sees_nodes_that_start(mesh: Mesh) -> None:
    """By their ranks."""
    mesh.make(Nodes(2))
    assert look(mesh.engine).target == 2
    assert not look(mesh.engine).is_busy


def test_lines_fit_the_terminal() -> None:
    """However narrow it is, each is one row, so that it can be wiped out again."""
    tally = Tally("a group with a label that is far too long for this", 100, begun=0.0)
    tally.ended = 40
    lines: list[str] = []
    for width in (20, 60, 200):
        console = Console(file=io.StringIO(), width=width, force_terminal=False)
        lines = draw(console, SIGHT, 1.5, [tally, Tally("lazy", None, begun=0.0)], 8.0)
        assert len(lines) == 4
        assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("skyward 2 of 2 nodes · 3 queued · 2 running · 5 done · 1.5/s")
    assert "40 of 100 8.0 s, 12.0 s left" in lines[1]
    assert lines[3].rstrip() == "waiting for 2 × f"


def test_dumb_terminal_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a pipe, or a stream that is not there."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert is_terminal(Terminal())
    assert not is_terminal(io.StringIO())
    assert not is_terminal(None)
    monkeypatch.setenv("TERM", "dumb")
    assert not is_terminal(Terminal())


@pytest.mark.rule("R32")
def test_end_of_a_group_is_said_at_once(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the next look, which here never comes; also if the group ends while others are watched."""
    said: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(module, "TICK", 3600.0)
    monkeypatch.setattr(module, "print_lines", lambda _rank, _stream, text: said.put(text))
    mesh.open(console=True)
    first, second = (mesh.engine.watching.track(label, 0) for label in ("first", "second"))
    assert first is not None and second is not None
    for tally in (second, first):
        tally.end()
        assert said.get(timeout=LONG).startswith(f"skyward: {tally.label}: 0 of 0 in ")
        tally.end()
    mesh.engine.close()
    assert said.empty()


def test_silent_pool_has_no_thread(mesh: Mesh) -> None:
    """And counts no group."""
    mesh.open()
    assert not any(thread.name == "skyward-view" for thread in threading.enumerate())
    assert mesh.engine.watching.track("label", 3) is None


def test_closed_stderr_ends_the_view_alone(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nobody to tell, and nothing else comes of it."""
    monkeypatch.setattr(module, "TICK", 0.001)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    mesh.open(console=True)
    watching = mesh.engine.watching
    tally = watching.track("label", 0)
    assert tally is not None
    tally.over = True
    mesh.engine.close()
    assert not any(thread.name == "skyward-view" for thread in threading.enumerate())
