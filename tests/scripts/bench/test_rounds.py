"""The run: who takes a turn when, and what happens to those that fail. Processes are scripted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward_scripts.bench import rounds
from skyward_scripts.bench.catalogue import PEERS, REFERENCES, SKYWARD, Entry
from skyward_scripts.bench.environments import InstallError
from skyward_scripts.bench.results import Results
from skyward_scripts.bench.session import ContestantError
from skyward_scripts.bench.workloads import BY_NAME, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES = {entry.name: entry for entry in (*SKYWARD, *REFERENCES, *PEERS)}
LOG: list[str] = []


class Scripted:
    """A contestant's process that notes what is done with it."""

    refuses: frozenset[str] = frozenset()  # who does not open
    unprepared: frozenset[tuple[str, str]] = frozenset()  # who cannot do which workload
    fails: frozenset[tuple[str, int]] = frozenset()  # who fails in which round

    def __init__(self, entry: Entry, python: str, stage: object) -> None:
        self.name = entry.name

    def open(self, workers: int) -> None:
        """Start workers."""
        LOG.append(f"open {self.name} {workers}")
        if self.name in self.refuses:
            raise ContestantError("no")

    def prepare(self, workload: str, sizes: dict[str, int], warm: float) -> None:
        """Say what comes."""
        LOG.append(f"prepare {self.name} {workload}")
        if (self.name, workload) in self.unprepared:
            raise ContestantError("too hard")

    def turn(self, seed: int) -> dict[str, float]:
        """Take a turn."""
        LOG.append(f"turn {self.name} {seed}")
        if (self.name, seed) in self.fails:
            raise ContestantError("lost")
        return {"": float(seed)}

    def end(self) -> None:
        """End in peace."""
        LOG.append(f"end {self.name}")

    def kill(self) -> None:
        """End at once."""
        LOG.append(f"kill {self.name}")


class Ready:
    """Environments that are there, but for one peer's."""

    def python(self, requirements: tuple[str, ...]) -> str:
        """Return an interpreter."""
        if any(name.startswith("loky") for name in requirements):
            raise InstallError("no such version")
        return "python"


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put scripted processes in the place of real ones."""
    LOG.clear()
    monkeypatch.setattr(rounds, "Session", Scripted)
    yield
    LOG.clear()


def run(names: str, runs: int, *workloads: Workload) -> Results:
    """Run workloads with these contestants."""
    results = Results()
    plan = rounds.Plan(workloads, [ENTRIES[name] for name in names.split()], runs, quick=True)
    stage: Any = None
    environments: Any = Ready()
    rounds.Run(plan, stage, environments, results, LOG.append).run()
    return results


def actions(*kinds: str) -> list[str]:
    """Return what was done, of some kinds."""
    return [line for line in LOG if line.startswith(kinds)]


def test_contestants_take_turns_round_by_round() -> None:
    """Each round begins with another one; seeds are those of the round."""
    run("skyward skyward-tcp executor", 3, BY_NAME["gather"])
    order = [line.split()[1:] for line in actions("turn")]
    first, second, third = ("skyward", "skyward-tcp", "executor")
    assert order == [
        [first, "0"], [second, "0"], [third, "0"],
        [second, "1"], [third, "1"], [first, "1"],
        [third, "2"], [first, "2"], [second, "2"],
    ]  # fmt: skip


def test_processes_stay_between_rounds() -> None:
    """They are opened once, with the workload's workers, and ended after the last round."""
    run("skyward executor", 2, BY_NAME["fan-out"])
    assert actions("open") == ["open skyward 4", "open executor 4"]
    assert sorted(LOG[-2:]) == ["end executor", "end skyward"]


def test_restless_contestant_is_there_for_its_turn_only() -> None:
    """What it does while it idles would be in the others' figures."""
    run("skyward ray", 2, BY_NAME["gather"])
    once = ["open ray 2", "turn ray 0", "end ray"]
    assert [line for line in actions("open", "turn", "end") if "ray" in line] == [
        *once,
        *once[:1],
        "turn ray 1",
        "end ray",
    ]


def test_workload_that_begins_afresh_has_a_process_each_round() -> None:
    """Cold is cold in every round."""
    run("skyward", 2, BY_NAME["data"])
    assert actions("open", "end") == ["open skyward 2", "end skyward"] * 2


def test_contestant_that_fails_is_out_of_the_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has shown before stays, with the reason; the others go on."""
    monkeypatch.setattr(Scripted, "fails", frozenset({("executor", 1)}))
    results = run("skyward executor", 3, BY_NAME["gather"], BY_NAME["futures"])
    showing = results.showings["gather"]["executor"]
    assert (showing.turns, showing.failure) == ({0: {"": 0.0}}, "lost")
    assert len(results.showings["gather"]["skyward"].turns) == 3
    assert actions("kill") == ["kill executor", "kill executor"]
    assert results.showings["futures"]["executor"].failure == "lost"


def test_peer_that_does_not_start_is_out_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for once, and named in every workload; skyward is tried again each time."""
    monkeypatch.setattr(Scripted, "refuses", frozenset({"executor", "skyward"}))
    results = run("skyward executor", 2, BY_NAME["gather"], BY_NAME["futures"])
    assert actions("open") == ["open skyward 2", "open executor 2", "open skyward 2"]
    assert results.failures(["executor"]) == [
        "gather: executor: does not start: no",
        "futures: executor: does not start: no",
    ]


def test_peer_that_cannot_do_one_workload_is_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has started, so it may start again."""
    monkeypatch.setattr(Scripted, "unprepared", frozenset({("executor", "gather")}))
    results = run("executor", 1, BY_NAME["gather"], BY_NAME["futures"])
    assert results.failures(["executor"]) == ["gather: executor: too hard"]
    assert actions("kill", "end") == ["kill executor", "end executor"]


def test_peer_that_cannot_be_installed_is_reported() -> None:
    """With the reason, in every workload, and nothing is started."""
    results = run("loky skyward", 1, BY_NAME["gather"], BY_NAME["lone"])
    assert results.failures(["loky"]) == [
        "gather: loky: not installed: no such version",
        "lone: loky: not installed: no such version",
    ]
    assert [line for line in actions("open", "kill") if "loky" in line] == []


def test_interrupt_ends_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that wait for their turn."""

    def interrupt(self: Scripted, seed: int) -> dict[str, float]:
        if self.name == "executor":
            raise KeyboardInterrupt
        return {"": 1.0}

    monkeypatch.setattr(Scripted, "turn", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run("skyward executor", 1, BY_NAME["gather"])
    assert actions("kill", "end") == ["kill executor", "end skyward"]
