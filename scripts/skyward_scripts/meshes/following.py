"""What is new in a log of which the last lines are looked at again and again, and how a line reads. PURE."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP: Final = "… lines are missing here: they came faster than they were looked at"
OWN: Final = ("timestamp", "event", "level", "node", "task")  # fields that stand elsewhere, or say what is known


def fresh(before: Sequence[str], now: Sequence[str]) -> tuple[str, ...]:
    """Return the lines of ``now`` that come after those of ``before``; a line says so if there were more between."""
    for overlap in range(min(len(before), len(now)), 0, -1):
        if tuple(before[len(before) - overlap :]) == tuple(now[:overlap]):
            return tuple(now[overlap:])
    return (GAP, *now) if before and now else tuple(now)


def readable(line: str) -> str:
    """Return a line of a node's log for people; one that is no event as it is."""
    try:
        event = json.loads(line)
    except ValueError:
        return line
    if not isinstance(event, dict) or "event" not in event:
        return line
    fields = cast("dict[str, Any]", event)
    words = [f"{name}={value}" for name, value in fields.items() if name not in OWN and value is not None]
    moment = str(fields.get("timestamp", ""))[:19].replace("T", " ")
    return " ".join(filter(None, (moment, str(fields.get("level", "")), str(fields["event"]), *words)))
