"""A node of the pool, as the client holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skyward.providers.base import Launched
    from skyward.transport.links import Link


class Mate:
    """One launched node: what its provider says of it, and the links to it."""

    __slots__ = ("control", "echo", "launched", "link", "max_payload", "rank", "since", "slots", "threads")

    def __init__(self, rank: int, launched: Launched) -> None:
        self.rank = rank
        self.launched = launched
        self.link: Link | None = None
        self.control: Link | None = None  # for heartbeats, beside the data; there is none before the first tick
        self.echo = 0.0  # `time.monotonic` of the last of our beats that it has heard, as far as we know
        self.slots = 0
        self.max_payload = 0  # bytes of the arguments of one call that it takes; 0: it does not say
        self.threads = False  # its tasks share a process, and cannot be stopped
        self.since = 0.0  # `time.monotonic` at which it became ready; 0: it is not

    def ready_links(self) -> list[Link]:
        """Return those over which the node has said welcome, that for heartbeats first."""
        return [link for link in (self.control, self.link) if link is not None and link.ready]

    def confirm(self, heard: int) -> None:
        """Forget what the node has heard of what we keep until it has."""
        if self.link is not None:
            self.link.unconfirmed.confirm(heard)

    def __repr__(self) -> str:
        return f"<node {self.rank} at {self.launched.endpoint}, pid {self.launched.pid}>"
