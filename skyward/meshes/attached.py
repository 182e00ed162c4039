"""A pool on the nodes of a mesh that runs: it takes part in them, and leaves; others may do so at the same time.

The nodes are those of the mesh file at the moment a node is wanted, so that a pool can grow with its mesh. One that
does not answer is passed over as long as there is another: a pool that is not told how many nodes it shall have waits
for those that answered when it was made.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

from skyward.errors import ConfigError, ProvisionError
from skyward.machine.private import config_home
from skyward.meshes import files
from skyward.model import Nodes, counted
from skyward.providers.running import Running, knock
from skyward.providers.static import CLIENT_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from skyward.config import Options
    from skyward.image import Image
    from skyward.providers.base import Launched, LaunchSpec
    from skyward.transport.keys import KeyPair

LOOK: Final = 2.0  # seconds for an answer before there is a pool: one lost packet is sent again within them

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
        self._silent: set[str] = set()  # endpoints that did not answer before there was a pool: they are tried last

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
        made._said, made._silent = self._said, self._silent
        return made

    def default_nodes(self) -> Nodes:
        """Return all that answer, and tell of the others; all, whose absence is then an error, if none does.

        Not fewer: what goes to every node at once, as soon as the pool is open, is to reach each of these.
        """
        silent = _silent(self.mesh.nodes)
        self._silent = set(silent)
        if not silent or len(silent) == len(self.mesh.nodes):
            return Nodes(len(self.mesh.nodes))
        nodes = ", ".join(f"{endpoint} ({reason})" for endpoint, reason in silent.items())
        name, total = self.mesh.name, len(self.mesh.nodes)
        _logger.warning(
            "mesh %r: %d of %d nodes are passed over, no answer from %s; `skyward-mesh status %s` shows its nodes",
            name, len(silent), total, nodes, self._said,
        )  # fmt: skip
        return Nodes(total - len(silent))

    def fitting(self, options: Options) -> Options:
        """Return the options with what was said where the nodes were started: how many tasks each runs, and in what."""
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
        silent: dict[str, str] = {}
        while (node := self._take(self._in_order(), silent)) is not None:
            try:
                host = self._enter(node.endpoint, spec.start_timeout, cancelled)
            except OSError as error:
                silent[node.endpoint] = error.strerror or str(error)
                continue
            return replace(node, ident=f"{node.ident} {index}", address=host, pid=None)
        raise ProvisionError(self._lack(silent))

    def _in_order(self) -> list[Launched]:
        return sorted(self._read().nodes, key=lambda node: node.endpoint in self._silent)

    def _lack(self, silent: dict[str, str]) -> str:
        """Return why there is no node."""
        name, total = self.mesh.name, len(self.mesh.nodes)
        if not silent:
            part = "and it takes part" if total == 1 else "and all take part"
            return f"mesh {name!r} has {counted(total, 'node')}, {part} already"
        nodes = ", ".join(f"{endpoint} ({reason})" for endpoint, reason in silent.items())
        text = f"mesh {name!r}: no answer from {nodes}; `skyward-mesh status {self._said}` shows its nodes"
        fewer = total - len({*silent, *self._silent})  # another launch may be about to fail, too
        return f"{text}, and sky.Compute(mesh={self._said!r}, nodes={fewer}) does with fewer" if fewer else text


def _silent(nodes: Sequence[Launched]) -> dict[str, str]:
    """Return where nobody answers, and why; a single node is not asked, as there is none to go on with."""
    reasons: dict[str, str] = {}

    def look(endpoint: str) -> None:
        try:
            knock(endpoint, LOOK)
        except OSError as error:
            reasons[endpoint] = error.strerror or str(error)

    asked = nodes if len(nodes) > 1 else ()
    threads = [threading.Thread(target=look, args=[node.endpoint], daemon=True) for node in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {node.endpoint: reasons[node.endpoint] for node in nodes if node.endpoint in reasons}
