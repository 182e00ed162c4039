"""Short calls of a group run as bundles, and nobody can tell (R10, R13, R36, R38)."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import skyward as sky
from skyward.pool import bundling, feeding
from skyward.pool.bundling import FIRST
from tests.rules.processes import pid_of
from tests.rules.work import LONG, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANY: Final = 600  # calls
ONE: Final = 300  # the member that does something else


@sky.function
def deed(number: int, kind: str = "", path: str = "") -> Any:
    """Return the number, if nothing else is asked for."""
    return DEEDS[kind](number, Path(path)) if kind else number


@sky.function
async def awaited(number: int) -> int:
    """Return the number."""
    return number


@sky.function
def awaited_file(path: str, number: int) -> int:
    """Return the number once the file is there."""
    until(Path(path).exists)
    return number


def _raise(number: int, _: Path) -> None:
    raise ValueError(number)


def _wait(_: int, path: Path) -> str:
    until(path.exists)
    return "waited"


def _touch(_: int, path: Path) -> str:
    path.touch()
    return "touched"


def _die(_: int, path: Path) -> None:
    _note(_, path)
    os._exit(3)


def _die_late(number: int, path: Path) -> None:
    until(path.with_suffix(".mark").exists)
    _die(number, path)


def _note(_: int, path: Path) -> None:
    with path.open("a") as file:
        file.write("x")


def _where(_: int, path: Path) -> str:
    if path.exists():
        return "back"
    info = sky.instance_info()
    assert info is not None
    part = path.with_suffix(".part")
    part.write_text(str(info.node))
    part.rename(path)  # whoever finds the file finds all of it
    time.sleep(10 * LONG)
    return "never"


def _begin(number: int, path: Path) -> int:
    path.touch()
    time.sleep(10 * LONG)
    return number


def _mutter(number: int, _: Path) -> int:
    sys.stdout.write(f"line {number}")
    return number


def _fork(number: int, path: Path) -> int:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return number
    _note(number, path)
    return -1


DEEDS: Final[dict[str, Callable[[int, Path], Any]]] = {
    "raise": _raise,
    "wait": _wait,
    "touch": _touch,
    "die": _die,
    "die late": _die_late,
    "exit": lambda _, __: sys.exit(4),
    "begin": _begin,
    "note": _note,
    "fork": _fork,
    "where": _where,
    "mutter": _mutter,
    "pair": lambda number, _: (number, [number]),
    "large": lambda number, _: bytes([number % 256]) * 50_000,
    "array": lambda number, _: bytearray(bytes([number % 256]) * 50_000),
    "function": lambda number, _: lambda: number,
    "generator": lambda number, _: iter([number for _ in "x"]) if number < 0 else (n for n in [number]),
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Return how many calls each bundle has that was made; there must be some."""
    sizes: list[int] = []
    deliver = bundling.Bundle.deliver

    def note(self: bundling.Bundle, task: Any, outcome: Any) -> None:
        sizes.append(task.count)
        deliver(self, task, outcome)

    monkeypatch.setattr(bundling.Bundle, "deliver", note)
    yield sizes
    assert sizes, "there was no bundle"


def warm(pool: sky.Compute, function: Any = deed) -> None:
    """Have the pool know how long the function takes."""
    until(lambda: [sky.gather(*map(function, range(MANY))) >> pool] and cost(pool, function) < bundling.WORTHWHILE / 10)


def cost(pool: sky.Compute, function: Any) -> float:
    """Return how long the pool thinks that the function takes, in µs."""
    engine = pool._engine
    assert engine is not None
    known = engine.scheduler.assignment.durations.cost(pool._maker.resolve(function).key)
    return float("inf") if known is None else known


def calls(**special: tuple[str, Path]) -> list[Any]:
    """Return many calls, of which some, by ``at<index>``, do something else."""
    asked = {int(name[2:]): what for name, what in special.items()}
    return [deed(i, asked[i][0], str(asked[i][1])) if i in asked else deed(i) for i in range(MANY)]


def run(pool: sky.Compute, **special: tuple[str, Path]) -> tuple[Any, ...]:
    """Return the values of many calls, of which some do something else; the others must give their numbers."""
    values: tuple[Any, ...] = sky.gather(*calls(**special), return_exceptions=True) >> pool
    others = [index for index in range(MANY) if f"at{index}" not in special]
    assert [values[index] for index in others] == others
    return values


@pytest.mark.rule("R10")
def test_values_come_in_order(pool: sky.Compute, made: list[int], tmp_path: Path) -> None:
    """Whatever they are, and whether or not the functions take turns."""
    warm(pool)
    warm(pool, awaited)
    before = pool.snapshot().done
    values = run(pool, at299=("pair", tmp_path), at300=("large", tmp_path), at301=("array", tmp_path))
    assert values[299] == (299, [299])
    assert values[300] == bytes([44]) * 50_000
    values[301][0] = 7  # it is the caller's own
    assert values[301] == bytearray([7]) + bytearray([45]) * 49_999
    mixed = [function(i) for i in range(MANY) for function in (deed, awaited)]
    assert sky.gather(*mixed) >> pool == tuple(i for i in range(MANY) for _ in range(2))
    assert pool.snapshot().done == before + 3 * MANY
    assert max(made) > 4


@pytest.mark.rule("R10")
def test_first_group_of_a_function_has_bundles(pool: sky.Compute, made: list[int]) -> None:
    """A few calls show that it is short, before the others go."""
    assert sky.gather(*map(deed, range(MANY))) >> pool == tuple(range(MANY))
    assert sum(made) == MANY - FIRST * (1 + (MANY > feeding.FIRST))


@pytest.mark.rule("R13")
def test_failures_stay_apart(pool: sky.Compute, made: list[int], tmp_path: Path) -> None:
    """An exception, an exit and a value that cannot travel are those of their calls."""
    warm(pool)
    values = run(pool, at300=("raise", tmp_path), at301=("exit", tmp_path), at303=("generator", tmp_path))
    assert isinstance(values[300], ValueError)
    assert values[300].args == (300,)
    assert isinstance(values[301], sky.WorkerCrashedError)
    assert values[301].exitcode == 4
    assert isinstance(values[303], TypeError)
    assert pool.snapshot().failed == 3


@pytest.mark.rule("R13")
def test_first_failure_is_raised_and_the_rest_cancelled(pool: sky.Compute, made: list[int], tmp_path: Path) -> None:
    """As of calls that run alone, also while a call of the same bundle goes on."""
    warm(pool)
    with pytest.raises(ValueError, match="300"):
        sky.gather(*calls(at300=("raise", tmp_path), at301=("begin", tmp_path / "begun"))) >> pool
    assert run(pool)[ONE] == ONE  # the slot that was held is free again


@pytest.mark.rule("R10")
def test_nothing_waits_behind_a_long_call(pool: sky.Compute, made: list[int], tmp_path: Path) -> None:
    """The calls behind it run elsewhere, or this one would wait for ever; those before it have ended."""
    warm(pool)
    mark = tmp_path / "mark"
    values = run(pool, at300=("wait", mark), at301=("touch", mark))
    assert (values[300], values[301]) == ("waited", "touched")


@pytest.mark.rule("R38")
@pytest.mark.rule("F12")
def test_crash_is_the_fault_of_the_call_that_ran(pool: sky.Compute, made: list[int], tmp_path: Path) -> None:
    """It runs twice, and the others of its bundle give their values."""
    warm(pool)
    deaths = tmp_path / "deaths"
    error = run(pool, at300=("die", deaths))[300]
    assert isinstance(error, sky.WorkerCrashedError)
    assert (error.exitcode, error.attempts) == (3, 2)
    assert deaths.read_text() == "xx"


@pytest.mark.rule("R38")
def test_crash_after_the_others_were_told(pool: sky.Compute, made: list[int], tmp_path: Path) -> None:
    """A call that dies when its bundle has been taken apart is charged for it as well."""
    warm(pool)
    deaths = tmp_path / "deaths"
    error = run(pool, at300=("die late", deaths), at301=("touch", deaths.with_suffix(".mark")))[300]
    assert isinstance(error, sky.WorkerCrashedError)
    assert error.attempts == 2
    assert deaths.read_text() == "xx"


@pytest.mark.rule("R50")
def test_forked_child_runs_nothing_else(pool: sky.Compute, made: list[int], tmp_path: Path) -> None:
    """Its copy of the call ends it; the calls behind it run once."""
    warm(pool)
    forked, note = tmp_path / "forked", tmp_path / "note"
    assert run(pool, at300=("fork", forked), at301=("note", note))[300] == 300
    assert (forked.read_text(), note.read_text()) == ("x", "x")


@pytest.mark.rule("R13")
def test_calls_that_fill_no_bundle_keep_their_turn(pool: sky.Compute, made: list[int], tmp_path: Path) -> None:
    """Their failure is not known after all others only."""
    warm(pool)
    begun = tmp_path / "begun"
    slow = [awaited_file(str(begun), i) for i in range(100)]
    with pytest.raises(ValueError, match="1"):
        sky.gather(deed(0), deed(1, "raise"), *slow) >> pool
    begun.touch()


@pytest.mark.rule("R36")
def test_calls_of_a_lost_node_run_elsewhere(
    pool: sky.Compute, made: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that had begun as well, because they may; those that had ended do not."""
    warm(pool)
    before, went, told = tmp_path / "before", tmp_path / "went", list[Any]()
    interim = bundling.Bundle.interim

    def note(self: bundling.Bundle, *said: Any) -> Any:
        told.append(interim(self, *said))
        return told[-1]

    monkeypatch.setattr(bundling.Bundle, "interim", note)
    future = sky.gather(*calls(at299=("note", before), at300=("where", went)), return_exceptions=True) > pool
    until(went.exists)
    until(lambda: told)  # the bundle was taken apart
    os.kill(pid_of(pool.snapshot().nodes[int(went.read_text())]), signal.SIGKILL)
    assert future.result(LONG)[300] == "back"
    assert before.read_text() == "x"


@pytest.mark.rule("R25")
def test_cancel_ends_all_calls(pool: sky.Compute, made: list[int], tmp_path: Path) -> None:
    """Those that run in a bundle, and those that were given up by it."""
    warm(pool)
    mark = tmp_path / "begun"
    future = sky.gather(*calls(at300=("begin", mark))) > pool
    until(mark.exists)
    assert future.cancel()
    assert run(pool)[ONE] == ONE


@pytest.mark.rule("R28")
def test_lines_of_calls_stay_apart(
    pool: sky.Compute, made: list[int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that has not ended its line does not share it with the next."""
    warm(pool)
    run(pool, at300=("mutter", tmp_path), at301=("mutter", tmp_path))
    shown = capfd.readouterr()
    lines = [line.rpartition("| ")[2].strip() for line in (shown.out + shown.err).splitlines() if "line" in line]
    assert sorted(line[-8:] for line in lines) == ["line 300", "line 301"]


@pytest.mark.parametrize(
    "options",
    [
        sky.Options(worker=sky.Worker(executor="thread", concurrency=2)),
        sky.Options(worker=sky.Worker(reuse_processes=False)),
    ],
    ids=["threads", "fresh processes"],
)
def test_pools_without_bundles_do_the_same(options: sky.Options) -> None:
    """A worker that runs one task, and threads, get each call alone."""
    with sky.Compute(nodes=1, options=options) as pool:
        for _ in range(2):
            assert sky.gather(*map(deed, range(4))) >> pool == tuple(range(4))
        engine = pool._engine
        assert engine is not None
        assert not engine.bundling.possible
