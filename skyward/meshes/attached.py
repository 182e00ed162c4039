"""A pool on the nodes of a mesh that runs: it takes part in them, and leaves; others may do so at the same time.

The nodes are those of the mesh file at the moment a node is wanted, so that a pool can grow with its mesh. One that
does not answer is passed over as long as there is another: a pool that is not told how many nodes it shall have waits
for those that answered when it was made. That a port takes connections is no answer: it does so for a process that is
stopped, too. So a node is greeted before it is taken.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

from skyward.dispatch.liveness import BEATS
from skyward.errors import ConfigError, ProvisionError
from skyward.machine.private import config_home
from skyward.meshes import asking, files
from skyward.model import Nodes, counted
from skyward.providers.running import Running
from skyward.providers.static import CLIENT_KEY

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence
    from typing import Self

    from skyward.config import Options
    from skyward.image import Image
    from skyward.meshes.asking import Report
    from skyward.providers.base import Launched, LaunchSpec
    from skyward.transport.keys import KeyPair

LOOK: Final = 2.0  # seconds that a node has for an answer at least: one lost packet is sent again within them

_logger: Final = logging.getLogger("skyward")

UNREADY: Final = {
    "starting": "is still coming up, or the command that started it was killed: `skyward-mesh down {0}` ends it",
    "ending": "is being ended, or that went wrong: `skyward-mesh down {0}` tries again",
}


def client_pair() -> KeyPair:
    """Return the pair by which the nodes of meshes know us, made if there is none; raises `ConfigError`."""
    from skyward.transport import keys

    return keys.read_or_make_pair(os.path.join(config_home(), CLIENT_KEY))


class Attached(Running):
    """The nodes of a mesh: ``sky.Compute(mesh="NAME")``, or the path of a mesh file."""

    name: ClassVar[str] = "mesh"

    def __init__(self, mesh: object) -> None:
        """Read the mesh file; raises `UnknownMeshError`, `ConfigError`."""
        if not isinstance(mesh, str):
            raise TypeError(f"mesh must be a name or the path of a mesh file, got {mesh!r}")
        super().__init__()
        self._said = mesh
        # Wherever the process goes from here.
        self._mesh = os.path.abspath(os.path.expanduser(mesh)) if files.is_path(mesh) else mesh
        self.mesh = self._read()
        self._silent: set[str] = set()  # endpoints that did not answer when they were asked last: they are tried last
        self._patience = LOOK

    def __repr__(self) -> str:
        return f"mesh {self.mesh.name!r}"

    def _read(self) -> files.Mesh:
        mesh = files.load(self._mesh)
        if not mesh.serves:
            raise ConfigError(f"mesh {mesh.name!r} " + UNREADY[mesh.state].format(mesh.name))
        if not mesh.nodes:
            raise ConfigError(f"mesh {mesh.name!r} has no nodes: `skyward-mesh resize {mesh.name} N` starts some")
        return mesh

    def for_pool(self) -> Self:
        """Return an unused provider of the same mesh."""
        made = type(self)(self._mesh)
        made._said, made._silent, made._patience = self._said, self._silent, self._patience
        return made

    def default_nodes(self) -> Nodes:
        """Return all that answer, and tell of the others; all, whose absence is then an error, if none does.

        Not fewer: what goes to every node at once, as soon as the pool is open, is to reach each of these.
        """
        nodes = self.mesh.nodes
        if len(nodes) == 1:  # there is none to go on with
            return Nodes(1)
        reports = asking.ask(nodes, client_pair(), self._patience)
        silent = {report.number: report for report in reports if report.silent}
        if len(silent) == len(nodes):
            return Nodes(len(nodes))
        self._pass_over(self.mesh, silent)
        return Nodes(len(nodes) - len(silent))

    def fitting(self, options: Options) -> Options:
        """Return the options with what was said where the nodes were started: how many tasks each runs, and in what.

        And note how long a node may be silent.
        """
        self._patience = max(LOOK, BEATS * options.heartbeat)  # as long as it may be in the pool
        worker = replace(options.worker, concurrency=self.mesh.concurrency, executor=self.mesh.executor)
        return replace(options, worker=worker)

    def accept(self, image: Image) -> None:
        """Raise `ProvisionError` unless the image asks for nothing: the nodes have what they were started with."""
        if not image.is_empty:
            raise ProvisionError(
                f"the nodes of mesh {self.mesh.name!r} run already, and have what they were started with: leave out "
                f"{image!r}, or put it into the mesh's description and bring it up anew"
            )

    def prepare(self) -> None:
        """Read the client's pair; raises `ConfigError`."""
        self._keys = client_pair()

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Take a node that takes part in nothing yet and answers; raises `ProvisionError`."""
        mesh = self._read()
        nodes = sorted(mesh.nodes, key=lambda node: node.endpoint in self._silent)
        if (node := self._take(nodes)) is None:
            part = "and it takes part" if len(nodes) == 1 else "and all take part"
            raise ProvisionError(f"mesh {mesh.name!r} has {counted(len(nodes), 'node')}, {part} already")
        patience = min(self._patience, spec.start_timeout)
        try:
            reports = self._ask([node], patience, cancelled)
            if reports[node.endpoint].silent:
                others = [other for other in nodes if other is not node]
                reports |= self._ask(others, patience, cancelled)
        except BaseException:
            self._give_back(node.endpoint)
            raise
        if reports[node.endpoint].silent:
            node = self._take_other(node, mesh, reports)
        return replace(node, ident=f"{node.ident} {index}", address=reports[node.endpoint].address, pid=None)

    def _ask(self, nodes: Sequence[Launched], patience: float, cancelled: threading.Event) -> dict[str, Report]:
        """Return how nodes are, by endpoint; raises `ProvisionError` if nobody wants to know any more."""
        reports = asking.ask(nodes, self._keys, patience, cancelled=cancelled)
        if cancelled.is_set():
            raise ProvisionError("it was not wanted any more")
        return {report.node.endpoint: report for report in reports}

    def _take_other(self, node: Launched, mesh: files.Mesh, reports: Mapping[str, Report]) -> Launched:
        """Return, instead of a silent node, one that answers and takes part in nothing; raises `ProvisionError`."""
        self._give_back(node.endpoint)
        silent = {number: report for number, each in enumerate(mesh.nodes) if (report := reports[each.endpoint]).silent}
        other = self._take(mesh.nodes, {report.node.endpoint for report in silent.values()})
        if other is None:
            raise ProvisionError(self._lack(mesh, silent))
        self._pass_over(mesh, silent)
        return other

    def _pass_over(self, mesh: files.Mesh, silent: Mapping[int, Report]) -> None:
        """Tell of the silent nodes of a mesh, by number, and have them tried last; once, as long as they are silent."""
        endpoints = {report.node.endpoint for report in silent.values()}
        with self._lock:
            is_known = endpoints <= self._silent
            self._silent = endpoints
        if not is_known:
            _logger.warning(
                "mesh %r: %d of %d nodes are passed over: %s; `skyward-mesh status %s` shows its nodes",
                mesh.name, len(silent), len(mesh.nodes), _listed(silent), self._said,
            )  # fmt: skip

    def _lack(self, mesh: files.Mesh, silent: Mapping[int, Report]) -> str:
        """Return why there is no node, and what to do."""
        total, fewer = len(mesh.nodes), len(mesh.nodes) - len(silent)
        answering = ", ".join(str(number) for number in range(total) if number not in silent)
        who = f"nodes {answering} answer" if fewer > 1 else f"node {answering} answers" if fewer else "no node answers"
        advice = [f"`skyward-mesh status {self._said}` shows its nodes"]
        if mesh.kind != files.NOBODYS and not files.is_path(self._said):
            advice.append(f"`skyward-mesh resize {self._said} {total}` replaces those that do not answer")
        if fewer:
            advice.append(f"sky.Compute(mesh={self._said!r}, nodes={fewer}) does with fewer")
        *first, last = advice
        advised = f"{', '.join(first)}, and {last}" if first else last
        return f"mesh {mesh.name!r}: {who}; {_listed(silent)}; {advised}"


def _listed(silent: Mapping[int, Report]) -> str:
    return "; ".join(f"node {number} at {report.node.endpoint} {report.problem}" for number, report in silent.items())
