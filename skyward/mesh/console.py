"""The output of tasks on the client's own stdout and stderr, each line marked with its node."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from skyward.hand import Hand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Output

STDOUT: Final = 1
STDERR: Final = 2


class Console:
    """Writes lines from a thread of its own: a blocked terminal must not hold up results."""

    def __init__(self, *, enabled: bool) -> None:
        self._hand = Hand("skyward-console") if enabled else None

    def show(self, rank: int, message: Output, lines: Sequence[Buffer]) -> None:
        """Show lines that came from a node."""
        if self._hand is not None:
            texts = [bytes(line).decode("utf-8", "replace") for line in lines]
            self._hand.do(lambda: _write(rank, message.stream, texts))

    def tell(self, rank: int, lines: Sequence[str]) -> None:
        """Show lines about a node."""
        if self._hand is not None and lines:
            self._hand.do(lambda: _write(rank, STDERR, list(lines)))

    def close(self, timeout: float) -> None:
        """Write what is left; give up after ``timeout`` seconds."""
        if self._hand is not None:
            self._hand.close(timeout)


def _write(rank: int, stream: int, lines: list[str]) -> None:
    target = sys.stdout if stream == STDOUT else sys.stderr
    text = "".join(f"[node {rank}] {line}\n" for line in lines)
    try:
        try:
            target.write(text)
        except UnicodeEncodeError:
            target.write(text.encode(target.encoding, "backslashreplace").decode(target.encoding))
        target.flush()
    except (AttributeError, OSError, ValueError):  # the user's stream is closed, or None: there is nobody to tell
        pass
