"""Meshes brought up, resized and ended; and what is left when something goes wrong on the way: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.errors import ConfigError, MeshExistsError, ProvisionError, UnknownMeshError
from skyward.meshes import asking, collecting, files, raising
from skyward.meshes.attached import client_pair
from skyward.meshes.described import Description
from skyward.meshes.telling import Teller
from skyward.providers.base import Launched, LaunchSpec, Quote
from skyward.providers.local import Local
from tests.meshing import bring_up, family, killed, living, nothing_is_left, plan, with_provider
from tests.rules.work import until

if TYPE_CHECKING:
    from tests.meshing import Homes

UP = """
import sys
from skyward.meshes import raising
from tests.meshes.test_raising import Held
from tests.meshing import with_provider
raising.up(with_provider(Held(int(sys.argv[1])), nodes=2))
"""


class Notes(Teller):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.waits: list[str] = []
        self.alerts: list[str] = []

    def alert(self, line: str) -> None:
        """Note it."""
        self.alerts.append(line)

    def say(self, line: str) -> None:
        """Note it."""
        self.lines.append(line)

    def waiting(self, text: str) -> None:
        """Note it."""
        self.waits.append(text)


class Broken(Local):
    """The node with this number does not start, once all others have."""

    def __init__(self, number: int, wait_for: int = 0) -> None:
        super().__init__("tcp")
        self._number = number
        self._others = threading.Semaphore(0)
        self._wait_for = wait_for

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Start it, or wait for the others and fail."""
        if index == self._number:
            for _ in range(self._wait_for):
                self._others.acquire()
            raise ProvisionError("no room", ("its last line",))
        launched = super().launch(spec, index, cancelled)
        self.tell(f"{index} is there")
        self._others.release()
        return launched


class Held(Local):
    """The second node says on a descriptor that the first is there, and does not come before it is not wanted."""

    def __init__(self, fd: int) -> None:
        super().__init__("tcp")
        self._fd = fd

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Start it, or hold."""
        if index == 1:
            until(lambda: files.load("dev").nodes)
            os.write(self._fd, b"x")
            cancelled.wait()
            raise ProvisionError("it was not wanted any more")
        return super().launch(spec, index, cancelled)


def test_mesh_comes_up_is_used_and_ends(homes: Homes) -> None:
    """Nodes serve who has brought them up; the file has all that it takes to find and to end them."""
    notes = Notes()
    mesh = raising.up(plan(nodes=2, concurrency=3), notes)
    assert files.load("dev") == mesh
    assert (mesh.state, mesh.wanted, mesh.concurrency, mesh.kind, len(mesh.nodes)) == ("up", 2, 3, "local", 2)
    reports = asking.ask(mesh.nodes, client_pair())
    assert [(report.ok, report.slots) for report in reports] == [(True, 3)] * 2
    assert [line[:16] for line in sorted(notes.lines)] == ["node 0 serves at", "node 1 serves at"]
    processes = family(mesh)
    assert raising.down("dev", notes).nodes == mesh.nodes
    assert not living(processes)
    assert notes.lines[-2:] == [f"ended node {node.ident}" for node in mesh.nodes]
    nothing_is_left(homes)


def test_name_that_is_taken_starts_nothing(homes: Homes) -> None:
    """The mesh that is there is not touched."""
    mesh = bring_up()
    with pytest.raises(MeshExistsError, match="'dev' is there already"):
        bring_up()
    assert files.load("dev") == mesh
    assert len(Local().sweep(dry_run=True)) == 1


@pytest.mark.rule("R30")
def test_node_that_does_not_start_takes_all_others_with_it(homes: Homes) -> None:
    """Also those that were there already; the error is that node's."""
    notes = Notes()
    with pytest.raises(ProvisionError, match="no room") as caught:
        raising.up(with_provider(Broken(2, wait_for=2), nodes=3), notes)
    assert caught.value.log == ("its last line",)
    assert {"0 is there", "1 is there"} <= set(notes.lines)
    [alert] = notes.alerts
    assert alert.startswith("it went wrong: ending what was started; waiting for nodes to be gone: ")
    nothing_is_left(homes)


class Lingering(Local):
    """The second node is interrupted when the first is there, and takes its time to be gone: until that was told."""

    def __init__(self, notes: Notes) -> None:
        super().__init__("tcp")
        self._notes = notes

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Start it, or interrupt."""
        if index == 1:
            until(lambda: files.load("dev").nodes)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            until(lambda: "waiting for what starts to be gone" in self._notes.waits)
            raise ProvisionError("it was not wanted any more")
        return super().launch(spec, index, cancelled)

    def undo(self, mesh: str) -> tuple[str, ...]:
        """Look for what is left, until that was told."""
        until(lambda: "waiting for all else to be gone" in self._notes.waits)
        return super().undo(mesh)


@pytest.mark.rule("R30")
@pytest.mark.parametrize("heard", [True, False])
def test_interrupt_says_at_once_what_is_waited_for(homes: Homes, heard: bool) -> None:
    """Before anything is waited for, and then again and again; nothing is left, also if none of it can be said."""
    notes = Notes()

    class Deaf(Notes):
        def alert(self, line: str) -> None:
            notes.alert(line)
            raise BrokenPipeError

        def waiting(self, text: str) -> None:
            notes.waiting(text)
            if notes.alerts:
                raise BrokenPipeError

    with pytest.raises(KeyboardInterrupt):
        raising.up(with_provider(Lingering(notes), nodes=2), notes if heard else Deaf())
    assert notes.alerts == [
        "interrupted: ending what was started; waiting for nodes to be gone: 1 that starts and 1 that serves"
    ]
    assert {"waiting for what starts to be gone", "waiting for all else to be gone"} <= set(notes.waits)
    nothing_is_left(homes)


@pytest.mark.rule("R30")
def test_interrupt_takes_everything_back(homes: Homes) -> None:
    """Ctrl-C while a node starts: the one that is there ends, and the command fails."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", UP, str(write)], env=environment, close_fds=False, stderr=subprocess.PIPE
    ) as up:
        os.close(write)
        assert os.read(read, 1) == b"x"
        os.close(read)
        assert files.load("dev").state == "starting"
        up.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in up.communicate()[1]
    nothing_is_left(homes)


@pytest.mark.rule("R30")
@pytest.mark.parametrize("how", ["gc", "down", "sweep"])
def test_killed_command_leaves_what_others_find(homes: Homes, how: str) -> None:
    """The file says that it was starting; without it the marks of the nodes say whose they are."""
    with killed(UP):
        assert collecting.collect([Local()], dry_run=True) == []  # it is at it
        with pytest.raises(MeshExistsError, match="another command is changing it"):
            raising.down("dev")
    processes = family(files.load("dev"))
    assert living(processes)
    if how == "gc":
        assert collecting.collect([Local()], dry_run=True) == [
            "mesh dev, which was starting when its command was killed"
        ]
        assert collecting.collect([Local()]) == ["mesh dev, which was starting when its command was killed"]
        assert collecting.collect([Local()]) == []
    elif how == "down":
        raising.down("dev")
    else:
        files.remove("dev")
        [line] = collecting.sweep("dev", Local())
        assert line.endswith("of mesh dev on this machine")
    assert not living(processes)
    nothing_is_left(homes)


@pytest.mark.rule("R30")
def test_what_belongs_to_a_mesh_is_no_garbage(homes: Homes) -> None:
    """Nor what belongs to one whose file cannot be read."""
    mesh = bring_up()
    assert collecting.collect([Local()]) == []
    path = files.path_of("dev")
    os.chmod(path, 0o644)
    with pytest.raises(ProvisionError, match="chmod 0600"):
        collecting.collect([Local()])
    assert living(family(mesh))
    os.chmod(path, 0o600)


@pytest.mark.rule("R33")
def test_mesh_grows_and_shrinks(homes: Homes) -> None:
    """New nodes are added and the last ones go; the first stays."""
    first = bring_up()
    grown = raising.resize("dev", 3)
    assert grown == files.load("dev")
    assert grown.nodes[:1] == first.nodes
    assert (grown.wanted, len(grown.nodes), grown.number) == (3, 3, 3)
    assert all(report.ok for report in asking.ask(grown.nodes, client_pair()))
    shrunk = raising.resize("dev", 1)
    assert shrunk.nodes == first.nodes
    assert len(Local().sweep(dry_run=True)) == 1


@pytest.mark.rule("R33")
def test_mesh_that_cannot_grow_is_as_before(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes that came are ended, those that were there serve on."""
    mesh = bring_up()
    monkeypatch.setattr("skyward.meshes.raising.provider_of", lambda _: Broken(2, wait_for=1))
    with pytest.raises(ProvisionError, match="no room"):
        raising.resize("dev", 3)
    assert files.load("dev").nodes == mesh.nodes
    assert files.load("dev").state == "up"
    assert [report.ok for report in asking.ask(mesh.nodes, client_pair())] == [True]
    assert len(Local().sweep(dry_run=True)) == 1


@pytest.mark.rule("R33")
def test_idle_nodes_go_first_and_the_first_node_last() -> None:
    """And before all others those that give no answer."""
    nodes = [Launched(ident=str(number), endpoint="tcp://h:1") for number in range(5)]
    reports = [asking.Report(number, node) for number, node in enumerate(nodes)]
    reports[1].problem = "gone"
    reports[4].running = 1
    reports[3].queued = 7
    order = [int(node.ident) for node in raising.leaving(reports, 5)]
    assert order == [1, 2, 4, 3, 0]
    assert [int(node.ident) for node in raising.leaving(reports, 1)] == [1]


class Stubborn(Local):
    """Its nodes cannot be ended."""

    def terminate(self, launched: Launched) -> None:
        """Fail."""
        raise ProvisionError("it does not end")


@pytest.mark.rule("R30")
def test_node_that_cannot_be_ended_is_named_and_kept_in_mind(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stays, and ending the mesh again ends it."""
    mesh = bring_up()
    with monkeypatch.context() as patch:
        patch.setattr("skyward.meshes.raising.provider_of", lambda _: Stubborn("tcp"))
        with pytest.raises(
            ProvisionError, match=f"1 nodes of mesh 'dev' .*down dev.*\n  {mesh.nodes[0].ident}: it does"
        ):
            raising.down("dev")
    assert files.load("dev") == replace(mesh, state="ending")
    raising.down("dev")
    nothing_is_left(homes)


def test_unknown_mesh_cannot_be_ended(homes: Homes) -> None:
    """And its lock is not left."""
    with pytest.raises(UnknownMeshError):
        raising.down("dev")
    nothing_is_left(homes)


def test_nodes_of_somebody_else_are_not_ended(homes: Homes) -> None:
    """A file that was written by hand is for attaching."""
    files.claim(files.Mesh(name="lab"))
    with pytest.raises(ConfigError, match="started by somebody else"):
        raising.down("lab")
    with pytest.raises(ConfigError, match="nothing to bring up"):
        raising.plan(Description(name="lab2", kind="static", settings={"nodes": ["ipc:///x"]}))


def test_variables_of_an_image_are_not_written(homes: Homes) -> None:
    """They may be secret: more nodes of such a mesh need its description again."""
    homes.describe("[mesh.dev]\nnodes = 1\n[mesh.dev.image]\nenv = {TOKEN = 'canary-7'}")
    from skyward.meshes import described

    raising.up(raising.plan(described.load("dev")))
    texts = [path.read_text(errors="replace") for path in homes.state.rglob("*") if path.is_file()]
    assert texts
    assert not any("canary-7" in text for text in texts)
    mesh = raising.resize("dev", 2)
    with sky.Compute(mesh="dev") as pool:
        assert sky.function(_variable)() @ pool == ["canary-7"] * 2
    files.write(replace(mesh, described=""))
    with pytest.raises(ConfigError, match="variables in its image"):
        raising.resize("dev", 3)
    raising.down("dev")


def _variable() -> Any:
    return os.environ.get("TOKEN")


def test_price_is_the_providers(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """For as many nodes as would be started."""
    monkeypatch.setattr(Local, "quote", lambda _, spec, count: Quote(f"{count} × {spec.mesh}", count * 0.5))
    assert plan(nodes=3).quote == Quote("3 × dev", 1.5)
    bring_up()
    assert raising.growth("dev", 3) == Quote("2 × dev", 1.0)
    assert raising.growth("dev", 1) == Quote()
    raising.down("dev")


@pytest.mark.rule("R30")
def test_mesh_that_cannot_be_ended_keeps_no_other_from_it(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are looked at, and what was not ended is told."""
    ended: list[str] = []

    def down(name: str, _teller: object, *, only: str) -> None:
        assert only == "starting"
        if name == "alpha":
            raise ProvisionError("no room to end it")
        ended.append(name)

    for name in ("alpha", "beta"):
        files.write(replace(bring_up(name), state="starting"))
    with monkeypatch.context() as patch:
        patch.setattr(raising, "down", down)
        with pytest.raises(ProvisionError, match="mesh alpha: no room to end it"):
            collecting.collect([Local()])
    assert ended == ["beta"]
    collecting.collect([Local()])
