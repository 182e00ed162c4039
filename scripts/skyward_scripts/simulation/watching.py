"""What must hold while a simulation runs, and what is counted.

It sees what really happens, not what the scheduler or the cores have in their books.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skyward_scripts.simulation.clock import Clock


class Site:
    """A node as it is."""

    __slots__ = ("held", "slots")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.held: set[int] = set()  # tasks that have arrived and not left, those that wait included


class Watch:
    """Keeps account of one run."""

    def __init__(self, clock: Clock) -> None:
        self.starts: Counter[int] = Counter()  # by task: how often it began to run
        self.results: Counter[int] = Counter()  # by task: how often the client had its outcome
        self.failed: set[int] = set()  # tasks that the client gave up
        self.crowded = 0  # how often a node was sent more than it has slots while another had a free one
        self.longest_waste = 0.0  # seconds in which a node idled while work waited on another, the longest stretch
        self.returned = 0  # tasks that were taken back
        self._clock = clock
        self._sites: dict[int, Site] = {}  # by number of the node's life
        self._client: dict[int, tuple[int, set[int]]] = {}  # the same as the client knows it
        self._idle = 0  # slots with nothing to do
        self._waiting = 0  # tasks that wait on nodes
        self._since: float | None = None  # when both began to be more than 0

    # --- nodes, as they are -------------------------------------------------------------------

    def node_came(self, life: int, slots: int) -> None:
        """Note that a node is there."""
        self._sites[life] = Site(slots)
        self._idle += slots
        self._look()

    def node_went(self, life: int) -> None:
        """Note that it is gone."""
        site = self._sites.pop(life)
        self._count(site, -1)
        self._look()

    def arrived(self, life: int, ids: Iterable[int]) -> None:
        """Note that tasks have come to a node."""
        self._change(life, added=ids)

    def started(self, id: int) -> None:
        """Note that a task begins to run."""
        self.starts[id] += 1

    def ended(self, life: int, id: int) -> None:
        """Note that a task has run."""
        self._change(life, removed=(id,))

    def handed_back(self, life: int, ids: Sequence[int]) -> None:
        """Note that tasks leave a node unstarted."""
        self.returned += len(ids)
        self._change(life, removed=ids)

    def _change(self, life: int, added: Iterable[int] = (), removed: Iterable[int] = ()) -> None:
        site = self._sites.get(life)
        if site is None:
            return
        self._count(site, -1)
        site.held.update(added)
        site.held.difference_update(removed)
        self._count(site, 1)
        self._look()

    def _count(self, site: Site, sign: int) -> None:
        free = site.slots - len(site.held)
        if free > 0:
            self._idle += sign * free
        else:
            self._waiting -= sign * free

    def _look(self) -> None:
        now = self._clock.now
        if self._idle > 0 and self._waiting > 0:
            if self._since is None:
                self._since = now
        elif self._since is not None:
            self.longest_waste = max(self.longest_waste, now - self._since)
            self._since = None

    # --- nodes, as the client knows them ------------------------------------------------------

    def joined(self, life: int, slots: int) -> None:
        """Note that the client has learnt of a node."""
        self._client[life] = (slots, set())

    def lost(self, life: int) -> None:
        """Note that the client has learnt of its end."""
        del self._client[life]

    def sent(self, batches: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Note one decision of the scheduler, by lives of nodes, and see that it was fair."""
        beyond = 0
        for life, ids in batches:
            slots, held = self._client[life]
            before = len(held)
            held.update(ids)
            beyond += max(0, len(held) - max(slots, before))
        if beyond and any(len(held) < slots for slots, held in self._client.values()):
            self.crowded += 1

    def settled(self, life: int, ids: Iterable[int], *, outcome: bool) -> None:
        """Note that the client knows tasks to be on a node no more; ``outcome`` says that they are done."""
        ids = list(ids)
        self._client[life][1].difference_update(ids)
        if outcome:
            self.results.update(ids)
