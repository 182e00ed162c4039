"""The time limit of a group, for what it waits for and for the iterators that it gives.

An iterator is there before its generator has run, and may be used when the group itself is over: so whichever of both
is left keeps the limit, which knows them weakly. The owner of the loop says when the time is over; members may be added
by another thread at that moment.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from skyward.answers.values import ValueBuffer


class Limited(Protocol):
    """The sink of a group's outcomes."""

    def expire(self, timeout: float) -> None:
        """The group's time is over: what is missing failed for that reason."""
        ...


class Limit:
    """The time that a group has."""

    __slots__ = ("__weakref__", "_buffers", "_group", "is_over", "timeout")

    def __init__(self, timeout: float, group: Limited) -> None:
        self.timeout = timeout  # seconds, from dispatch
        self.is_over = False
        self._group = weakref.ref(group)
        self._buffers: list[weakref.ref[ValueBuffer]] = []  # of members that yield

    def add(self, buffer: ValueBuffer) -> None:
        """Note a member that yields; it has failed already if the time is over."""
        self._buffers.append(weakref.ref(buffer))
        if self.is_over:
            buffer.expire(self.timeout)

    def expire(self) -> None:
        """The time is over: members that have not ended fail, whether their iterators were handed over or not."""
        self.is_over = True  # before: whoever adds one now looks here then
        for reference in self._buffers:
            if (buffer := reference()) is not None:
                buffer.expire(self.timeout)
        if (group := self._group()) is not None:
            group.expire(self.timeout)
