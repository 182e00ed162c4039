"""Nodes of a mesh that are being started, side by side, and noted in its file as they come."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from skyward.meshes import files

if TYPE_CHECKING:
    from skyward.meshes.files import Mesh
    from skyward.meshes.telling import Teller
    from skyward.providers.base import Launched, LaunchSpec, Provider

GLANCE: Final = 0.25  # seconds between words about what is waited for


class Launches:
    """So many nodes more for a mesh."""

    def __init__(self, provider: Provider, spec: LaunchSpec, mesh: Mesh, teller: Teller) -> None:
        self._provider = provider
        self._spec = spec
        self.mesh = mesh  # with all that have come
        self._teller = teller
        self._cancelled = threading.Event()
        self._threads: list[threading.Thread] = []
        self._came: dict[int, Launched | BaseException] = {}  # what became of each, noted or not
        self._news: queue.SimpleQueue[int] = queue.SimpleQueue()  # of which something has become

    def run(self, count: int) -> Mesh:
        """Start so many nodes; return the mesh with them, or raise what has gone wrong first."""
        began = time.monotonic()
        first = self.mesh.number
        self.mesh = replace(self.mesh, number=first + count)
        files.write(self.mesh)
        waiting = dict.fromkeys(range(first, first + count), began)
        for number in waiting:
            thread = threading.Thread(target=self._launch, args=[number], name=f"skyward-up-{number}")
            self._threads.append(thread)
            thread.start()
        while waiting:
            self._teller.waiting(self._waits_for(len(waiting), time.monotonic() - began))
            try:
                number = self._news.get(timeout=GLANCE)
            except queue.Empty:
                continue
            del waiting[number]
            came = self._came[number]
            if isinstance(came, BaseException):
                raise came
            self._note(came)
            place = len(self.mesh.nodes) - 1  # what everybody calls it from now on
            self._teller.say(f"node {place} serves at {came.endpoint} ({time.monotonic() - began:.1f} s)")
        return self.mesh

    def _waits_for(self, count: int, elapsed: float) -> str:
        left = max(0.0, self._spec.start_timeout - elapsed)
        return f"waiting for {count} node{'s' if count > 1 else ''} to serve, {left:.0f} s left"

    def _launch(self, number: int) -> None:
        try:
            self._came[number] = self._provider.launch(self._spec, number, self._cancelled)
        except BaseException as error:  # whoever waits raises it
            self._came[number] = error
        self._news.put(number)

    def _note(self, node: Launched) -> None:
        self.mesh = replace(self.mesh, nodes=(*self.mesh.nodes, replace(node, death_fd=None)))
        files.write(self.mesh)

    def left(self, before: Mesh) -> str:
        """Return what has to be waited for before nothing is left that was not there before."""
        starting = sum(thread.is_alive() for thread in self._threads)
        serving = len(self.mesh.nodes) - len(before.nodes)
        parts = [f"{starting} that start{'' if starting > 1 else 's'}"] if starting else []
        parts += [f"{serving} that serve{'' if serving > 1 else 's'}"] if serving else []
        return f"; waiting for nodes to be gone: {' and '.join(parts)}" if parts else ""

    def give_up(self, teller: Teller) -> None:
        """Start no more; note those that have come all the same."""
        self._cancelled.set()
        for thread in self._threads:
            while thread.is_alive():
                teller.waiting("waiting for what starts to be gone")
                thread.join(GLANCE)
        noted = {node.ident for node in self.mesh.nodes}  # an interrupt may have come before that
        for came in self._came.values():
            if not isinstance(came, BaseException) and came.ident not in noted:
                self._note(came)
