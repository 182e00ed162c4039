"""The run: for each workload all contestants take turns, round by round, so that drift hits all alike.

Processes stay between the rounds of a workload, idle. A contestant that costs something while it idles, and
every contestant of a workload that must begin afresh, is started for its turn and ended after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from skyward_scripts.bench import launches
from skyward_scripts.bench.environments import InstallError
from skyward_scripts.bench.session import ContestantError, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skyward_scripts.bench.catalogue import Entry
    from skyward_scripts.bench.environments import Environments
    from skyward_scripts.bench.results import Results, Turn
    from skyward_scripts.bench.stage import Stage
    from skyward_scripts.bench.workloads import Workload

WARM: Final = 0.5  # seconds of no-op calls at least, before anything is measured
QUICK_WARM: Final = 0.02  # seconds


@dataclass(slots=True)
class Plan:
    """What a run does."""

    workloads: Sequence[Workload]
    entries: Sequence[Entry]
    runs: int
    quick: bool


@dataclass(slots=True)
class Run:
    """A run under way."""

    plan: Plan
    stage: Stage
    environments: Environments
    results: Results
    note: Callable[[str], None]  # told what happens
    _out: dict[str, str] = field(default_factory=dict[str, str])  # who cannot start, and why

    def run(self) -> None:
        """Do all workloads."""
        for workload in self.plan.workloads:
            entries = [entry for entry in self.plan.entries if entry.takes_part(workload)]
            if entries:
                _Course(self, workload, entries).run()

    def python(self, entry: Entry) -> str:
        """Return a contestant's interpreter; raises `ContestantError`."""
        if entry.name in self._out:
            raise ContestantError(self._out[entry.name])
        try:
            return self.environments.python(entry.requirements)
        except InstallError as error:
            self._out[entry.name] = f"not installed: {error}"
            raise ContestantError(self._out[entry.name]) from error

    def rule_out(self, entry: Entry, error: ContestantError) -> ContestantError:
        """Note that a contestant does not start, so that it is not waited for again."""
        if entry.kind == "peer":
            self._out[entry.name] = f"does not start: {error}"
        return ContestantError(f"does not start: {error}")


class _Course:
    """One workload."""

    def __init__(self, run: Run, workload: Workload, entries: list[Entry]) -> None:
        self._run = run
        self._workload = workload
        self._entries = entries
        self._sizes = workload.sizes_for(quick=run.plan.quick)
        self._sessions: dict[str, Session] = {}

    def run(self) -> None:
        """Do all rounds."""
        try:
            for number in range(self._run.plan.runs):
                for entry in in_turn(self._entries, number):
                    self._turn(entry, number)
        finally:
            for session in self._sessions.values():
                session.end()

    def _turn(self, entry: Entry, number: int) -> None:
        showing = self._run.results.showing(self._workload.name, entry.name)
        if showing.failure:
            return
        self._run.note(f"{self._workload.name} {number + 1}/{self._run.plan.runs}: {entry.name}")
        try:
            showing.turns[number] = self._figures(entry, number)
        except ContestantError as error:
            showing.failure = str(error)
            self._run.note(f"{self._workload.name}: {entry.name}: {error}")

    def _figures(self, entry: Entry, number: int) -> Turn:
        python = self._run.python(entry)
        if self._workload.outside:
            return self._outside(entry, python, number)
        session = self._sessions.pop(entry.name, None) or self._start(entry, python)
        keeps = not (self._workload.fresh or entry.restless)
        try:
            figures = session.turn(number)
        except BaseException:
            session.kill()
            raise
        if keeps:
            self._sessions[entry.name] = session
        else:
            session.end()
        return figures

    def _start(self, entry: Entry, python: str) -> Session:
        session = Session(entry, python, self._run.stage)
        try:
            self._open(session, entry)
            session.prepare(self._workload.name, self._sizes, QUICK_WARM if self._run.plan.quick else WARM)
        except BaseException:
            session.kill()
            raise
        return session

    def _open(self, session: Session, entry: Entry) -> None:
        try:
            session.open(self._workload.workers)
        except ContestantError as error:
            raise self._run.rule_out(entry, error) from error

    def _outside(self, entry: Entry, python: str, number: int) -> Turn:
        if self._workload.name == "import":
            return launches.import_it(entry, python, self._run.stage, self._sizes["times"])
        if number == 0:
            launches.start(entry, python, self._run.stage)  # not counted: it compiles modules and fills caches
        return launches.start(entry, python, self._run.stage)


def in_turn(entries: Sequence[Entry], number: int) -> Iterable[Entry]:
    """Return the contestants in the order of a round: each round begins with another one."""
    first = number % len(entries)
    return [*entries[first:], *entries[:first]]
