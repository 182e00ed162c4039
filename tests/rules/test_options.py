"""Options of a pool, by name and as an object (R32)."""

from __future__ import annotations

import dataclasses
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.processes import script
from tests.rules.work import add, count, die_by, hold, let_go, meet, note, place, runs

if TYPE_CHECKING:
    from pathlib import Path

    from skyward.model import Executor


@pytest.mark.rule("R32")
@pytest.mark.parametrize("kind", [sky.Options, sky.Worker])
def test_every_option_says_what_it_is(kind: Any) -> None:
    """Its documentation has its name, its default and a reason; the object says which unit times and sizes have."""
    text = " ".join(kind.__doc__.split())
    for field in dataclasses.fields(kind):
        found = re.search(rf"``{field.name}``:? (.*?)(?= ``\w+``: |$)", text)
        assert found, field.name
        assert field.name == "worker" or "default" in found[1], field.name
    if kind is sky.Options:
        assert "times are seconds, all sizes bytes" in text


@pytest.mark.rule("R32")
def test_unknown_option_is_an_error_before_anything_starts() -> None:
    """By name, in `Options` and in `Worker`; the message names what there is."""
    wrong: list[dict[str, Any]] = [{"retrys": 1}, {"executer": "thread"}, {"xyz": 1}]
    for spec in wrong:
        with pytest.raises(TypeError, match=r"unknown option '(retrys|executer|xyz)'.*(retries|executor)"):
            sky.Compute(**spec)
    with pytest.raises(TypeError, match="reuse"):
        sky.Worker(reuse=False)  # type: ignore[call-arg]  # that is the mistake


@pytest.mark.rule("R32")
@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ({"concurrency": 0}, ValueError),
        ({"concurrency": "2"}, TypeError),
        ({"executor": "fiber"}, ValueError),
        ({"retries": -1}, ValueError),
        ({"retries": True}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"heartbeat": float("nan")}, ValueError),
        ({"console": "no"}, TypeError),
        ({"worker": {"concurrency": 2}}, TypeError),
        ({"options": {"retries": 2}}, TypeError),
    ],
)
def test_bad_value_is_told_before_anything_starts(option: dict[str, Any], kind: type[Exception]) -> None:
    """The message names the option."""
    with pytest.raises(kind, match=next(iter(option))):
        sky.Compute(nodes=1, **option)


@pytest.mark.rule("R32")
def test_names_and_object_join(tmp_path: Path) -> None:
    """A name changes that field of the object, and no other."""
    options = sky.Options(worker=sky.Worker(concurrency=2), retries=0)
    with sky.Compute(nodes=1, options=options, executor="thread") as pool:
        assert pool.concurrency == 2
        met = sky.gather(*[meet(str(tmp_path), str(i), 2) for i in range(2)]) >> pool
        assert len({pid for _, pid in met}) == 1
        with pytest.raises(sky.WorkerCrashedError) as caught:
            die_by(signal.SIGKILL) >> pool
        assert caught.value.attempts == 1
    assert options == sky.Options(worker=sky.Worker(concurrency=2), retries=0)


@pytest.mark.rule("R32")
def test_retries_and_timeout_of_the_pool_hold_for_its_calls(tmp_path: Path) -> None:
    """Where neither the call nor the decorator says otherwise."""
    with sky.Compute(nodes=2, retries=0, timeout=0.3) as pool:
        with pytest.raises(sky.TaskTimeoutError) as late:
            hold(str(tmp_path), "a") >> pool
        assert late.value.timeout == 0.3
        death = die_by(signal.SIGKILL, str(tmp_path)).with_timeout(60)
        with pytest.raises(sky.WorkerCrashedError):
            death >> pool
        assert (tmp_path / "deaths").read_text() == "x"
        with pytest.raises(sky.WorkerCrashedError):
            death.with_retries(1) >> pool
        assert (tmp_path / "deaths").read_text() == "xxx"
        longer = hold(str(tmp_path), "b").with_timeout(60) > pool
        runs(tmp_path, "b")
        beside = hold(str(tmp_path), "c") > pool
        assert isinstance(beside.exception(), sky.TaskTimeoutError)  # so much time has passed
        let_go(tmp_path, "b")
        assert longer.result() == "b"


@pytest.mark.rule("R32")
@pytest.mark.parametrize("executor", ["process", "thread"])
def test_process_is_used_again_unless_not_wanted(executor: Executor) -> None:
    """State of a task's process is there for the next one, or never."""
    with sky.Compute(nodes=1, executor=executor) as pool:
        first, second = [count(10) >> pool for _ in range(2)]
        assert (first[0], second) == (11, (12, first[1]))
    if executor == "process":
        with sky.Compute(nodes=2, reuse_processes=False) as pool:
            results = sky.gather(*[count(10) for _ in range(12)]) >> pool
            assert [number for number, _ in results] == [11] * 12
            assert len({pid for _, pid in results}) == 12


@pytest.mark.rule("R32")
def test_console_can_be_silent(tmp_path: Path) -> None:
    """With `console=False` nothing that tasks print is shown."""
    for console, words in ((True, 2), (False, 0)):
        process = script(
            "import sys\nimport skyward as sky\n"
            "@sky.function\ndef say(word):\n    print(word)\n    print(word, file=sys.stderr)\n    return word\n"
            f"with sky.Compute(nodes=1, console={console}) as pool:\n"
            "    assert say('loud and clear') >> pool == 'loud and clear'\n",
            cwd=tmp_path,
        )
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert (out + err).count("loud and clear") == words


@pytest.mark.rule("R7")
@pytest.mark.rule("R32")
def test_running_thread_goes_on_after_a_cancel(threads: sky.Compute, tmp_path: Path) -> None:
    """`cancel` says False, soon, and the result arrives; a queued one can be cancelled."""
    held = [hold(str(tmp_path), name) > threads for name in ("a", "b")]
    for name in ("a", "b"):
        runs(tmp_path, name)
    queued = note(str(tmp_path), "queued") > threads
    assert queued.cancel()
    assert not held[0].cancel()
    let_go(tmp_path, "a")
    let_go(tmp_path, "b")
    assert [future.result() for future in held] == ["a", "b"]
    assert not (tmp_path / "queued").exists()
    assert add(1, 2) >> threads == 3


@pytest.mark.rule("R32")
@pytest.mark.rule("R39")
def test_thread_over_its_time_keeps_its_slot(threads: sky.Compute, tmp_path: Path) -> None:
    """The error comes at once, the other slot works on, and both are free when the function has returned."""
    with pytest.raises(sky.TaskTimeoutError):
        hold(str(tmp_path), "late").with_timeout(0.2) >> threads
    assert not (tmp_path / "late-done").exists()
    blocked = hold(str(tmp_path), "beside") > threads
    runs(tmp_path, "beside")
    waiting = place("next") > threads
    with pytest.raises(TimeoutError):
        waiting.result(timeout=0.3)  # both slots are taken
    let_go(tmp_path, "late")
    assert waiting.result()[0] == "next"
    let_go(tmp_path, "beside")
    assert blocked.result() == "beside"


@pytest.mark.rule("R32")
@pytest.mark.rule("R38")
def test_crash_of_a_thread_is_shared_by_its_process(threads: sky.Compute, tmp_path: Path) -> None:
    """Every task in it is told, or runs again where its retries allow."""
    (tmp_path / "again").mkdir()
    told = hold(str(tmp_path), "told").with_retries(0) > threads
    runs(tmp_path, "told")
    with pytest.raises(sky.WorkerCrashedError) as caught:
        die_by(signal.SIGKILL).with_retries(0) >> threads
    assert caught.value.signal == signal.SIGKILL
    assert isinstance(told.exception(), sky.WorkerCrashedError)
    again = hold(str(tmp_path / "again"), "b") > threads
    runs(tmp_path / "again", "b")
    let_go(tmp_path / "again", "b")
    with pytest.raises(sky.WorkerCrashedError):
        die_by(signal.SIGKILL).with_retries(0) >> threads
    assert again.result() == "b"
