"""What an instance says of itself: once, in an object of S3 that cannot be written again, or on its console.

    skyward-report 1
    nonce NONCE                            of the launch that it answers
    instance i-0123                        whose it is
    serves {"endpoint": …, "pid": …, "public_key": …}     the daemon's own line, or else:
    failed WHAT
    log                                    and the last lines of its log follow

On the console every line begins with ``skyward| ``, as others write there, too. Whoever can read an instance's user
data could write its report before it does. It is believed only if nonce and instance are right, and then as far as
the node proves to own the key that it names.

PURE: text in, values out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from skyward.errors import ProvisionError

HEADING: Final = "skyward-report 1"
MARK: Final = "skyward| "
LOG_LINES: Final = 50
MOST: Final = 65_536  # bytes that are read of a report


@dataclass(frozen=True, slots=True)
class Report:
    """A report that makes sense."""

    nonce: str
    instance: str
    public_key: str = ""
    port: int = 0
    failed: str = ""
    log: tuple[str, ...] = ()


def parse(text: str) -> Report:
    """Return the report; raises `ProvisionError` if it makes no sense."""
    head, _, log = text.partition("\nlog\n")
    lines = [line.partition(" ") for line in head.splitlines()]
    found = {name: value for name, _, value in lines}
    try:
        if lines[0] != ("skyward-report", " ", "1"):
            raise ValueError("it has another heading")
        report = Report(
            found["nonce"], found["instance"], failed=found.get("failed", ""), log=tuple(log.splitlines()[-LOG_LINES:])
        )
        if report.failed:
            return report
        said = json.loads(found["serves"])
        said = said.get("ready", said)
        port = int(str(said["endpoint"]).rpartition(":")[2])
        return Report(report.nonce, report.instance, str(said["public_key"]), port)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ProvisionError(
            f"an instance reports what makes no sense: {error!r}", tuple(text.splitlines()[:10])
        ) from error


def on_console(text: str, nonce: str) -> str:
    """Return the report that a console shows for this launch, without the marks; "" if there is none (yet)."""
    lines = [line.partition(MARK)[2] for line in text.replace("\r", "").splitlines() if MARK in line]
    starts = [place for place, line in enumerate(lines) if line == HEADING]
    for place in reversed(starts):
        rest = lines[place:]
        if f"nonce {nonce}" in rest and "end" in rest:
            return "\n".join(rest[: rest.index("end")])
    return ""


def tail(text: str) -> tuple[str, ...]:
    """Return the last lines of a log or console."""
    return tuple(text.replace("\r", "").splitlines()[-LOG_LINES:])
