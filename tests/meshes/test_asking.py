"""What is heard of nodes that are well, busy, gone, or somebody else's."""

from __future__ import annotations

import platform
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest

import skyward as sky
from skyward.meshes import asking
from skyward.meshes.admitted import Change
from skyward.meshes.attached import client_pair
from skyward.providers.base import Launched
from skyward.transport.keys import make_pair
from tests.meshing import bring_up, full_port, stopped
from tests.rules.work import add, hold, let_go, runs, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.meshing import Homes


def test_report_says_how_a_node_is(homes: Homes, tmp_path: Path) -> None:
    """Who it is, and how many tasks it runs and holds, whatever these do."""
    mesh = bring_up()
    with sky.Compute(mesh="dev") as pool, sky.Compute(mesh="dev") as other:
        held = hold(str(tmp_path), "a") > pool
        runs(tmp_path, "a")
        waiting = add(1, 2) > other
        until(lambda: asking.ask(mesh.nodes, client_pair())[0].queued == 1)
        [report] = asking.ask(mesh.nodes, client_pair())
        assert (report.running, report.queued, report.slots, report.executor) == (1, 1, 1, "process")
        assert (report.python, report.hostname) == (platform.python_version(), platform.node())
        assert psutil.Process(report.pid).pid == mesh.nodes[0].pid
        assert 0 < report.round_trip < asking.PATIENCE
        let_go(tmp_path, "a")
        assert (held.result(), waiting.result()) == ("a", 3)


def test_what_is_wrong_with_a_node_is_its_report(homes: Homes) -> None:
    """One that is gone, one that is another, one that does not admit us, and a port that is no node's."""
    [node] = bring_up().nodes
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        silent = replace(node, ident="silent", endpoint=f"tcp://127.0.0.1:{port}")
        other = replace(node, ident="other", public_key=make_pair().public)
        reports = asking.ask([node, other, silent], client_pair(), patience=4.0)
    closed = replace(node, endpoint=f"tcp://127.0.0.1:{port}")
    [gone] = asking.ask([closed], client_pair())
    [stranger] = asking.ask([node], make_pair())
    assert [report.ok for report in reports] == [True, False, False]
    assert "cannot prove to own the key" in reports[1].problem
    assert reports[2].problem
    assert gone.problem == "does not answer: Connection refused"
    assert "it does not admit our key; on the node, run: skyward-node keys add" in stranger.problem


@pytest.mark.parametrize("patience", [0.5, asking.PATIENCE])
def test_node_that_is_stopped_is_told_in_time(homes: Homes, patience: float) -> None:
    """Its port answers, and it does not; that handshakes come to nothing twice is no proof of another key."""
    [node] = bring_up().nodes
    with stopped(node):
        [report] = asking.ask([node], client_pair(), patience)
    assert report.problem == asking.UNANSWERED
    assert report.silent


@pytest.mark.rule("R30")
def test_question_that_is_not_wanted_any_more_is_given_up(homes: Homes) -> None:
    """Whoever leaves a pool does not wait for nodes that do not answer."""
    [node] = bring_up().nodes
    cancelled = threading.Event()
    cancelled.set()
    with stopped(node):
        [report] = asking.ask([node], client_pair(), cancelled=cancelled)
    assert report.problem == asking.UNWANTED


@pytest.mark.rule("R36")
def test_port_that_takes_all_the_time_does_not_silence_the_others(homes: Homes) -> None:
    """What answers is heard, however long another port was knocked at."""
    [node] = bring_up().nodes
    with full_port() as port:
        reports = asking.ask([replace(node, endpoint=f"tcp://127.0.0.1:{port}"), node], client_pair(), patience=1.0)
    assert [report.problem for report in reports] == ["does not answer: timed out", ""]


@pytest.mark.parametrize("endpoint", ["tcp://no-such-host.invalid:7700"])
def test_name_that_is_not_known_is_told(endpoint: str) -> None:
    """It is not the node's fault."""
    [report] = asking.ask([Launched(ident="a", endpoint=endpoint, public_key=make_pair().public)], make_pair())
    assert "its name is not known" in report.problem
    assert asking.ask([], None) == []


@pytest.mark.rule("R42")
def test_list_of_clients_is_asked_for_and_changed(homes: Homes) -> None:
    """In one answer, with what the node says why not; nobody is told who asks for no list."""
    mesh = bring_up()
    key = make_pair().public

    def ask(change: Change | None) -> asking.Report:
        [report] = asking.ask(mesh.nodes, client_pair(), change=change)
        return report

    assert ask(None).clients is None
    assert ask(Change()).clients == ()
    assert ask(Change(add=key, label="ann")).clients == ask(Change()).clients == ((key, "ann"),)
    refusal = ask(Change(add="short", remove="ann"))
    assert "'short' is no key" in refusal.problem
    assert ask(Change(remove="ann")).clients == ()


@pytest.mark.rule("R42")
def test_client_that_removes_itself_is_told_so(homes: Homes) -> None:
    """Its session ends, but not before it knows."""
    mesh = bring_up()
    guest = make_pair()
    asking.ask(mesh.nodes, client_pair(), change=Change(add=guest.public))
    until(lambda: asking.ask(mesh.nodes, guest)[0].ok)
    [report] = asking.ask(mesh.nodes, guest, change=Change(remove=guest.public))
    assert (report.problem, report.clients) == ("", ())
    until(lambda: "does not admit our key" in asking.ask(mesh.nodes, guest)[0].problem)
