"""Whether what was done was right: found out from the log alone.

- *lost*: submitted, and neither delivered nor failed.
- *duplicated*: delivered or failed more than once.
- *reordered*: delivered or failed before one that was submitted earlier.
- *foreign*: delivered without having been submitted, with what another task returns, or without having finished.
- *run too often*: started more often than the task may.

PURE.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.operations import Operation

Kind = Literal["lost", "duplicated", "reordered", "foreign", "run too often"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a task."""

    kind: Kind
    task: int
    detail: str = ""


def check(operations: Iterable[Operation], *, ordered: bool = True) -> list[Finding]:
    """Return all that is wrong; ``ordered`` says that outcomes come in the order of submission."""
    log = list(operations)
    submitted = {op.task: op.detail.split() for op in log if op.what == "submitted"}
    outcomes = [op for op in log if op.what in ("delivered", "failed")]
    found = _counts(submitted, outcomes)
    found += _foreign(submitted, outcomes, {(op.task, op.detail) for op in log if op.what == "finished"})
    if ordered:
        found += _reordered(list(submitted), outcomes)
    return found + _runs(submitted, log)


def _counts(submitted: dict[int, list[str]], outcomes: list[Operation]) -> list[Finding]:
    times = Counter(op.task for op in outcomes)
    found = [Finding("lost", task) for task in submitted if not times[task]]
    return found + [Finding("duplicated", task, f"{count} times") for task, count in times.items() if count > 1]


def _foreign(
    submitted: dict[int, list[str]], outcomes: list[Operation], finished: set[tuple[int, str]]
) -> list[Finding]:
    found: list[Finding] = []
    for op in outcomes:
        if op.task not in submitted:
            found.append(Finding("foreign", op.task, "it was not submitted"))
        elif op.what == "delivered" and op.detail != submitted[op.task][0]:
            found.append(Finding("foreign", op.task, f"{op.detail} for {submitted[op.task][0]}"))
        elif op.what == "delivered" and (op.task, op.detail) not in finished:
            found.append(Finding("foreign", op.task, "it has not finished anywhere"))
    return found


def _reordered(submitted: list[int], outcomes: list[Operation]) -> list[Finding]:
    place = {task: number for number, task in enumerate(submitted)}
    known = [op.task for op in outcomes if op.task in place]
    return [
        Finding("reordered", later, f"after {earlier}")
        for earlier, later in pairwise(known)
        if place[later] < place[earlier]
    ]


def _runs(submitted: dict[int, list[str]], log: list[Operation]) -> list[Finding]:
    runs = Counter(op.task for op in log if op.what == "started")
    found: list[Finding] = []
    for task, count in runs.items():
        most = int(submitted[task][1]) if task in submitted else 0
        if count > most:
            where = ", ".join(op.where for op in log if op.what == "started" and op.task == task)
            found.append(Finding("run too often", task, f"{count} times, may {most}: {where}"))
    return found
