"""Messages that the other side may not have got: numbered, and kept until it says how far it has heard.

Connections keep messages in order and lose, if they break, what was under way. Messages of these types have numbers,
1, 2, 3, … per session and direction, and both sides say in every heartbeat and greeting which they heard last: so
whoever sent them knows after a break which to send again, and whoever hears one twice knows it.

PURE: a data structure.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from msgspec.structs import replace

from skyward.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Answer, Credit, Items, Revoke, Submit

    Numbered = Answer | Revoke | Submit | Items | Credit


class Unconfirmed:
    """What was sent in one direction of one session."""

    __slots__ = ("_messages", "_sent")

    def __init__(self) -> None:
        self._messages: deque[tuple[Numbered, Sequence[Buffer]]] = deque()
        self._sent = 0  # since the session began

    def add(self, message: Numbered, body: Sequence[Buffer] = ()) -> Numbered:
        """Return a message with its number, as it is to be sent, and keep it."""
        self._sent += 1
        numbered = replace(message, seq=self._sent)
        self._messages.append((numbered, body))
        return numbered

    def confirm(self, heard: int) -> None:
        """Forget the messages up to number ``heard``; raises `ProtocolError` if there were never so many."""
        if heard > self._sent:
            raise ProtocolError(f"{heard} calls and answers are confirmed, but only {self._sent} were sent")
        for _ in range(heard - (self._sent - len(self._messages))):
            self._messages.popleft()

    def __iter__(self) -> Iterator[tuple[Numbered, Sequence[Buffer]]]:
        return iter(self._messages)

    def __len__(self) -> int:
        return len(self._messages)


def is_new(seq: int, heard: int) -> bool:
    """Return whether a message comes next after ``heard``, or came before; raises `ProtocolError` if one is missing."""
    if not 0 < seq <= heard + 1:
        raise ProtocolError(f"number {seq} of calls and answers came after number {heard}")
    return seq > heard
