"""Contestants' processes, seen from outside: every one of those that run in our own environment, and bad ones."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from skyward_scripts.bench import processes, session
from skyward_scripts.bench.catalogue import PEERS, REFERENCES, SKYWARD, Entry
from skyward_scripts.bench.launches import import_it, start
from skyward_scripts.bench.session import ContestantError, Session
from skyward_scripts.bench.stage import Stage
from skyward_scripts.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OURS = [entry for entry in (*SKYWARD, *REFERENCES, *PEERS) if not entry.requirements]
TINY = {"calls": 40, "items": 400, "bytes": 80_000, "times": 2, "short": 4, "long": 1, "functions": 3, "quiet": 100}

BAD = """
import os, sys, time
from skyward_scripts.bench.contestant import Library

class InCaller(Library):
    def call(self, task, item):
        return task(item)

class Dying(Library):
    def open(self, workers):
        sys.stderr.write("no more memory\\n")
        os._exit(3)

class Raising(Library):
    def open(self, workers):
        raise ValueError("two is too many")

class Slow(Library):
    def open(self, workers):
        time.sleep(600)

class Talking(Library):
    def open(self, workers):
        print("not an answer", flush=True)
        os.system("echo neither")
"""


@pytest.fixture
def stage(short_path: Path) -> Stage:
    """Return a stage, with some bad contestants on it."""
    stage = Stage(str(short_path))
    with open(os.path.join(stage.path, "skyward_scripts", "bench", "bad.py"), "w", encoding="utf-8") as file:
        file.write(BAD)
    return stage


@pytest.fixture
def bad(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Session]:
    """Return the process of a bad contestant."""
    name: str = request.param
    started = Session(Entry(name, f"bad:{name}", "peer", name), sys.executable, stage)
    yield started
    started.end()
    assert processes.marked(started.token) == []


@pytest.mark.parametrize("entry", OURS, ids=lambda entry: entry.name)
def test_contestant_does_all_that_it_takes_part_in(entry: Entry, stage: Stage) -> None:
    """Each workload yields its figures, and tasks have run in workers."""
    process = Session(entry, sys.executable, stage)
    try:
        process.open(2)
        for workload in WORKLOADS:
            if entry.takes_part(workload) and not workload.outside:
                sizes = {name: min(size, TINY[name]) for name, size in workload.sizes.items()}
                process.prepare(workload.name, sizes, 0.0)
                figures = process.turn(1)
                assert {figure.name for figure in workload.figures} <= figures.keys()
                assert figures["tasks"] > 0
        assert process.busy_seconds() > 0
    finally:
        process.end()
    assert processes.marked(process.token) == []


@pytest.mark.parametrize("bad", ["InCaller"], indirect=True)
def test_contestant_that_runs_tasks_in_the_client_does_not_count(bad: Session) -> None:
    """Whoever calls functions where they are would win everything."""
    bad.open(2)
    bad.prepare("lone", {"calls": 2}, 0.0)
    with pytest.raises(ContestantError, match="RanInCallerError"):
        bad.turn(0)


@pytest.mark.parametrize("bad", ["Dying"], indirect=True)
def test_process_that_dies_leaves_its_last_words(bad: Session) -> None:
    """The reason is its exit code and what it has said."""
    with pytest.raises(ContestantError, match="ended with 3: no more memory"):
        bad.open(2)


@pytest.mark.parametrize("bad", ["Raising"], indirect=True)
def test_error_of_a_contestant_is_the_reason(bad: Session) -> None:
    """With the name of its class."""
    with pytest.raises(ContestantError, match="ValueError: two is too many"):
        bad.open(2)


@pytest.mark.parametrize("bad", ["Slow"], indirect=True)
def test_contestant_that_does_not_answer_is_ended(bad: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on without it."""
    monkeypatch.setattr(session, "OPENING", 0.05)
    with pytest.raises(ContestantError, match="no answer to 'open' in time"):
        bad.open(2)
    bad.kill()


@pytest.mark.parametrize("bad", ["Talking"], indirect=True)
def test_what_a_contestant_prints_is_no_answer(bad: Session) -> None:
    """Libraries, and what they start, may print whatever they like."""
    bad.open(2)


def test_start_is_timed_until_the_first_result(stage: Stage) -> None:
    """From outside, interpreter included."""
    (executor,) = (entry for entry in PEERS if entry.name == "executor")
    figures = start(executor, sys.executable, stage)
    assert 0 < figures[""] < 60
    with pytest.raises(ContestantError, match="ran in the client's process"):
        start(Entry("bad", "bad:InCaller", "peer", "bad"), sys.executable, stage)
    with pytest.raises(ContestantError, match="ended with 3: no more memory"):
        start(Entry("bad", "bad:Dying", "peer", "bad"), sys.executable, stage)


def test_import_is_timed_in_fresh_processes(stage: Stage) -> None:
    """Without and with the names that every program uses."""
    figures = import_it(SKYWARD[0], sys.executable, stage, 1)
    assert set(figures) == {"module", "with names"}
    assert all(0 < spent < 60_000 for spent in figures.values())
