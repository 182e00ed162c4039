"""The checker finds what is wrong in a log, and nothing in one that is right; and a log keeps what it is told."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.checker import Finding, check
from tests.chaos.operations import Log, Operation, What, parse, read

if TYPE_CHECKING:
    from pathlib import Path

COUNT: Final = 6


def lines(
    task: int, *, runs: int = 1, most: int = 1, ending: What = "delivered", after: float = 0.0
) -> list[Operation]:
    """Return what is noted of a task that goes well."""
    at = task + 10 * after
    log = [Operation(task / 100, "submitted", task, "client", f"token{task} {most}")]
    log += [Operation(at + run, "started", task, f"node{run}", f"token{task}") for run in range(runs)]
    if ending == "delivered":
        log.append(Operation(at + 5, "finished", task, f"node{runs - 1}", f"token{task}"))
    return [
        *log,
        Operation(at + 6, ending, task, "client", f"token{task}" if ending == "delivered" else "NodeLostError"),
    ]


def history(*tasks: list[Operation]) -> list[Operation]:
    """Return the log of several tasks, by time."""
    return sorted((op for task in tasks for op in task), key=lambda op: op.at)


GOOD: Final = [lines(task) for task in range(COUNT)]


def test_good_log_has_no_findings() -> None:
    """Results, errors, and tasks that ran as often as they may."""
    assert check(history(*GOOD)) == []
    assert check(history(*GOOD, lines(COUNT, runs=0, ending="failed"))) == []
    assert check(history(*GOOD, lines(COUNT, runs=3, most=4))) == []


def test_planted_loss_is_found() -> None:
    """A task without any outcome is lost, even if it has finished."""
    assert check(history(*GOOD, lines(COUNT)[:-1])) == [Finding("lost", COUNT)]
    assert check(history(*GOOD, lines(COUNT)[:1])) == [Finding("lost", COUNT)]


def test_planted_duplicate_is_found() -> None:
    """A second outcome is one too many, whatever it is."""
    for second in (GOOD[-1][-1], replace(GOOD[-1][-1], what="failed", detail="NodeLostError")):
        found = check(history(*GOOD, [replace(second, at=50.0)]))
        assert found == [Finding("duplicated", COUNT - 1, "2 times")]


def test_planted_reordering_is_found() -> None:
    """Outcomes follow the order of submission, unless nobody has promised that."""
    swapped = history(*GOOD[:2], lines(2, after=2), *GOOD[3:])
    assert check(swapped) == [Finding("reordered", 2, f"after {COUNT - 1}")]
    assert check(swapped, ordered=False) == []


def test_planted_foreign_result_is_found() -> None:
    """It is another task's, or nobody's, or of a run that never ended."""
    log = history(*GOOD)
    index = next(i for i, op in enumerate(log) if op.what == "delivered" and op.task == 1)
    assert check([*log[:index], replace(log[index], detail="token2"), *log[index + 1 :]]) == [
        Finding("foreign", 1, "token2 for token1")
    ]
    assert Finding("foreign", 99, "it was not submitted") in check([*log, replace(log[-1], task=99, at=60.0)])
    assert check([op for op in log if (op.what, op.task) != ("finished", 3)]) == [
        Finding("foreign", 3, "it has not finished anywhere")
    ]


def test_planted_second_run_is_found() -> None:
    """It counts where tasks left their marks, whatever the client was told; also of tasks that nobody submitted."""
    assert check(history(*GOOD, lines(COUNT, runs=2))) == [
        Finding("run too often", COUNT, "2 times, may 1: node0, node1")
    ]
    assert check(history(*GOOD, lines(COUNT, runs=2, ending="failed"))) == [
        Finding("run too often", COUNT, "2 times, may 1: node0, node1")
    ]
    assert check(history(*GOOD, lines(COUNT)[1:2])) == [Finding("run too often", COUNT, "1 times, may 0: node0")]


@given(st.data())
def test_any_line_that_is_missing_or_doubled_is_found(data: st.DataObject) -> None:
    """But for the end of a run, which a task may lack that has failed, and may reach as often as it runs."""
    log = history(*GOOD)
    index = data.draw(st.integers(0, len(log) - 1))
    missing = log[:index] + log[index + 1 :]
    assert bool(check(missing)) == (log[index].what != "started")
    doubled = [*log[: index + 1], log[index], *log[index + 1 :]]
    assert bool(check(doubled)) == (log[index].what in ("started", "delivered"))


# --- the log ---------------------------------------------------------------------------------


def test_log_keeps_lines_of_several_processes(tmp_path: Path) -> None:
    """Whole lines only, also if a process is killed while it writes."""
    children: list[int] = []
    for child in range(3):
        pid = os.fork()
        if pid == 0:
            log = Log(str(tmp_path), "node0")
            while True:
                log.note("started", child, "token" * 50)
        children.append(pid)
    while sum(path.stat().st_size for path in tmp_path.iterdir()) < 200_000:
        os.sched_yield()
    while {op.task for op in read(str(tmp_path))} != {0, 1, 2}:  # with few processors one may not have had its turn
        os.sched_yield()
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    found = read(str(tmp_path))
    assert {op.task for op in found} == {0, 1, 2}
    assert {(op.what, op.where, op.detail) for op in found} == {("started", "node0", "token" * 50)}
    assert [op.at for op in found] == sorted(op.at for op in found)


@given(st.sampled_from(get_args(What)), st.integers(0, 10**9), st.sampled_from(["", "token", "token 4"]))
def test_line_says_what_was_noted(what: What, task: int, detail: str) -> None:
    """A detail may be empty, or have several words."""
    assert parse(f"1.500000 {what} {task} node3 {detail}") == Operation(1.5, what, task, "node3", detail)


def test_line_that_says_nothing_is_refused() -> None:
    """Better no verdict than a wrong one."""
    for line in ("", "1.5 started 1", "1.5 vanished 1 node0 token", "x started 1 node0 token"):
        with pytest.raises(ValueError, match=r"."):
            parse(line)
