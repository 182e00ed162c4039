"""Messages that the other side may not have got: kept until it says how many it has counted.

Connections keep messages in order and lose, if they break, what was under way. Both sides count the messages of
these types that have come in a session, and say their number in every heartbeat and greeting: so whoever sent them
knows after a break which to send again, and each counts once.

PURE: a data structure.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from skyward.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Message


class Unconfirmed:
    """What was sent in one direction of one session."""

    __slots__ = ("_messages", "_sent")

    def __init__(self) -> None:
        self._messages: deque[tuple[Message, Sequence[Buffer]]] = deque()
        self._sent = 0  # since the session began

    def add(self, message: Message, body: Sequence[Buffer] = ()) -> None:
        """Keep a message that is being sent."""
        self._messages.append((message, body))
        self._sent += 1

    def confirm(self, count: int) -> None:
        """Forget the first ``count`` messages of the session; raises `ProtocolError` if there were never so many."""
        if count > self._sent:
            raise ProtocolError(f"{count} messages are confirmed, but only {self._sent} were sent")
        for _ in range(count - (self._sent - len(self._messages))):
            self._messages.popleft()

    def __iter__(self) -> Iterator[tuple[Message, Sequence[Buffer]]]:
        return iter(self._messages)

    def __len__(self) -> int:
        return len(self._messages)
